/* How a process that is not our child ended, asked of its pidfd.
 *
 * Once it is reaped: ioctl(PIDFD_GET_INFO) with PIDFD_INFO_EXIT, Linux 6.15. Before that, as a
 * zombie: the exit_code in /proc/PID/stat (proc_pid_stat(5), Linux 3.5).
 */
#ifndef AIOPIDFD_PIDINFO_H
#define AIOPIDFD_PIDINFO_H

/* All return 0 with *code (CLD_*) and *status set; -EAGAIN where it may be known later; another
 * -errno where it will not be. */

int pidinfo_exit(int pidfd, int pid, int *code, int *status); /* the two below, as fits */

int pidinfo_reaped(int pidfd, int *code, int *status);
int pidinfo_zombie(int pidfd, int pid, int *code, int *status);

/* The pid of a pidfd's process in our own pid namespace; 0 where it has none, or is gone. */
int pidinfo_pid(int pidfd);

/* Whether a process has this name, at most 15 characters (proc_pid_comm(5)). */
int pidinfo_is_named(int pid, const char *name);

/* The pid of its parent, likewise; 0 where that is not known, or the process is gone; -errno where no
 * descriptor is to be had to look (EMFILE and the like). `pid`: its own. */
int pidinfo_parent(int pidfd, int pid);

#endif
