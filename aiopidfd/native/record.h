/* The spawn record: all that the spawner, the guardian and the child have in common.
 *
 * Two blocks. The first holds the guardian's stack and the record itself, and stays as long as the
 * guardian does. The second holds the child's stack, its steps and every string, and goes when the
 * child has left our memory. Neither is freed before the kernel has said, in `alive` and `inside`, that
 * nobody can touch it any more (record.c).
 */
#ifndef AIOPIDFD_RECORD_H
#define AIOPIDFD_RECORD_H

#include "clone.h"
#include "fds.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/resource.h>

/* One system call that the child makes before exec. Pointers in `arg` point into the record. */
struct step {
    long nr;
    long arg[5];
};

/* In the place of the first argument: what the last openat(2) among the steps has returned. */
enum { STEP_OPENED = -0x4F50454E };

/* What had been tried when it failed, for `failed_step`; a step's index is 0 or more. */
enum {
    FAILED_CLONE = -1,
    FAILED_EXEC = -2,
    FAILED_GUARDIAN = -3,  /* it was killed */
    FAILED_CGROUP = -4,    /* the child could not enter it */
    FAILED_TABLE = -5,     /* the child, or its guardian, could not leave our descriptor table */
    FAILED_LIFELINES = -6, /* the host has closed them, or put files of its own there */
    FAILED_CALL = -1000,   /* minus the number of a call that the guardian needs and may not make */
};

/* How far the guardian is. It alone moves it; the spawner reads it. */
enum phase {
    PHASE_STARTING = 0,
    PHASE_RUNNING, /* the program was exec'd: child_pid and child_pidfd are valid; the guardian has left
                      our descriptor table */
    PHASE_FAILED,  /* error and failed_step are valid, the child (if any) is reaped; the guardian ends */
    PHASE_EXITED,  /* code, status and usage are valid, the child is reaped. Then the guardian ends,
                      unless it stays for what else the program has started */
};

/* Whether the guardian may begin: not before the spawner has everything that it needs. */
enum go { GO_NOT_YET = 0, GO_AWAITED /* the guardian sleeps on it */, GO_ON, GO_HOME };

/* Whether a child may run, where only the child itself can tell that it was born (clone(2)): decided
 * once, by compare-and-swap. The child takes the claim by its first instruction; the spawner takes it
 * when the guardian was killed and no child has shown up in a while. Who comes second leaves. */
enum claim { CLAIM_NONE = 0, CLAIM_CHILD, CLAIM_SPAWNER };

/* A forked process (fork.c) waits until it is let go; decided once, by compare-and-swap. */
enum held {
    HELD_WAITS = 0,
    HELD_ASKS,   /* ... and the spawner asks the guardian for the pidfd */
    HELD_LET_GO, /* it goes on in the caller's frame */
    HELD_LEAVES, /* it exits: the guardian was killed, or the spawner could not do its part */
};

struct record {
    /* Written before the clone, constant after it. */
    unsigned long size, child_size; /* of the two blocks */
    enum clone_call call;
    int private_memory; /* the child gets a memory map of its own: it will change ids */
    int private_table;  /* the child gets a copy of our whole descriptor table: it inherits from it */
    int highest;        /* else: the highest number that it needs of ours until exec */
    int cgroup;         /* the directory of the cgroup that the child is put into, or -1 */
    int contain;        /* nothing that the program started outlives it, or us */
    int kill_fd;        /* for that: kills a cgroup that is the program's own; or -1 */
    struct identity kill;
    int life_fd;        /* life.h: the descriptors that the guardian keeps */
    int self_fd;
    struct identity life, self;
    int event_fd;         /* the hub's eventfd, by which a loop is told; -1 where none is */
    struct identity event;
    uint64_t sigmask;     /* the caller's; the child gets it back last */
    char *guardian_stack; /* where the first block begins */
    char *child_stack;    /* where the second does; NULL when it is freed */
    unsigned long stack_size;
    unsigned long n_fds;
    const struct owned *fds; /* what the child gets copies of */
    unsigned long n_steps;
    struct step *steps;
    char *const *paths;   /* tried in order, NULL at the end */
    char *const *argv;
    char *const *envp;
    const atomic_int *starting; /* how many starts are under way in this process */

    /* Of a forked process only (fork.c). */
    char *fork_stack; /* the guardian's, in a mapping of its own with a guard page; else NULL */
    unsigned long fork_stack_size;
    void *frame;             /* where the forked process goes on */
    stack_t alternate_stack; /* the caller's */

    /* Written by the spawner while the others run. */
    atomic_int go;
    atomic_int kill_requested; /* nobody wants the program any more: kill it once it is known */
    atomic_int stay_requested; /* somebody deals with the whole tree: stay while there is any of it */
    atomic_int tell_requested; /* a loop has seen the program's exit and waits for its status */
    atomic_int awaited;        /* a thread sleeps on `alive`, or did */
    atomic_int may_fork;       /* the caller has left the C library: the guardian may enter it */
    atomic_int held;           /* enum held; written by the forked process too */

    /* Written by the kernel. */
    atomic_int alive;  /* 0: the guardian has left our memory, however it died (CLONE_CHILD_CLEARTID).
                          Before that, another number after each phase */
    atomic_int inside; /* 0: the child has left our memory, by exec or by its death (likewise) */
    atomic_int born;   /* clone3: the child's pid, stored at its birth, even if the guardian is being
                          killed just then: only now is child_pidfd installed */
    int guardian_fd;   /* in the spawner's descriptor table, as child_pidfd */

    /* Written by the guardian and the child. */
    atomic_int phase;
    atomic_int cloning; /* the guardian has come as far as the clone: there may be a child */
    atomic_int forking; /* the guardian is inside the C library's fork(), where locks are taken */
    atomic_int claim;
    int stillborn_pidfd; /* of a child that was killed at its birth, see guardian.c; or -1. As
                            child_pidfd, which it may be equal to until that is another child's */
    int enter_cgroup;    /* the child was not born into its cgroup, and enters it itself */
    int guardian_pid;    /* by the guardian's own account: another number in a new pid namespace */
    int parent_pid;      /* likewise */
    int sigchld_ignored; /* as the caller had it, for the child */
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

/* The guardian's entry point; takes a struct record *. guardian.c */
void aiopidfd_guardian(void *record) __attribute__((visibility("hidden"), noreturn));

/* For a guardian that is to fork: returns when it may. guardian.c */
void aiopidfd_wait_to_fork(struct record *record) __attribute__((visibility("hidden")));

/* What is left to do for a guardian that has forked (fork.c): `pid` is the child's, or -errno. */
void aiopidfd_forked(struct record *record, long pid) __attribute__((visibility("hidden"), noreturn));

#endif
