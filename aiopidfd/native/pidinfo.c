#define _GNU_SOURCE
#include "pidinfo.h"
#include "syscall.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

/* struct pidfd_info as of Linux 6.15 (include/uapi/linux/pidfd.h); headers are mostly older. */
struct pidfd_info {
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t pid, tgid, ppid;
    uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
    uint32_t coredump_mask, padding;
};

#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info)
enum { INFO_EXIT = 1 << 3 };

int pidinfo_exit(int pidfd, int *code, int *status)
{
    struct pidfd_info info = {.mask = INFO_EXIT};
    long result = SYS(__NR_ioctl, pidfd, GET_INFO, &info);
    /* 6.12 to 6.14 know the request but not the bit (EINVAL, or no bit back); older ones nothing
     * (ENOTTY). Before the process is reaped, the answer comes without the bit. */
    if (result == -EINVAL || result == -ENOTTY)
        return -EOPNOTSUPP;
    if (result < 0)
        return (int)result;
    if (!(info.mask & INFO_EXIT))
        return -EAGAIN;
    if (WIFSIGNALED(info.exit_code)) {
        *code = WCOREDUMP(info.exit_code) ? CLD_DUMPED : CLD_KILLED;
        *status = WTERMSIG(info.exit_code);
    } else {
        *code = CLD_EXITED;
        *status = WEXITSTATUS(info.exit_code);
    }
    return 0;
}
