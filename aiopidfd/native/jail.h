/* Takes from a guardian every right that it does not need any more. */
#ifndef AIOPIDFD_JAIL_H
#define AIOPIDFD_JAIL_H

/* Restricts the calling process for good: it may only wait, reap and leave, and kill if it contains a tree.
 * Best effort: where there is no seccomp, nothing happens. Uses no libc, no errno, no TLS, because the
 * guardian calls it. */
void aiopidfd_jail(int contain) __attribute__((visibility("hidden")));

#endif
