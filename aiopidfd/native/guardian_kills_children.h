/* A guardian's own children: the program, and the orphans of the program that the kernel gave to the guardian
 * as their subreaper. The contract of guardian.c holds here. */
#ifndef AIOPIDFD_GUARDIAN_KILLS_CHILDREN_H
#define AIOPIDFD_GUARDIAN_KILLS_CHILDREN_H

/* Returns a descriptor for children_kill(), or -errno: -ENOTSUP where /proc shows another pid namespace,
 * -ENOENT where the kernel has no such file (CONFIG_PROC_CHILDREN). */
int aiopidfd_children_open(void) __attribute__((visibility("hidden")));

/* Sends SIGKILL to every child that exists now. The caller must not reap meanwhile: then none of the numbers
 * can come to mean another process. `outrun`: the children, and what they still fork, get the processor only
 * when nobody else wants it (SCHED_IDLE, sched(7)). A fork bomb has hundreds of tasks against our one, and
 * would otherwise fork on before each of our turns. Returns the highest number that it met, or 0. */
long aiopidfd_children_kill(int fd, int outrun) __attribute__((visibility("hidden")));

#endif
