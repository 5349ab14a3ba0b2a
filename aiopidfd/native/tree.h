/* The processes below one: found in /proc, and each held by a pidfd before anything is done to it, so
 * that a number which has come to mean another process does no harm. */
#ifndef AIOPIDFD_TREE_H
#define AIOPIDFD_TREE_H

/* Called for a descendant. Returns whether it has taken the pidfd over. */
typedef int (*tree_visitor)(void *arg, int pid, int pidfd);

/* Visits the children of a process, or with `deep` all descendants, parents before their children: as far as they are there when
 * they are looked for (a process that forks meanwhile may have more, one may be visited twice).
 *
 * 0 or -errno: -ENOTSUP where /proc is not there or tells of another pid namespace, -ENOSYS where the
 * kernel lists no children (CONFIG_PROC_CHILDREN), -EMFILE and the like, when not all were visited. */
int tree_visit(int pid, int pidfd, int deep, tree_visitor visit, void *arg);

/* Sends a signal to every descendant. Counts those that got it, and those that we may not signal. */
int tree_signal(int pid, int pidfd, int sig, int *signalled, int *denied);

#endif
