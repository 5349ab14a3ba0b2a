/* The spawner: starts guardians, collects what they report, and owns every descriptor and mapping
 * of a child until it is over. No Python here. Every function may be called from any thread.
 */
#ifndef AIOPIDFD_SPAWNER_H
#define AIOPIDFD_SPAWNER_H

#include "clone.h"

#include <stddef.h>
#include <sys/resource.h>
#include <time.h>

/* A system call for the child to make before exec. Where data[i] is set, argument i becomes a
 * pointer to a copy of those bytes. */
struct plan_step {
    long nr;
    long arg[5];
    const void *data[5];
    size_t size[5];
};

/* What to start. All of it is copied; the strings' arrays end with NULL. */
struct plan {
    enum clone_call call;
    int private_memory;
    int contain; /* kill all that is left when the program has exited, or we have */
    int cgroup; /* directory of the cgroup that the program is put into, or -1; among `fds` */
    int kill_fd; /* cgroup.kill of it, for `contain`; or -1; among `fds` */
    size_t n_steps;
    const struct plan_step *steps;
    const char *const *paths;
    const char *const *argv;
    const char *const *envp;
    size_t n_fds;
    const int *fds; /* taken over on success: closed as soon as the program has its copies */
};

/*
 *   STARTING --> RUNNING --> EXITED (the guardian may stay: see spawner_stay)
 *      |  |         |
 *      |  |         +-- the guardian was killed --> ORPHANED --> EXITED | UNKNOWN
 *      |  +--> FAILED
 *      +-- the guardian was killed --> DYING (we kill the program) --> FAILED
 *
 * FOREIGN: this process is a forked copy; the child belongs to the original.
 */
enum child_state {
    CHILD_STARTING,
    CHILD_RUNNING,
    CHILD_ORPHANED,
    CHILD_DYING,
    CHILD_EXITED,  /* code and status are valid; usage too if has_usage */
    CHILD_UNKNOWN, /* the program is gone and no one can tell how it ended */
    CHILD_FAILED,  /* error and failed_step are valid */
    CHILD_FOREIGN,
};

struct record;

struct child {
    enum child_state state;
    int pid;          /* the program's; 0 until RUNNING */
    int pidfd;        /* the program's; -1 before RUNNING */
    int guardian_pid;
    int watch_fd;     /* epoll: readable when spawner_poll() has news; the one to poll */
    int error, failed_step;
    int code, status;
    int has_usage;
    struct rusage usage;

    /* spawner.c's own */
    struct record *record;
    int guardian_fd;  /* the guardian's pidfd; -1 once it is gone */
    int ready_fd;     /* eventfd the guardian writes when the program was exec'd, and again when it
                         stays although the program has exited */
    int owner; /* the process that spawned it; a raw copy of it is not */
    int kill_fd; /* the guardian's copy is of it: as ready_fd */
    int *fds;
    size_t n_fds;
    int abandoned;
    struct timespec lost_since; /* when the guardian was found dead with the child's birth unknown */
    struct child *next, **link;
};

/* Once, before anything else; 0 or -errno. From then on forked copies are taken care of. */
int spawner_init(void);

/* Starts the program. Returns at once, or NULL with *error set (and plan->fds untouched). */
struct child *spawner_spawn(const struct plan *plan, int *error);

/* Forks this process, unseen: the new one is a guardian's child. Blocks until it runs. Twice returned
 * from: here with the child, RUNNING, or NULL with *error set; in the new process, in which nothing of
 * the caller's has run before, with NULL and *error 0. */
struct child *spawner_fork(enum clone_call call, int *error);

/* Moves `state` on as far as is known now; reaps the guardian. Never blocks. */
enum child_state spawner_poll(struct child *child);

/* In a final state: closes the descriptors that are left, watch_fd among them, which stays readable
 * until then. Stop polling it first. */
void spawner_close(struct child *child);

/* The program's pidfd while it runs as far as is known, else -1. */
int spawner_pidfd(struct child *child);

/* A duplicate of it; or -errno: -ESRCH when the program does not run as far as is known. */
int spawner_dup_pidfd(struct child *child);

/* Sends a signal to the program through its pidfd: 0 or -errno; -ESRCH when it has exited. */
int spawner_signal(struct child *child, int sig);

/* SIGKILL to the program now or, while it is being started, as soon as there is one. */
void spawner_kill(struct child *child);

/* Stop waiting for the status of an ORPHANED child that has exited: UNKNOWN. */
void spawner_give_up_status(struct child *child);

/* New descriptors of which one is readable when there is news and stays so, for waiters in any number
 * of threads; the second may be -1. 0 or -errno: -ESRCH in a final state. */
int spawner_dup_watch(struct child *child, int fds[2]);

/* From now on the guardian stays until all that the program has started is gone, its own exit
 * notwithstanding. Returns a duplicate of the guardian's pidfd, which is readable then; or -errno:
 * -ESRCH when the guardian is gone. */
int spawner_stay(struct child *child);

/* Gives the child up. If it is STARTING it is killed; else it lives on, and its guardian is reaped by
 * a later spawner_sweep(). */
void spawner_release(struct child *child);

/* Collects children that were given up; returns how many of them are not over yet. Every spawn
 * does this first. */
int spawner_sweep(void);

/* How many records exist: for tests that look for leaks. */
int spawner_records(void);

#endif
