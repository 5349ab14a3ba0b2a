/* Asks the kernel what it lets us do, by doing it. */
#ifndef AIOPIDFD_PROBE_H
#define AIOPIDFD_PROBE_H

/* Each is 0 where the call works, else the errno it answered. */
struct probe {
    int clone3;            /* Linux 5.3, CLONE_CLEAR_SIGHAND 5.5 */
    int clone;             /* clone(2) with CLONE_PIDFD, Linux 5.2 */
    int waitid;            /* P_PIDFD, Linux 5.4 */
    int pidfd_open;        /* Linux 5.3 */
    int pidfd_send_signal; /* Linux 5.1 */
    int close_range;       /* CLOSE_RANGE_UNSHARE, Linux 5.9 */
    int exit_info;         /* PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15: optional */
};

/* Starts two trial children, which end at once. In a process that is to be the parent of a new pid
 * namespace's init (unshare(CLONE_NEWPID)) the first of them would be that init. */
int probe_kernel(struct probe *probe); /* 0, or -ENOMEM */

/* Whether every needed call works, but for clone: asked without a child, for the first spawn. */
int probe_calls(void);

#endif
