/* A process without exec: the C library's fork(), called by a guardian on the caller's behalf. */
#ifndef AIOPIDFD_FORK_H
#define AIOPIDFD_FORK_H

#include "spawn_record.h"

/* Returns 0 where a process can be forked here, else -errno: ENOSYS on an architecture that fork_frame.c
 * does not know, ENOTSUP where this thread has a shadow stack. */
int aiopidfd_fork_check(void) __attribute__((visibility("hidden")));

/* Calls body(arg) and returns its result. In a process that is forked meanwhile this function returns 1, as
 * soon as the guardian's copy in that process calls aiopidfd_fork_return() with the value stored in
 * *frame. */
long aiopidfd_fork_point(void **frame, long (*body)(void *), void *arg) __attribute__((visibility("hidden")));
void aiopidfd_fork_return(void *frame, long result) __attribute__((visibility("hidden"), noreturn));

/* The new process: forked_process.c. `sigchld` is the caller's struct sigaction for SIGCHLD. */
void aiopidfd_forked_process(struct record *record, const char *sigchld)
    __attribute__((visibility("hidden"), noreturn));

/* The entry point of the guardian that forks. It takes a struct record * with a `fork_stack`. */
void aiopidfd_fork_guardian(void *record) __attribute__((visibility("hidden"), noreturn));

#endif
