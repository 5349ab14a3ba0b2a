/* The spawn record: all that the spawner, the guardian and the child have in common.
 *
 * It has two blocks. The first holds the guardian's stack and the record itself, and stays as long as the
 * guardian does. The second holds the child's stack, its steps and every string. It is freed when the child
 * has left our memory. Neither block is freed before the kernel has said, in `alive` and `inside`, that
 * nobody can touch it any more (spawn_record.c).
 */
#ifndef AIOPIDFD_SPAWN_RECORD_H
#define AIOPIDFD_SPAWN_RECORD_H

#include "clone_assembly.h"
#include "fd_identity.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/resource.h>

/* One system call that the child makes before exec. Pointers in `arg` point into the record. */
struct step {
    long nr;
    long arg[5];
};

/* As the first argument of a step: stands for what the last openat(2) among the steps has returned. */
enum { STEP_OPENED = -0x4F50454E };

/* For `failed_step`: what was tried when the start failed. 0 or more is the index of a step. */
enum {
    FAILED_CLONE = -1,
    FAILED_EXEC = -2,
    FAILED_GUARDIAN = -3,  /* the guardian was killed */
    FAILED_CGROUP = -4,    /* the child could not enter it */
    FAILED_TABLE = -5,     /* the child, or its guardian, could not leave our descriptor table */
    FAILED_LIFELINES = -6, /* the host has closed the lifelines, or put files of its own there */
    FAILED_DESCRIPTORS = -7, /* the same for a descriptor that the child was to get */
    FAILED_CALL = -1000,   /* minus the number of a system call that the guardian needs and is not allowed to
                              make */
};

/* How far the guardian is. Only the guardian changes it; the spawner reads it. */
enum phase {
    PHASE_STARTING = 0,
    PHASE_RUNNING, /* the program was exec'd: child_pid and child_pidfd are valid; the guardian has left
                      our descriptor table */
    PHASE_FAILED,  /* error and failed_step are valid, the child (if any) is reaped; the guardian ends */
    PHASE_EXITED,  /* code, status and usage are valid, the child is reaped. Then the guardian ends,
                      unless it stays for what else the program has started */
};

/* Whether the guardian may begin. It may not before the spawner has everything that the spawner needs. */
enum go { GO_NOT_YET = 0, GO_AWAITED /* the guardian sleeps on it */, GO_ON, GO_HOME };

/* Whether a child may run. This is needed where only the child itself can tell that it was born (clone(2)).
 * It is decided once, by compare-and-swap. The child takes the claim as its very first step. The spawner
 * takes it when the guardian was killed and no child has appeared for a while. Whichever of the two comes
 * second leaves. */
enum claim { CLAIM_NONE = 0, CLAIM_CHILD, CLAIM_SPAWNER };

/* A forked process (forked_process.c) waits until it is let go. This is decided once, by compare-and-swap. */
enum held {
    HELD_WAITS = 0,
    HELD_ASKS,   /* it waits, and the spawner asks the guardian for the pidfd */
    HELD_LET_GO, /* it goes on in the caller's frame */
    HELD_LEAVES, /* it exits: the guardian was killed, or the spawner could not do its part */
};

struct record {
    /* Written before the clone, constant after it. */
    unsigned long size, child_size; /* of the two blocks */
    enum clone_call call;
    int private_memory; /* the child gets a memory map of its own, because it will change ids */
    int private_table;  /* the child gets a copy of our whole descriptor table, because it inherits from it */
    int highest;        /* else: the highest of our descriptors that the child needs until exec */
    int cgroup;         /* the directory of the cgroup that the child is put into, or -1 */
    int contain;        /* kill what the program has started, when the program or our process ends */
    int kill_fd;        /* for `contain`: kills a cgroup that is the program's own; or -1 */
    struct identity kill;
    int life_fd;        /* the lifelines (lifelines.h), which the guardian keeps */
    int self_fd;
    struct identity life, self;
    unsigned life_generation;
    int starter;          /* the thread that starts the guardian */
    int event_fd;         /* the hub's eventfd, which tells a loop; -1 where there is no hub */
    struct identity event;
    uint64_t sigmask;     /* the caller's mask; the child gets it back last */
    char *guardian_stack; /* where the first block begins */
    char *child_stack;    /* where the second block begins */
    unsigned long stack_size;
    unsigned long n_fds;
    const struct owned *fds; /* the descriptors that the child gets copies of, borrowed ones too */
    unsigned long n_steps;
    struct step *steps;
    char *const *paths;   /* tried in order, NULL at the end */
    char *const *argv;
    char *const *envp;
    const atomic_int *starting; /* how many starts are under way in this process */

