/* Finds out what the kernel lets us do, by doing it. */
#ifndef AIOPIDFD_KERNEL_FEATURES_H
#define AIOPIDFD_KERNEL_FEATURES_H

/* Each is 0 where the call works, else the errno that it gave. */
struct probe {
    int clone3;            /* Linux 5.3, CLONE_CLEAR_SIGHAND 5.5 */
    int clone;             /* clone(2) with CLONE_PIDFD, Linux 5.2 */
    int waitid;            /* P_PIDFD, Linux 5.4 */
    int pidfd_open;        /* Linux 5.3 */
    int pidfd_send_signal; /* Linux 5.1 */
    int close_range;       /* CLOSE_RANGE_UNSHARE, Linux 5.9 */
    int exit_info;         /* PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15: optional */
};

/* Starts two trial children, which end at once. After unshare(CLONE_NEWPID) in this process, the first of
 * them would become the init of the new pid namespace. */
int probe_kernel(struct probe *probe); /* Returns 0 or -ENOMEM. */

/* Whether every needed call works, except clone. This is for the first spawn, and starts no child. */
int probe_calls(void);

#endif
