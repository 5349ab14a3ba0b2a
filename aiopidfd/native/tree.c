#define _GNU_SOURCE
#include "tree.h"
#include "pidinfo.h"
#include "syscall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A process that is known to belong to the tree, and is held. */
struct member {
    int pid;
    int pidfd;
};

struct walk {
    struct member root;
    tree_visitor visit;
    void *arg;
    int deep;
    int error;
};

struct pids {
    int *pid;
    size_t n, room;
};

static int pids_add(struct pids *pids, int pid)
{
    if (pids->n == pids->room) {
        size_t room = pids->room ? 2 * pids->room : 64;
        int *larger = realloc(pids->pid, room * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        pids->pid = larger;
        pids->room = room;
    }
    pids->pid[pids->n++] = pid;
    return 0;
}

/* Neither reaped nor, so, its number anybody else's. A zombie is. */
static int is_there(const struct member *member)
{
    return SYS(__NR_pidfd_send_signal, member->pidfd, 0, 0, 0) != -ESRCH;
}

/* The numbers in a thread's `children` file (proc_pid_task(5)): each ends with a space. */
static int read_children(int fd, struct pids *pids)
{
    char text[4096];
    int pid = 0, error = 0;
    ssize_t length;
    while (error == 0 && (length = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < length && error == 0; i++) {
            if (text[i] >= '0' && text[i] <= '9') {
                pid = pid * 10 + (text[i] - '0');
            } else if (pid > 0) {
                error = pids_add(pids, pid);
                pid = 0;
            }
        }
    return error;
}

/* The numbers of a member's children, which may have become others' by now. */
static int list_children(const struct member *member, struct pids *pids)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", member->pid);
    DIR *threads = opendir(path);
    if (!threads)
        return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    int error = 0;
    const struct dirent *thread;
    /* What was opened stays with that process: it is the member if the member is still there. */
    while (error == 0 && is_there(member) && (thread = readdir(threads))) {
        if (thread->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%.20s/children", thread->d_name);
        int fd = openat(dirfd(threads), path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            if (errno != ENOENT && errno != ESRCH) /* a thread that has ended */
                error = -errno;
            continue;
        }
        error = read_children(fd, pids);
        close(fd);
    }
    closedir(threads);
    return error;
}

/* Whether the process that we hold is a child of a member, or was and is now the root's. Who is asked
 * last must still be there: then the number was its own when the parent's was read. */
static int belongs(const struct walk *walk, const struct member *parent, const struct member *member)
{
    int of = pidinfo_parent(member->pidfd, member->pid);
    if (of <= 0)
        return 0;
    if (of == parent->pid && is_there(parent))
        return 1;
    return of == walk->root.pid && is_there(&walk->root);
}

static void walk_below(struct walk *walk, const struct member *parent)
{
    struct pids pids = {0};
    int error = list_children(parent, &pids);
    for (size_t i = 0; i < pids.n; i++) {
        struct member member = {.pid = pids.pid[i]};
        member.pidfd = (int)SYS(__NR_pidfd_open, member.pid, 0);
        if (member.pidfd < 0) {
            if (member.pidfd != -ESRCH && member.pidfd != -EINVAL) /* gone; a thread by now */
                error = member.pidfd;
            continue;
        }
        if (!belongs(walk, parent, &member)) {
            close(member.pidfd);
            continue;
        }
        int taken = walk->visit(walk->arg, member.pid, member.pidfd);
        if (walk->deep)
            walk_below(walk, &member);
        if (!taken)
            close(member.pidfd);
    }
    free(pids.pid);
    if (error < 0)
        walk->error = error;
}

/* The numbers in /proc must be those of our own pid namespace. */
static int check_proc(void)
{
    char name[16];
    ssize_t length = readlink("/proc/self", name, sizeof name - 1);
    name[length > 0 ? length : 0] = 0;
    if (atoi(name) != getpid())
        return -ENOTSUP;
    return access("/proc/thread-self/children", F_OK) == 0 ? 0 : -ENOSYS;
}

int tree_visit(int pid, int pidfd, int deep, tree_visitor visit, void *arg)
{
    int error = check_proc();
    if (error < 0)
        return error;
    struct walk walk = {.root = {pid, pidfd}, .visit = visit, .arg = arg, .deep = deep};
    walk_below(&walk, &walk.root);
    return walk.error;
}

struct signalling {
    int sig, signalled, denied;
};

static int send(void *arg, int pid, int pidfd)
{
    (void)pid;
    struct signalling *signalling = arg;
    long result = SYS(__NR_pidfd_send_signal, pidfd, signalling->sig, 0, 0);
    signalling->signalled += result == 0;
    signalling->denied += result == -EPERM;
    return 0;
}

int tree_signal(int pid, int pidfd, int sig, int *signalled, int *denied)
{
    /* Killing, a few times over, and only those next to the root: their children come there. That is
     * fast, and what forks meanwhile is outrun. */
    int deep = sig != SIGKILL, passes = deep ? 1 : 8, error = 0;
    struct signalling signalling = {.sig = sig};
    for (int pass = 0; pass < passes && error == 0; pass++) {
        signalling.signalled = signalling.denied = 0;
        error = tree_visit(pid, pidfd, deep, send, &signalling);
        if (signalling.signalled == 0)
            break;
    }
    *signalled = signalling.signalled;
    *denied = signalling.denied;
    return error;
}
