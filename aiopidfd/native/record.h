/* The spawn record: all that the spawner, the guardian and the child have in common.
 *
 * One block holds the two stacks, the record and every string it points to. The spawner fills it
 * before the clone and frees it once neither of the others can touch it any more (spawner.c says
 * when). With `private_memory` the block is a MAP_SHARED mapping, so that a child with a memory map
 * of its own still reports through it.
 */
#ifndef AIOPIDFD_RECORD_H
#define AIOPIDFD_RECORD_H

#include "clone.h"

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
    FAILED_GUARDIAN = -3, /* it was killed */
    FAILED_CGROUP = -4,   /* the child could not enter it */
};

/* How far the guardian is. It alone moves it, with a release store; the spawner reads it. */
enum phase {
    PHASE_STARTING = 0,
    PHASE_RUNNING, /* the program was exec'd: child_pid and child_pidfd are valid */
    PHASE_FAILED,  /* error and failed_step are valid, the child (if any) is reaped */
    PHASE_EXITED,  /* code, status and usage are valid, the child is reaped. Then the guardian ends,
                      unless it stays for what else the program has started */
};

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
    unsigned long size;
    enum clone_call call;
    int private_memory;   /* the child gets a memory map of its own: it will change ids */
    int cgroup;           /* the directory of the cgroup that the child is put into, or -1 */
    int ready_fd;         /* eventfd, written when the program was exec'd; again when the guardian
                             stays although the program has exited */
    int contain;          /* nothing that the program started outlives it, or us */
    int kill_fd;          /* for that: kills a cgroup that is the program's own; or -1 */
    int life_fd;          /* life.h: the descriptors that the guardian keeps */
    int self_fd;
    uint64_t sigmask;     /* the caller's; the child gets it back last */
    char *guardian_stack;
    char *child_stack;
    unsigned long stack_size;
    unsigned long n_steps;
    const struct step *steps;
    char *const *paths;   /* tried in order, NULL at the end */
    char *const *argv;
    char *const *envp;

    /* Of a forked process only (fork.c). */
    char *fork_stack; /* the guardian's, in a mapping of its own with a guard page; else NULL */
    unsigned long fork_stack_size;
    void *frame;             /* where the forked process goes on */
    stack_t alternate_stack; /* the caller's */

    /* Written by the spawner while the others run. */
    atomic_int kill_requested; /* nobody wants the program any more: kill it once it is known */
    atomic_int stay_requested; /* somebody deals with the whole tree: stay while there is any of it */
    atomic_int may_fork;       /* the caller has left the C library: the guardian may enter it */
    atomic_int held;           /* enum held; written by the forked process too */

    /* Written by the guardian and the child. */
    atomic_int phase;
    atomic_int cloning; /* the guardian has come as far as the clone: there may be a child */
    atomic_int forking; /* the guardian is inside the C library's fork(), where locks are taken */
    atomic_int claim;
    atomic_int born; /* clone3: the child's pid, stored by the kernel at its birth, even if the
                        guardian is being killed just then: only now is child_pidfd installed */
    int stillborn_pidfd; /* of a child that was killed at its birth, see guardian.c; or -1. As
                            child_pidfd, which it may be equal to until that is another child's */
    int enter_cgroup;    /* the child was not born into its cgroup, and enters it itself */
    int guardian_pid;    /* by the guardian's own account: another number in a new pid namespace */
    int sigchld_ignored; /* as the caller had it, for the child */
    int child_pid;
    int child_pidfd; /* in the spawner's descriptor table; the spawner closes it */
    int error;       /* errno */
    int failed_step;
    int code; /* CLD_EXITED, CLD_KILLED or CLD_DUMPED */
    int status;
    struct rusage usage;
};

/* The guardian's entry point; takes a struct record *. guardian.c */
void aiopidfd_guardian(void *record) __attribute__((visibility("hidden"), noreturn));

/* For a guardian that is to fork: returns when it may. guardian.c */
void aiopidfd_wait_to_fork(struct record *record) __attribute__((visibility("hidden")));

/* What is left to do for a guardian that has forked (fork.c): `pid` is the child's, or -errno. */
void aiopidfd_forked(struct record *record, long pid) __attribute__((visibility("hidden"), noreturn));

#endif
