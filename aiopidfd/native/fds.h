/* What all of our descriptors have in common: close-on-exec, and above the standard three. */
#ifndef AIOPIDFD_FDS_H
#define AIOPIDFD_FDS_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Moves a descriptor of ours off 0, 1 and 2: a host that runs with those closed opens something of its
 * own there one day. 0, or -errno with *fd as it was. */
static inline int move_above_stdio(int *fd)
{
    if (*fd > 2)
        return 0;
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    if (moved < 0)
        return -errno;
    close(*fd);
    *fd = moved;
    return 0;
}

#endif
