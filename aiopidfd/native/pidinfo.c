#define _GNU_SOURCE
#include "pidinfo.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* struct pidfd_info, as far as we need it (include/uapi/linux/pidfd.h, PIDFD_INFO_SIZE_VER0). Most headers
 * are older than this struct. */
struct pidfd_info {
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t pid, tgid, ppid;
    uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};

#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info)
enum { INFO_EXIT = 1 << 3 };

static void decode(int wait_status, int *code, int *status)
{
    if (WIFSIGNALED(wait_status)) {
        *code = WCOREDUMP(wait_status) ? CLD_DUMPED : CLD_KILLED;
        *status = WTERMSIG(wait_status);
    } else {
        *code = CLD_EXITED;
        *status = WEXITSTATUS(wait_status);
    }
}

int pidinfo_reaped(int pidfd, int *code, int *status)
{
    struct pidfd_info info = {.mask = INFO_EXIT};
    long result = SYS(__NR_ioctl, pidfd, GET_INFO, &info);
    /* The kernel looks for the exit first and for the process second. If the process is reaped in between,
     * the kernel finds neither. So ask again. */
    if (result == -ESRCH)
        result = SYS(__NR_ioctl, pidfd, GET_INFO, &info);
    /* Linux 6.13 to 6.14 know the request but not the bit. Older kernels know neither (ENOTTY). Before the
     * process is reaped, the answer comes without the bit. */
    if (result == -EINVAL || result == -ENOTTY)
        return -EOPNOTSUPP;
    if (result < 0)
        return (int)result;
    if (!(info.mask & INFO_EXIT))
        return -EAGAIN;
    decode(info.exit_code, code, status);
    return 0;
}

/* Reads the beginning of a file, as text. Returns 0 if there is none. */
static int read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

int pidinfo_proc_is_ours(void)
{
    char name[16];
    ssize_t length = readlink("/proc/self", name, sizeof name - 1);
    name[length > 0 ? length : 0] = 0;
    return atoi(name) == getpid();
}

/* Returns the text after the command name. The name is in parentheses and may hold any character. */
static const char *read_stat(int pid, char *text, size_t size)
{
    char path[64];
    if (!pidinfo_proc_is_ours())
        return NULL;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!read_text(path, text, size))
        return NULL;
    char *name_end = strrchr(text, ')');
    return name_end ? name_end + 1 : NULL;
}

int pidinfo_pid(int pidfd)
{
    struct pidfd_info info = {.mask = 0};
    if (SYS(__NR_ioctl, pidfd, GET_INFO, &info) == 0) /* Linux 6.13 */
        return (int)info.pid;
    char path[64], text[1024];
    if (!pidinfo_proc_is_ours())
        return 0;
    snprintf(path, sizeof path, "/proc/thread-self/fdinfo/%d", pidfd); /* it may have a table of its own */
    if (!read_text(path, text, sizeof text))
        return 0;
    const char *pid = strstr(text, "\nPid:");
    int number = pid ? atoi(pid + strlen("\nPid:")) : 0;
    return number;
}

int pidinfo_is_named(int pid, const char *name)
{
    char path[64], text[32];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    if (!pidinfo_proc_is_ours() || !read_text(path, text, sizeof text))
        return 0;
    text[strcspn(text, "\n")] = 0;
    return strcmp(text, name) == 0;
}

int pidinfo_parent(int pidfd, int pid)
{
    struct pidfd_info info = {.mask = 0};
    if (SYS(__NR_ioctl, pidfd, GET_INFO, &info) == 0) /* Linux 6.13 */
        return (int)info.ppid;
    char text[1024];
    errno = 0;
    const char *fields = read_stat(pid, text, sizeof text);
    if (!fields && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        return -errno;
    int parent;
    if (!fields || sscanf(fields, " %*c %d", &parent) != 1)
        return 0;
    /* That was about this process only if it is not reaped yet. */
    return SYS(__NR_pidfd_send_signal, pidfd, 0, 0, 0) == -ESRCH ? 0 : parent;
}

/* Whether the kernel shows exit_code to us. We may be less privileged than the process; then it reads 0. To
 * read the link one needs the same right (ptrace(2), PTRACE_MODE_READ_FSCREDS). */
static int may_look(int pid)
{
    char path[64], link[64];
    snprintf(path, sizeof path, "/proc/%d/ns/user", pid); /* read_stat() has looked whose /proc it is */
    return readlink(path, link, sizeof link) > 0;
}

int pidinfo_zombie(int pidfd, int pid, int *code, int *status)
{
    enum { STATE = 3, EXIT_CODE = 52 }; /* field numbers; the first field after the name is the third */
    char text[1024];
    const char *field = read_stat(pid, text, sizeof text);
    if (!field || field[0] != ' ' || field[1] != 'Z')
        return -EAGAIN;
    for (int n = STATE; field && n <= EXIT_CODE; n++) {
        field = strchr(field, ' ');
        field = field ? field + 1 : NULL;
    }
    if (!field)
        return -EAGAIN;
    int wait_status = atoi(field);
    if (wait_status == 0 && !may_look(pid))
        return -EAGAIN;
    /* All of that was about our process only if the pid is still this pidfd's. */
    if (SYS(__NR_pidfd_send_signal, pidfd, 0, 0, 0) == -ESRCH)
        return -EAGAIN;
    decode(wait_status, code, status);
    return 0;
}

int pidinfo_exit(int pidfd, int pid, int *code, int *status)
{
    int reaped = pidinfo_reaped(pidfd, code, status);
    if (reaped == 0 || pidinfo_zombie(pidfd, pid, code, status) == 0)
        return 0;
    if (reaped == -EOPNOTSUPP && SYS(__NR_pidfd_send_signal, pidfd, 0, 0, 0) != -ESRCH)
        return -EAGAIN; /* it is not reaped, and we cannot read how it ended; it may yet become our child */
    return reaped;
}
