/* Takes from a guardian everything but what it still has to do. */
#ifndef AIOPIDFD_JAIL_H
#define AIOPIDFD_JAIL_H

/* For the calling process, for good: only to wait, to reap, to leave; and to kill, if it contains a
 * tree. Best effort: where there is no
 * seccomp nothing happens. Uses no libc, no errno, no TLS: the guardian calls it. */
void aiopidfd_jail(int contain) __attribute__((visibility("hidden")));

#endif
