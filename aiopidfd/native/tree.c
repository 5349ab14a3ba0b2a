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

/* Opens a number if it is that of a child of the parent, still. */
static int open_member(struct walk *walk, const struct member *parent, int pid, struct member *member)
{
    member->pid = pid;
    member->pidfd = (int)SYS(__NR_pidfd_open, pid, 0);
    if (member->pidfd < 0) {
        if (member->pidfd != -ESRCH && member->pidfd != -EINVAL) /* gone; a thread by now */
            walk->error = member->pidfd;
        return 0;
    }
    if (belongs(walk, parent, member))
        return 1;
    close(member->pidfd);
    return 0;
}

static void visit_children(struct walk *walk, const struct member *parent)
{
    struct pids pids = {0};
    int error = list_children(parent, &pids);
    if (error < 0)
        walk->error = error;
    struct member member;
    for (size_t i = 0; i < pids.n; i++)
        if (open_member(walk, parent, pids.pid[i], &member) && !walk->visit(walk->arg, member.pid, member.pidfd))
            close(member.pidfd);
    free(pids.pid);
}

/* A member, then all below it. Its children are held before it is visited: a signal may be its end, and
 * then they are somewhere else. Returns whether the visitor has taken its pidfd over. */
static int visit_all(struct walk *walk, const struct member *parent, int visit_it)
{
    struct pids pids = {0};
    int error = list_children(parent, &pids), taken = 0;
    struct member *members = calloc(pids.n + 1, sizeof *members);
    size_t n = 0;
    if (!members)
        error = -ENOMEM;
    for (size_t i = 0; members && i < pids.n; i++)
        n += (size_t)open_member(walk, parent, pids.pid[i], &members[n]);
    if (error < 0)
        walk->error = error;
    free(pids.pid);
    if (visit_it)
        taken = walk->visit(walk->arg, parent->pid, parent->pidfd);
    for (size_t i = 0; i < n; i++)
        if (!visit_all(walk, &members[i], 1))
            close(members[i].pidfd);
    free(members);
    return taken;
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

int tree_visit(int pid, int pidfd, tree_visitor visit, void *arg)
{
    int error = check_proc();
    struct walk walk = {.root = {pid, pidfd}, .visit = visit, .arg = arg};
    if (error == 0)
        visit_all(&walk, &walk.root, 0);
    return error < 0 ? error : walk.error;
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

int tree_signal(int pid, int pidfd, int root_too, int sig, int *signalled, int *denied)
{
    struct signalling signalling = {.sig = sig};
    struct walk walk = {.root = {pid, pidfd}, .visit = send, .arg = &signalling};
    int error = check_proc();
    if (error == 0)
        visit_all(&walk, &walk.root, root_too);
    *signalled = signalling.signalled;
    *denied = signalling.denied;
    return error < 0 ? error : walk.error;
}

int tree_kill_next(int pid, int pidfd, int *signalled, int *denied)
{
    enum { PASSES = 8 };
    struct signalling signalling = {.sig = SIGKILL, .signalled = 1};
    struct walk walk = {.root = {pid, pidfd}, .visit = send, .arg = &signalling};
    int error = check_proc();
    for (int pass = 0; pass < PASSES && error == 0 && walk.error == 0 && signalling.signalled; pass++) {
        signalling.signalled = signalling.denied = 0;
        visit_children(&walk, &walk.root);
    }
    *signalled = signalling.signalled;
    *denied = signalling.denied;
    return error < 0 ? error : walk.error;
}
