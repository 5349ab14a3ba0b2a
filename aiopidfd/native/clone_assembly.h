/* Starts a process on a stack of its own, by clone3(2), or by clone(2) where clone3 is blocked. */
#ifndef AIOPIDFD_CLONE_ASSEMBLY_H
#define AIOPIDFD_CLONE_ASSEMBLY_H

#include <stdint.h>

#if defined(__x86_64__) || defined(__aarch64__)
#define AIOPIDFD_HAVE_CLONE3 1 /* clone_assembly.c has a stack switch of ours for this architecture */
#else
#define AIOPIDFD_HAVE_CLONE3 0
#endif

enum clone_call { CALL_CLONE3 = 0, CALL_CLONE = 1 };

struct clone_request {
    enum clone_call call;
    uint64_t flags; /* CLONE_* flags, without the exit signal; CLONE_PIDFD is added */
    int exit_signal;
    int *pidfd; /* where the kernel stores the new process's pidfd; it may do so even if the call fails
                   later */
    int *born;  /* where the kernel stores the pid, before the process runs, and only if there is a process;
                   or NULL. For CALL_CLONE3 only: clone(2) has no room for it */
    int *inside; /* where the kernel stores 0, and wakes threads that sleep there (futex(2)), when the process
                    has left this memory map, by exec or by its death (CLONE_CHILD_CLEARTID) */
    int cgroup; /* the directory of the cgroup that the process is born into, or -1. For CALL_CLONE3 only,
                   too */
    char *stack;
    unsigned long stack_size;
};

/* Runs `entry(arg)`, which must not return, in a new process. Returns the pid of that process, or -errno.
 * Uses no libc, no errno, no TLS, because the guardian itself calls it too. CLONE_CLEAR_SIGHAND takes effect
 * with CALL_CLONE3 only (clone(2) has no room for it). */
long clone_process(const struct clone_request *request, void (*entry)(void *), void *arg);

#endif
