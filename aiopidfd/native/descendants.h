/* The processes below one process. They are found in /proc, and each is held by a pidfd before anything is
 * done to it. So no harm is done if a number has come to mean another process. */
#ifndef AIOPIDFD_DESCENDANTS_H
#define AIOPIDFD_DESCENDANTS_H

#include <stddef.h>

/* Called for each descendant. Returns whether it has taken the pidfd over. */
typedef int (*tree_visitor)(void *arg, int pid, int pidfd);

/* Visits every descendant of a process, parents before their children, as far as they exist when we look for
 * them. A process that forks meanwhile may have more. No more processes are visited than there were tasks in
 * total when the walk began. The walk needs one descriptor for each process on the path to the visited one,
 * and for each sibling of those.
 *
 * Returns 0 or -errno: -ENOTSUP where there is no /proc or it shows another pid namespace, -ENOSYS where the
 * kernel lists no children (CONFIG_PROC_CHILDREN), -EACCES where /proc hides a process of the tree (hidepid,
 * proc(5)), -EMFILE and the like when not all were visited. */
int tree_visit(int pid, int pidfd, tree_visitor visit, void *arg);

/* The pids of this process's children, as far as /proc tells them. Returns how many; free(3) them. */
size_t tree_own_children(int **pids);

/* Sends a signal to every descendant, and to the process itself if `root_too`. Counts the processes that got
 * it, and those that we are not allowed to signal. */
int tree_signal(int pid, int pidfd, int root_too, int sig, int *signalled, int *denied);

/* Sends SIGKILL to the children of a subreaper, a few times over. Processes whose parent is killed become
 * children of the subreaper. So if this is called until the subreaper has no child, nothing is left. It is
 * fast enough to outrun processes that fork meanwhile. */
int tree_kill_next(int pid, int pidfd, int *signalled, int *denied);

#endif
