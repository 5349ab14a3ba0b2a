/* A guardian, and later its child, leave the descriptor table that they share with the host. Only the part of the
 * table below the first closed range is copied (close_range(2), Linux 5.9): so the cost does not depend on how
 * much the host has open. The contract of guardian.c holds here. */
#include "after_clone.h"
#include "fd_identity.h"

#include <errno.h>
#include <linux/close_range.h>

/* We must neither write to a file that the host has put at one of our numbers behind our back, nor hold it
 * open. And a descriptor that is no longer our lifeline says nothing about our parent. The table is ours by
 * now. */
static void drop_stranger(int *fd, const struct identity *identity)
{
    if (fds_is(*fd, identity))
        return;
    if (*fd >= 0)
        SYS(__NR_close, *fd);
    *fd = -1;
}

/* The guardian keeps only what it waits on and what it writes to. Otherwise it would keep a pipe's writer or a
 * listening socket of the host's open. Returns 0 or -errno. */
long aiopidfd_leave_table(struct record *record)
{
    int keep[] = {record->life_fd, record->self_fd, record->event_fd, record->kill_fd};
    enum { N = sizeof keep / sizeof *keep };
    for (int i = 1; i < N; i++) /* sorted; each -1 comes first */
        for (int k = i; k > 0 && keep[k - 1] > keep[k]; k--) {
            int higher = keep[k - 1];
            keep[k - 1] = keep[k];
            keep[k] = higher;
        }
    long result = SYS(__NR_close_range, keep[N - 1] + 1, ~0U, CLOSE_RANGE_UNSHARE);
    if (result < 0)
        return result;
    for (int i = 0, next = 0; i < N; next = keep[i++] + 1)
        if (keep[i] > next)
            SYS(__NR_close_range, next, keep[i] - 1, 0);
    drop_stranger(&record->event_fd, &record->event);
    drop_stranger(&record->kill_fd, &record->kill);
    drop_stranger(&record->life_fd, &record->life);
    drop_stranger(&record->self_fd, &record->self);
    return 0;
}

/* The host may have closed the numbers of what the program is to get, and opened something else there. The
 * child has its own table by now, so what is found here stays. */
static void check_descriptors(struct record *record)
{
    for (unsigned long i = 0; i < record->n_fds; i++)
        if (!fds_are_ours(&record->fds[i]))
            child_fails(record, FAILED_DESCRIPTORS, -EBADF);
}

void aiopidfd_child_leaves_table(struct record *record)
{
    long result = record->private_table ? 0 : SYS(__NR_close_range, record->highest + 1, ~0U, CLOSE_RANGE_UNSHARE);
    if (result < 0)
        child_fails(record, FAILED_TABLE, result);
    check_descriptors(record);
}
