/* A guardian's own children: the program, and the orphans of it that the kernel gave to the guardian
 * as their subreaper. Under the contract of guardian.c. */
#ifndef AIOPIDFD_CHILDREN_H
#define AIOPIDFD_CHILDREN_H

/* A descriptor for children_kill(), or -errno: -ENOTSUP where /proc tells of another pid namespace,
 * -ENOENT where the kernel has no such file (CONFIG_PROC_CHILDREN). */
int aiopidfd_children_open(void) __attribute__((visibility("hidden")));

/* SIGKILL to every child that there is now. Only while the caller does not reap: so none of the
 * numbers can have come to mean another process. `outrun`: let them, and what they still fork, have the
 * processor only when nobody else wants it (SCHED_IDLE, sched(7)): a fork bomb has hundreds of tasks to
 * our one, and would have forked on whenever it is our turn. */
void aiopidfd_children_kill(int fd, int outrun) __attribute__((visibility("hidden")));

#endif
