/* Before there is a program a guardian makes each call once that it will need: a filter or a limit may refuse one,
 * and then nothing has run. The contract of guardian.c holds here. */
#include "after_clone.h"
#include "fd_identity.h"

#include <errno.h>
#include <linux/wait.h>
#include <poll.h>

static void check_other_calls(struct record *record)
{
    long result = SYS(__NR_signalfd4, -1, NULL, 0, 0); /* EINVAL means that the call is allowed */
    if (result != -EINVAL)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_signalfd4, result);
    result = SYS(__NR_waitid, P_ALL, 0, NULL, WEXITED | WNOHANG | __WALL, NULL); /* there is no child */
    if (result != -ECHILD)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_waitid, result);
    result = SYS(__NR_close_range, ~0U, ~0U, 0); /* no such number: nothing is closed */
    if (result < 0)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_close_range, result);
}

/* Finds out before there is a program which calls a filter or a limit refuses to us. Also checks the
 * lifelines: the host may have closed their numbers, and opened something else there. */
void aiopidfd_check_calls(struct record *record)
{
    struct pollfd fds[N_FDS];
    for (int i = 0; i < N_FDS; i++) {
        fds[i].fd = i == LIFE ? record->life_fd : i == SELF ? record->self_fd : -1;
        fds[i].events = POLLIN;
        fds[i].revents = 0;
    }
    struct timespec at_once;
    at_once.tv_sec = at_once.tv_nsec = 0;
    long result = SYS(__NR_ppoll, fds, N_FDS, &at_once, NULL, SIGSET_BYTES);
    if (result < 0)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_ppoll, result);
    if (result > 0 || !fds_is(record->life_fd, &record->life) || !fds_is(record->self_fd, &record->self))
        aiopidfd_guardian_fails(record, FAILED_LIFELINES, -EBADF);
    check_other_calls(record);
}

/* Without these a tree would outlive its program unnoticed. */
void aiopidfd_check_that_we_can_contain(struct record *record, long subreaper)
{
    if (subreaper < 0)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_prctl, subreaper);
    long result = SYS(__NR_kill, record->guardian_pid, 0);
    if (result < 0)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_kill, result);
    result = SYS(__NR_lseek, -1, 0, 0);
    if (result != -EBADF)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_lseek, result);
    /* Without an answer of these we can do, but a filter may kill who asks. */
    struct timespec now;
    SYS(__NR_clock_gettime, CLOCK_MONOTONIC, &now);
    aiopidfd_compare_memory(record, record->parent_pid);
}

/* As aiopidfd_check_calls(). It is the spawner that has checked the lifelines. */
void aiopidfd_check_calls_to_fork(struct record *record)
{
    struct timespec at_once;
    at_once.tv_sec = at_once.tv_nsec = 0;
    long result = SYS(__NR_ppoll, NULL, 0, &at_once, NULL, SIGSET_BYTES);
    if (result < 0)
        aiopidfd_guardian_fails(record, FAILED_CALL - __NR_ppoll, result);
    check_other_calls(record);
}
