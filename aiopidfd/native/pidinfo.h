/* How a process that is not our child has ended. We ask its pidfd.
 *
 * After it is reaped: ioctl(PIDFD_GET_INFO) with PIDFD_INFO_EXIT, Linux 6.15. Before that, while it is a
 * zombie: the exit_code in /proc/PID/stat (proc_pid_stat(5), Linux 3.5).
 */
#ifndef AIOPIDFD_PIDINFO_H
#define AIOPIDFD_PIDINFO_H

/* All return 0 with *code (CLD_*) and *status set. They return -EAGAIN if the answer may be known later, and
 * another -errno if it will never be. */

int pidinfo_exit(int pidfd, int pid, int *code, int *status); /* uses whichever of the two below fits */

int pidinfo_reaped(int pidfd, int *code, int *status);
int pidinfo_zombie(int pidfd, int pid, int *code, int *status);

/* Whether the numbers in /proc are those of our own pid namespace. They are not after `unshare --pid --fork`
 * without a mount, or where a container has the /proc of its host. */
int pidinfo_proc_is_ours(void);

/* The pid of a pidfd's process in our own pid namespace. 0 if it has none there, or /proc does not tell;
 * negative if the process is reaped. */
int pidinfo_pid(int pidfd);

/* Whether a process has this name, at most 15 characters (proc_pid_comm(5)). */
int pidinfo_is_named(int pid, const char *name);

/* The pid of its parent in our own pid namespace. 0 if that is not known, or the process is gone. -errno if
 * we can get no descriptor to look (EMFILE and the like). `pid` is the process's own. */
int pidinfo_parent(int pidfd, int pid);

#endif
