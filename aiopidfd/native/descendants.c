#define _GNU_SOURCE
#include "descendants.h"
#include "pidinfo.h"
#include "syscall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A process that is known to belong to the tree, and that we hold by a pidfd. */
struct member {
    int pid;
    int pidfd;
};

struct walk {
    struct member root;
    tree_visitor visit;
    void *arg;
    size_t limit; /* how many processes are visited at most */
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

/* Whether the process is not reaped yet, so that its number is not another process's. True for a zombie. */
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

static int compare(const void *a, const void *b)
{
    int left = *(const int *)a, right = *(const int *)b;
    return (left > right) - (left < right);
}

static void pids_make_unique(struct pids *pids)
{
    size_t n = 0;
    if (pids->n)
        qsort(pids->pid, pids->n, sizeof *pids->pid, compare);
    for (size_t i = 0; i < pids->n; i++)
        if (n == 0 || pids->pid[n - 1] != pids->pid[i])
            pids->pid[n++] = pids->pid[i];
    pids->n = n;
}

/* Looks once at each thread. Returns how many there are, or -errno. */
static int look_at_threads(const struct member *member, DIR *threads, struct pids *pids)
{
    int error = 0, n = 0;
    const struct dirent *thread;
    rewinddir(threads);
    /* The opened directory stays with that process. It is the member's if the member is still there. */
    while (error == 0 && is_there(member) && (thread = readdir(threads))) {
        if (thread->d_name[0] == '.')
            continue;
        n++;
        char path[64];
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
    return error < 0 ? error : n;
}

/* The numbers of a member's children, each once. They may have become other processes' numbers by now. A
 * thread that ends leaves its children to another thread of the same process, perhaps to one that we have
 * looked at already. And where a child is reaped while the file is read, the kernel may leave out another one
 * (proc_pid_task(5)). So we look again until nothing new turns up. */
static int list_children(const struct member *member, struct pids *pids)
{
    enum { LOOKS = 8 };
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", member->pid);
    DIR *threads = opendir(path);
    if (!threads && (errno == ENOENT || errno == ESRCH || errno == EPERM)) /* hidden, or gone */
        return is_there(member) ? -EACCES : 0;
    if (!threads)
        return -errno;
    int n = 0;
    for (int look = 0; look < LOOKS; look++) {
        size_t known = pids->n;
        n = look_at_threads(member, threads, pids);
        pids_make_unique(pids);
        if (n < 0 || (n <= 1 && pids->n == 0) || (look > 0 && pids->n == known))
            break;
    }
    closedir(threads);
    return n < 0 ? n : 0;
}

size_t tree_own_children(int **found)
{
    struct member self = {.pid = getpid(), .pidfd = (int)SYS(__NR_pidfd_open, getpid(), 0)};
    struct pids pids = {0};
    if (self.pidfd >= 0) {
        list_children(&self, &pids);
        close(self.pidfd);
    }
    *found = pids.pid;
    return pids.n;
}

/* Whether the process that we hold is a child of a member, or was one and is now the root's. The process that
 * is checked last must still be there: then its number was still its own when the parent's was read. */
static int belongs(struct walk *walk, const struct member *parent, const struct member *member)
{
    int of = pidinfo_parent(member->pidfd, member->pid);
    if (of < 0)
        walk->error = of;
    if (of <= 0)
        return 0;
    if (of == parent->pid && is_there(parent))
        return 1;
    return of == walk->root.pid && is_there(&walk->root);
}

/* Opens a number if it still is that of a child of the parent. */
static int open_member(struct walk *walk, const struct member *parent, int pid, struct member *member)
{
    member->pid = pid;
    member->pidfd = (int)SYS(__NR_pidfd_open, pid, 0);
    if (member->pidfd < 0) {
        if (member->pidfd != -ESRCH && member->pidfd != -EINVAL) /* gone, or now a thread's */
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

/* The processes that we hold and have yet to visit. They are on the heap, as a tree may have any depth. */
struct held {
    struct member *member;
    size_t n, room;
};

static int held_reserve(struct held *held, size_t more)
{
    if (held->room - held->n >= more)
        return 0;
    size_t room = 2 * held->room + more;
    struct member *larger = realloc(held->member, room * sizeof *larger);
    if (!larger)
        return -ENOMEM;
    held->member = larger;
    held->room = room;
    return 0;
}

static void hold_children(struct walk *walk, struct held *held, const struct member *parent)
{
    struct pids pids = {0};
    int error = list_children(parent, &pids);
    if (held_reserve(held, pids.n) < 0)
        error = -ENOMEM;
    else
        for (size_t i = pids.n; i > 0; i--) /* the first in the list shall be visited next */
            held->n += (size_t)open_member(walk, parent, pids.pid[i - 1], &held->member[held->n]);
    if (error < 0)
        walk->error = error;
    free(pids.pid);
}

/* Visits a member, then all below it. We hold its children before we visit it: a signal may end the member,
 * and then its children are somewhere else. */
static void visit_all(struct walk *walk, const struct member *root, int visit_it)
{
    struct held held = {0};
    hold_children(walk, &held, root);
    if (visit_it)
        walk->visit(walk->arg, root->pid, root->pidfd);
    for (size_t visited = 0; held.n; visited++) {
        struct member member = held.member[--held.n];
        int is_within = visited < walk->limit;
        if (is_within)
            hold_children(walk, &held, &member);
        if (!is_within || !walk->visit(walk->arg, member.pid, member.pidfd))
            close(member.pidfd);
    }
    free(held.member);
}

static int check_proc(void)
{
    if (!pidinfo_proc_is_ours())
        return -ENOTSUP;
    return access("/proc/thread-self/children", F_OK) == 0 ? 0 : -ENOSYS;
}

/* How many tasks there are now (/proc/loadavg, proc(5)). If a walk meets more than that, processes are born
 * faster than it visits them, and the walk would not end before that stops. In a container another file may lie
 * there, that tells 1 at first and then what was so some seconds ago (lxcfs). */
static size_t count_tasks(void)
{
    enum { AT_LEAST = 4096 };
    char text[128], *end = NULL;
    int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SIZE_MAX;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    const char *slash = strchr(text, '/');
    size_t tasks = slash ? strtoul(slash + 1, &end, 10) : 0;
    return tasks == 0 ? SIZE_MAX : tasks > AT_LEAST ? tasks : AT_LEAST;
}

/* Returns 0 or -errno. */
static int walk_all(struct walk *walk, int root_too)
{
    int error = check_proc();
    if (error < 0)
        return error;
    walk->limit = count_tasks();
    visit_all(walk, &walk->root, root_too);
    return walk->error;
}

int tree_visit(int pid, int pidfd, tree_visitor visit, void *arg)
{
    struct walk walk = {.root = {pid, pidfd}, .visit = visit, .arg = arg};
    return walk_all(&walk, 0);
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
    int error = walk_all(&walk, root_too);
    *signalled = signalling.signalled;
    *denied = signalling.denied;
    return error;
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
