/* The processes below one: found in /proc, and each held by a pidfd before anything is done to it, so
 * that a number which has come to mean another process does no harm. */
#ifndef AIOPIDFD_TREE_H
#define AIOPIDFD_TREE_H

/* Called for a descendant. Returns whether it has taken the pidfd over. */
typedef int (*tree_visitor)(void *arg, int pid, int pidfd);

/* Visits every descendant of a process, parents before their children, as far as they are there when
 * they are looked for: one that forks meanwhile may have more. No more are visited than there were tasks
 * at all when the walk began. Takes a descriptor for each process that is next to the path to the one
 * that is visited.
 *
 * 0 or -errno: -ENOTSUP where /proc is not there or tells of another pid namespace, -ENOSYS where the
 * kernel lists no children (CONFIG_PROC_CHILDREN); -EACCES where /proc hides a process of it (hidepid,
 * proc(5)); -EMFILE and the like, when not all were visited. */
int tree_visit(int pid, int pidfd, tree_visitor visit, void *arg);

/* Sends a signal to every descendant, and to the process itself if `root_too`. Counts those that got it,
 * and those that we may not signal. */
int tree_signal(int pid, int pidfd, int root_too, int sig, int *signalled, int *denied);

/* SIGKILL to the children of a subreaper, a few times over. What they leave behind becomes its children:
 * called until it has none this leaves nothing, and is fast enough to outrun what forks meanwhile. */
int tree_kill_next(int pid, int pidfd, int *signalled, int *denied);

#endif
