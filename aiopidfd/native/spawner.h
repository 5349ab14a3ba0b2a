/* The spawner: starts guardians, collects what they report, and owns every descriptor and mapping
 * of a child until it is over. No Python here. Every function may be called from any thread.
 */
#ifndef AIOPIDFD_SPAWNER_H
#define AIOPIDFD_SPAWNER_H

#include "clone.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

/* A system call for the child to make before exec. Where data[i] is set, argument i becomes a
 * pointer to a copy of those bytes. */
struct plan_step {
    long nr;
    long arg[5];
    const void *data[5];
    size_t size[5];
};

struct hub;

/* What to start. All of it is copied; the strings' arrays end with NULL. */
struct plan {
    enum clone_call call;
    int private_memory;
    int private_table; /* the program inherits what is open in ours */
    int highest; /* the highest number, of those that are not in `fds`, that the child needs before exec */
    int contain; /* kill all that is left when the program has exited, or we have */
    int cgroup; /* directory of the cgroup that the program is put into, or -1; among `fds` */
    int kill_fd; /* cgroup.kill of it, for `contain`; or -1; among `fds` */
    struct hub *hub; /* by which a loop is told of all news; or NULL */
    size_t n_steps;
    const struct plan_step *steps;
    const char *const *paths;
    const char *const *argv;
    const char *const *envp;
    size_t n_fds;
    const int *fds; /* taken over on success: closed as soon as the program has its copies. Where a step
                       has one of them as the first argument of dup3(2) it may be moved before */
};

/*
 *   STARTING --> RUNNING --> EXITED (the guardian is on its way, or stays: see spawner_stay)
 *      |  |         |
 *      |  |         +-- the guardian was killed --> ORPHANED --> EXITED | UNKNOWN
 *      |  +--> FAILED
 *      +-- the guardian was killed --> DYING (we kill the program) --> FAILED
 *
 * FOREIGN: this process is a forked copy; the child belongs to the original.
 */
enum child_state {
    CHILD_STARTING, /* there is a guardian, and perhaps a program */
    CHILD_RUNNING,  /* the program was exec'd; its pidfd is ours */
    CHILD_ORPHANED, /* the program runs on without a guardian */
    CHILD_DYING,    /* ... and was never told of: it has got SIGKILL */
    CHILD_EXITED,   /* code and status are valid; usage too if has_usage */
    CHILD_UNKNOWN,  /* the program is gone and no one can tell how it ended */
    CHILD_FAILED,   /* error and failed_step are valid */
    CHILD_FOREIGN,
};

/* The last four are final: no news will come of the program. */
static inline int child_is_final(enum child_state state)
{
    return state >= CHILD_EXITED;
}

/* A call that failed: -errno, and its name where that says more. */
struct failure {
    int error;
    const char *call;
};

struct child; /* child.h */

/* Once, before anything else; 0 or -errno. From then on forked copies are taken care of. */
int spawner_init(void);

/* Starts the program. Returns at once, or NULL with *failure set (and plan->fds untouched): then nothing
 * of it has run. */
struct child *spawner_spawn(const struct plan *plan, struct failure *failure);

/* Forks this process, unseen: the new one is a guardian's child. Blocks until it runs. Twice returned
 * from: here with the child, RUNNING, or NULL with an error; in the new process, in which nothing of
 * the caller's has run before, with NULL and no error. */
struct child *spawner_fork(enum clone_call call, struct hub *hub, struct failure *failure);

/* Takes the lifelines and the low numbers, which the first start would take; 0 or an error. */
void spawner_prepare(struct failure *failure);

/* What is known of a child. */
enum child_state spawner_state(struct child *child);
uint64_t spawner_id(const struct child *child); /* never another child's in this process */
int spawner_pid(struct child *child);           /* the program's; 0 until RUNNING */
int spawner_guardian_pid(const struct child *child);
void spawner_error(struct child *child, int *error, int *failed_step);
int spawner_result(struct child *child, int *code, int *status, struct rusage *usage); /* has_usage */

/* Moves the state on as far as is known now; reaps the guardian. Never blocks. */
enum child_state spawner_poll(struct child *child);

/* Blocks as long as the state is `from`, for so many nanoseconds at most; -1: for ever. Returns the state;
 * or -ETIMEDOUT, or -EINTR after a signal. Any number of threads may do so. */
int spawner_block(struct child *child, enum child_state from, int64_t nanoseconds);

/* Blocks until the guardian of a program that is over is reaped, if it does not stay: it is on its way, which
 * takes microseconds. At most so long, for somebody may have stopped it, or trace it. */
void spawner_finish(struct child *child, int64_t nanoseconds);

/* In a final state: closes the program's pidfd. */
void spawner_close(struct child *child);

/* The program's pidfd while it runs as far as is known, else -1. */
int spawner_pidfd(struct child *child);

/* A duplicate of it; or -errno: -ESRCH when the program does not run as far as is known. */
int spawner_dup_pidfd(struct child *child);

/* Sends a signal to the program through its pidfd: 0 or -errno; -ESRCH when it has exited, -EBADF when
 * somebody has closed the pidfd. */
int spawner_signal(struct child *child, int sig);

/* SIGKILL to the program now or, while it is being started, as soon as there is one. */
void spawner_kill(struct child *child);

/* Stop waiting for the status of an ORPHANED child that has exited: UNKNOWN. */
void spawner_give_up_status(struct child *child);

/* From now on the guardian stays until all that the program has started is gone, its own exit
 * notwithstanding. Returns a duplicate of the guardian's pidfd, which is readable then; or -errno:
 * -ESRCH when the guardian is gone. */
int spawner_stay(struct child *child);

/* Gives the child up. If it is STARTING it is killed; else it lives on, and its guardian is reaped by
 * a later start, or by its hub. */
void spawner_release(struct child *child);

/* Collects all children that were given up; returns how many of them are not over yet. */
int spawner_sweep(void);

/* How many records exist: for tests that look for leaks. */
int spawner_records(void);

/* ---- Hubs: by which a loop hears of its children (hub.c) ---- */

/* NULL with *failure set. */
struct hub *hub_new(struct failure *failure);

/* Its descriptor, readable when hub_collect() has news; -1 once the host has closed it, or in a forked
 * copy. */
int hub_fd(struct hub *hub);

/* Moves on all children of which there is news; stores the ids of up to `room` of them, and returns how
 * many. As many as `room`: call again. *late: of so many there is more to be known that no event may tell of:
 * call hub_look_again() after some hundredths of a second, which returns how many there are then; of what it
 * has found hub_collect() tells. */
size_t hub_collect(struct hub *hub, uint64_t *ids, size_t room, int *late);
int hub_look_again(struct hub *hub);

/* From now on it, and no other, hears of a child whose program runs. */
void hub_adopt(struct hub *hub, struct child *child);

/* Closes its descriptors. Its children live on. */
void hub_release(struct hub *hub);

#endif