    /* These are for a forked process only (libc_fork.c). */
    char *fork_stack; /* the guardian's stack, in a mapping of its own with a guard page; else NULL */
    unsigned long fork_stack_size;
    void *frame;             /* where the forked process goes on */
    stack_t alternate_stack; /* the caller's alternate stack */

    /* Written by the spawner while the others run. */
    atomic_int go;
    atomic_int kill_requested; /* nobody wants the program any more: kill it as soon as its pid is known */
    atomic_int stay_requested; /* somebody deals with the whole tree: stay as long as any process of it is
                                  there */
    atomic_int tell_requested; /* a loop has seen the program's exit and waits for its status */
    atomic_int awaited;        /* a thread sleeps on `alive`, or did so before */
    atomic_int may_fork;       /* the caller has left the C library: the guardian may enter it */
    atomic_int held;           /* enum held; written by the forked process too */

    /* Written by the kernel. */
    atomic_int alive;  /* 0: the guardian has left our memory, however it died (CLONE_CHILD_CLEARTID). Before
                          that, the number changes with each phase */
    atomic_int inside; /* 0: the child has left our memory, by exec or by its death (CLONE_CHILD_CLEARTID) */
    atomic_int born;   /* the child's pid. With clone3 the kernel stores it at the child's birth, even if the
                          guardian is being killed at that moment. Once it is stored, child_pidfd is
                          installed. With clone(2) the child stores it, before it takes the claim */
    int guardian_fd;   /* in the spawner's descriptor table, like child_pidfd */

    /* Written by the guardian and the child. */
    atomic_int phase;
    atomic_int cloning; /* the guardian has come as far as the clone, so there may be a child */
    atomic_int forking; /* the guardian is inside the C library's fork(), where locks are taken */
    atomic_int claim;
    int stillborn_pidfd; /* the pidfd of a child that was killed at its birth (see guardian.c), or -1. It lies
                            in the same table as child_pidfd. The two may be equal until child_pidfd is
                            another child's */
    int enter_cgroup;    /* the child was not born into its cgroup, and enters the cgroup itself */
    int guardian_pid;    /* as the guardian sees it; in a new pid namespace we see another number */
    int parent_pid;      /* as the guardian sees it, too */
    int sigchld_ignored; /* whether the caller ignored SIGCHLD; the child restores that */
    int child_pid;
    int child_pidfd; /* in the spawner's descriptor table; the spawner closes it */
    struct identity guardian_identity, child_identity; /* of the two pidfds */
    int error;       /* errno */
    int failed_step;
    int code; /* CLD_EXITED, CLD_KILLED or CLD_DUMPED */
    int status;
    int stays; /* the guardian goes on after PHASE_EXITED */
    struct rusage usage;
};

/* Whether the guardian lives in another pid namespace than we. Then it has no parent there; its two numbers may
 * be the same by chance. */
static inline int record_is_numbered_elsewhere(const struct record *record, int guardian_pid)
{
    return record->parent_pid == 0 || record->guardian_pid != guardian_pid;
}

/* The guardian's entry point. It takes a struct record *. See guardian.c. */
void aiopidfd_guardian(void *record) __attribute__((visibility("hidden"), noreturn));

/* For a guardian that is to fork: returns when it may do so. See guardian.c. */
void aiopidfd_wait_to_fork(struct record *record) __attribute__((visibility("hidden")));

/* Then it tries the calls that it will need. A refused one fails the start. */
void aiopidfd_check_calls_to_fork(struct record *record) __attribute__((visibility("hidden")));

/* The rest of the work of a guardian that has forked (libc_fork.c). `pid` is the child's, or -errno. */
void aiopidfd_forked(struct record *record, long pid) __attribute__((visibility("hidden"), noreturn));

#endif
