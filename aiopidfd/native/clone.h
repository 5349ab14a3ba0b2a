/* Start a process on a stack of its own: clone3(2), and clone(2) where that is blocked. */
#ifndef AIOPIDFD_CLONE_H
#define AIOPIDFD_CLONE_H

#include <stdint.h>

#if defined(__x86_64__) || defined(__aarch64__)
#define AIOPIDFD_HAVE_CLONE3 1 /* a stack switch of ours for it, in clone.c */
#else
#define AIOPIDFD_HAVE_CLONE3 0
#endif

enum clone_call { CALL_CLONE3 = 0, CALL_CLONE = 1 };

struct clone_request {
    enum clone_call call;
    uint64_t flags; /* CLONE_*, without the exit signal; CLONE_PIDFD is added */
    int exit_signal;
    int *pidfd; /* where the kernel stores the new process's pidfd: also when it fails after that */
    int *born;  /* where it stores the pid, before the process runs, and only if there is one; or
                   NULL. CALL_CLONE3 only: clone(2) has no room for it */
    int *inside; /* where it stores 0, and wakes who sleeps there (futex(2)), when the process has left
                    this memory map, by exec or by its death (CLONE_CHILD_CLEARTID) */
    int cgroup; /* the directory of the cgroup that it is born into, or -1. CALL_CLONE3 only, too */
    char *stack;
    unsigned long stack_size;
};

/* Runs `entry(arg)`, which must not return, in a new process. Returns its pid or -errno.
 * Uses no libc, no errno, no TLS: the guardian itself calls it.
 * CLONE_CLEAR_SIGHAND is honoured with CALL_CLONE3 only (clone(2) has no room for it). */
long clone_process(const struct clone_request *request, void (*entry)(void *), void *arg);

#endif
