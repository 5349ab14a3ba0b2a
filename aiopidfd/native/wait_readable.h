/* Whether a descriptor has something to read, or no other end: also for more descriptors than poll(2) takes. */
#ifndef AIOPIDFD_WAIT_READABLE_H
#define AIOPIDFD_WAIT_READABLE_H

#include <stdint.h>

int fd_wait_readable(int fd, int64_t nanoseconds); /* 1; 0: not in that time; -errno. Negative: no limit */
int fd_is_readable(int fd);
int fd_is_hung_up(int fd); /* the other end of the pipe or terminal is closed; -errno */

#endif
