/* How a process ended, asked of its pidfd: ioctl(PIDFD_GET_INFO) with PIDFD_INFO_EXIT, Linux 6.15. */
#ifndef AIOPIDFD_PIDINFO_H
#define AIOPIDFD_PIDINFO_H

/* 0 with *code (CLD_*) and *status set; -EAGAIN while the process is not reaped; else -errno:
 * -EOPNOTSUPP when this kernel does not know it. */
int pidinfo_exit(int pidfd, int *code, int *status);

#endif
