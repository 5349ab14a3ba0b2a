/* The spawner: starts guardians, collects what they report, and owns every descriptor and mapping of a child
 * until the child is over. There is no Python here. Every function may be called from any thread.
 */
#ifndef AIOPIDFD_SPAWNER_H
#define AIOPIDFD_SPAWNER_H

#include "clone_assembly.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

/* A system call for the child to make before exec. Where data[i] is set, argument i becomes a pointer to a
 * copy of those bytes. */
struct plan_step {
    long nr;
    long arg[5];
    const void *data[5];
    size_t size[5];
};

struct hub;

/* What to start. All of it is copied. The arrays of strings end with NULL. */
struct plan {
    enum clone_call call;
    int private_memory;
    int private_table; /* the program inherits the descriptors that are open in ours */
    int highest; /* the highest descriptor, except those in `fds`, that the child needs before exec */
    int contain; /* kill all that is left when the program has exited or this process has ended */
    int cgroup; /* directory of the cgroup that the program is put into, or -1; it is one of `fds` */
    int kill_fd; /* cgroup.kill of that cgroup, for `contain`; or -1; it is one of `fds` */
    struct hub *hub; /* through it a loop is told of all news; or NULL */
    size_t n_steps;
    const struct plan_step *steps;
    const char *const *paths;
    const char *const *argv;
    const char *const *envp;
    size_t n_fds;
    const int *fds; /* taken over on success, and closed as soon as the program has its copies. If a step has
                       one of them as the first argument of dup3(2), that descriptor may be moved to another
                       number before */
    size_t n_borrowed;
    const int *borrowed; /* the child gets copies of these, too, but they stay the caller's, and where they are */
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
    CHILD_DYING,    /* the guardian was killed before it reported a start: the program has got SIGKILL */
    CHILD_EXITED,   /* code and status are valid; usage too if has_usage */
    CHILD_UNKNOWN,  /* the program is gone and nobody can tell how it ended */
    CHILD_FAILED,   /* error and failed_step are valid */
    CHILD_FOREIGN,
};

/* The last four states are final: there will be no more news of the program. */
static inline int child_is_final(enum child_state state)
{
    return state >= CHILD_EXITED;
}

/* A call that failed: -errno, and the name of the call where the name says more. */
struct failure {
    int error;
    const char *call;
};

struct child; /* child.h */

/* Call this once, before anything else. Returns 0 or -errno. From then on forked copies are handled. */
int spawner_init(void);

/* Starts the program, and returns at once. On failure it returns NULL, with *failure set and plan->fds
 * untouched: then nothing of the program has run. */
struct child *spawner_spawn(const struct plan *plan, struct failure *failure);

/* Forks this process, invisibly: the new process is a guardian's child. Blocks until it runs. The function
 * returns twice. Here it returns the child, RUNNING, or NULL with an error. In the new process it returns
 * NULL without an error, before any of the caller's code has run there. */
struct child *spawner_fork(enum clone_call call, struct hub *hub, struct failure *failure);

/* Makes the lifelines and takes the low numbers now, as the first start would otherwise do. Returns 0 or an
 * error in *failure. */
void spawner_prepare(struct failure *failure);

/* What is known of a child. */
enum child_state spawner_state(struct child *child);
uint64_t spawner_id(const struct child *child); /* unique among all children of this process */
int spawner_pid(struct child *child);           /* the program's; 0 until RUNNING */
int spawner_guardian_pid(const struct child *child);
void spawner_error(struct child *child, int *error, int *failed_step, const char **call);
int spawner_result(struct child *child, int *code, int *status, struct rusage *usage); /* has_usage */

/* Moves the state on as far as is known now, and reaps the guardian. Never blocks. */
enum child_state spawner_poll(struct child *child);

enum { SIGNAL_CHECK_NS = 500 * 1000 * 1000 }; /* a thread that blocks looks for signals again after so long */

/* Blocks as long as the state is `from`, but at most for this many nanoseconds; -1 means without a limit.
 * Returns the state, or -ETIMEDOUT, or -EINTR after a signal, and after half a second in case there was one
 * that did not interrupt it. Any number of threads may call it at once. */
int spawner_block(struct child *child, enum child_state from, int64_t nanoseconds);

/* For a program that is over: blocks until its guardian is reaped, unless the guardian stays. A guardian
 * needs only microseconds to leave. There is a time limit because somebody may have stopped or traced it. */
void spawner_finish(struct child *child, int64_t nanoseconds);

/* Closes the program's pidfd. Call it in a final state. */
void spawner_close(struct child *child);

/* The program's pidfd while the program runs, as far as we know; else -1. */
int spawner_pidfd(struct child *child);

/* A duplicate of the program's pidfd, or -errno. -ESRCH means that the program does not run, as far as we
 * know. */
int spawner_dup_pidfd(struct child *child);

/* Sends a signal to the program through its pidfd. Returns 0 or -errno: -ESRCH when the program has exited,
 * -EBADF when somebody has closed the pidfd. */
int spawner_signal(struct child *child, int sig);

/* Sends SIGKILL to the program: now, or, while it is being started, as soon as there is a program. */
void spawner_kill(struct child *child);

/* Stops waiting for the status of an ORPHANED child that has exited: the state becomes UNKNOWN. */
void spawner_give_up_status(struct child *child);

/* Continues the guardian, if somebody has stopped it. */
void spawner_wake(struct child *child);

/* From now on the guardian stays until all that the program has started is gone, even after the program has
 * exited. Returns a duplicate of the guardian's pidfd, which becomes readable when the guardian ends. Or
 * returns -errno: -ESRCH when the guardian is gone. */
int spawner_stay(struct child *child);

/* Gives the child up. A child that is STARTING is killed. Any other child lives on, and its guardian is
 * reaped by a later start or by the child's hub. */
void spawner_release(struct child *child);

/* Collects all children that were given up. Returns how many of them are not over yet. */
int spawner_sweep(void);

/* How many records exist. This is for tests that look for leaks. */
int spawner_records(void);

/* ---- Hubs: how a loop hears of its children (hub.c) ---- */

/* On failure it returns NULL, with *failure set. */
struct hub *hub_new(struct failure *failure);

/* The hub's descriptor. It is readable when hub_collect() has news. It is -1 once the host has closed it, and
 * in a forked copy. */
int hub_fd(struct hub *hub);

/* Moves on all children that have news. Stores the ids of up to `room` of them, and returns how many it has
 * stored. If that is `room`, call it again. *late is the number of children that may have more news of which
 * no event will tell. For these call hub_look_again() after some hundredths of a second. It returns how many
 * such children there are then; hub_collect() reports what it has found. *late is -1 if the host has closed the
 * hub's descriptors: then make a new hub, which adopts the children. */
size_t hub_collect(struct hub *hub, uint64_t *ids, size_t room, int *late);
int hub_look_again(struct hub *hub);

/* The caller could not tell of these: the next hub_collect() reports them again, and the hub is readable. */
void hub_put_back(struct hub *hub, const uint64_t *ids, size_t n);

/* From now on this hub, and no other, hears of the child. For a child whose program runs. */
void hub_adopt(struct hub *hub, struct child *child);

/* Closes the hub's descriptors. Its children live on. */
void hub_release(struct hub *hub);

#endif
