#define _GNU_SOURCE
#include "kernel_features.h"
#include "clone_assembly.h"
#include "pidinfo.h"
#include "syscall.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

enum { STACK = 8192 };

/* The trial child: guardian.c's contract holds here too. */
static void leave(void *unused)
{
    (void)unused;
    for (;;)
        SYS(__NR_exit_group, 0);
}

static int to_errno(long result)
{
    return result < 0 ? (int)-result : 0;
}

/* Makes one child in the way a guardian is made, but it leaves at once. Its pidfd stays in *pidfd. */
static int try_clone(enum clone_call call, char *stack, int *pidfd, int *waitid_error)
{
    uint64_t all = ~(uint64_t)0, mask = 0;
    struct clone_request request = {
        .call = call,
        .flags = CLONE_VM | CLONE_FILES | CLONE_CLEAR_SIGHAND,
        .exit_signal = 0,
        .pidfd = pidfd,
        .born = NULL,
        .inside = NULL,
        .cgroup = -1,
        .stack = stack,
        .stack_size = STACK,
    };
    *pidfd = -1;
    SYS(__NR_rt_sigprocmask, SIG_BLOCK, &all, &mask, sizeof all);
    long pid = clone_process(&request, leave, NULL);
    SYS(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask);
    if (pid < 0) {
        *pidfd = -1;
        return (int)-pid;
    }
    siginfo_t info;
    if (*pidfd < 0) { /* a kernel before 5.2 ignores the flag */
        SYS(__NR_waitid, P_PID, pid, &info, WEXITED | __WALL, 0);
        return EINVAL;
    }
    long waited;
    do
        waited = SYS(__NR_waitid, WAIT_PIDFD, *pidfd, &info, WEXITED | __WALL, 0);
    while (waited == -EINTR);
    /* ECHILD: a reaper of the host's took it. The call itself works. */
    *waitid_error = waited == -ECHILD ? 0 : to_errno(waited);
    if (*waitid_error)
        SYS(__NR_wait4, pid, 0, __WALL, 0); /* the stack must stay as long as the child */
    return 0;
}

static void probe_without_child(struct probe *probe)
{
    long self = SYS(__NR_pidfd_open, getpid(), 0);
    probe->pidfd_open = to_errno(self);
    if (self >= 0) {
        probe->pidfd_send_signal = to_errno(SYS(__NR_pidfd_send_signal, self, 0, 0, 0));
        SYS(__NR_close, self);
    } else {
        /* This passes no pidfd: a kernel that has the call answers EBADF. */
        int error = to_errno(SYS(__NR_pidfd_send_signal, -1, 0, 0, 0));
        probe->pidfd_send_signal = error == EBADF ? 0 : error;
    }
    probe->close_range = to_errno(SYS(__NR_close_range, ~0U, ~0U, 0)); /* this closes nothing */
}

int probe_calls(void)
{
    struct probe probe;
    probe_without_child(&probe);
    /* A kernel that has P_PIDFD answers EBADF. */
    long waited = SYS(__NR_waitid, WAIT_PIDFD, -1, 0, WEXITED, 0);
    return probe.pidfd_open == 0 && probe.pidfd_send_signal == 0 && probe.close_range == 0 &&
           (waited == -EBADF || waited == -EINVAL);
}

int probe_kernel(struct probe *probe)
{
    char *stack = malloc(STACK + 16);
    if (!stack)
        return -ENOMEM;
    char *aligned = (char *)(((uintptr_t)stack + 15) & ~(uintptr_t)15);
    int clone3_fd = -1, clone_fd = -1;
    probe->waitid = ENOSYS;
    probe->clone3 = AIOPIDFD_HAVE_CLONE3 ? try_clone(CALL_CLONE3, aligned, &clone3_fd, &probe->waitid) : ENOSYS;
    probe->clone = try_clone(CALL_CLONE, aligned, &clone_fd, &probe->waitid);
    free(stack);

    probe_without_child(probe);

    int code, status, fd = clone_fd >= 0 ? clone_fd : clone3_fd;
    probe->exit_info = fd >= 0 ? -pidinfo_reaped(fd, &code, &status) : EOPNOTSUPP;
    if (clone3_fd >= 0)
        SYS(__NR_close, clone3_fd);
    if (clone_fd >= 0)
        SYS(__NR_close, clone_fd);
    return 0;
}
