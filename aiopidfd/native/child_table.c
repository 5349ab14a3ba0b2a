/* Children: the lists that they are in, their numbers and descriptors, and those that are behind. */
#define _GNU_SOURCE
#include "child.h"
#include "lifelines.h"
#include "reserved_numbers.h"
#include "pidinfo.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>

/* ---- Lists ----------------------------------------------------------------------------------- */

void list_init(struct link *list)
{
    list->child = NULL;
    list->next = list->previous = list;
}

void list_append(struct link *list, struct link *link, struct child *child)
{
    if (link->next)
        return;
    link->child = child;
    link->next = list;
    link->previous = list->previous;
    list->previous->next = link;
    list->previous = link;
}

void list_remove(struct link *link)
{
    if (!link->next)
        return;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link->next = link->previous = NULL;
}

struct link all_children, children_behind;
atomic_int starts_under_way;

/* ---- Ids: a place in a table, and how often it has been given away -------------------------------- */

static struct {
    struct child *child;
    uint32_t generation;
    uint32_t next_free; /* a place's number + 1 */
} *ids;
static uint32_t n_ids, free_id;

static int id_take(struct child *child)
{
    if (!free_id) {
        uint32_t n = n_ids ? 2 * n_ids : 64;
        void *larger = realloc(ids, n * sizeof *ids);
        if (!larger)
            return -ENOMEM;
        ids = larger;
        for (uint32_t i = n; i-- > n_ids;) {
            ids[i].child = NULL;
            ids[i].generation = 0;
            ids[i].next_free = free_id;
            free_id = i + 1;
        }
        n_ids = n;
    }
    uint32_t place = free_id - 1;
    free_id = ids[place].next_free;
    ids[place].child = child;
    child->id = (uint64_t)++ids[place].generation << 31 | place;
    return 0;
}

static void id_give(const struct child *child)
{
    uint32_t place = child->id & INT32_MAX;
    ids[place].child = NULL;
    ids[place].next_free = free_id;
    free_id = place + 1;
}

struct child *child_find(uint64_t id)
{
    uint32_t place = id & INT32_MAX;
    struct child *child = place < n_ids ? ids[place].child : NULL;
    return child && child->id == id ? child : NULL;
}

/* ---- A child ----------------------------------------------------------------------------------- */

struct child *child_new(struct hub *hub)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child)
        return NULL;
    child->pidfd.fd = child->guardian.fd = -1;
    if (id_take(child) < 0) {
        free(child);
        return NULL;
    }
    child->hub = hub;
    if (hub)
        hub->n_children++;
    list_append(&all_children, &child->all, child);
    return child;
}

void child_free(struct child *child)
{
    child_end_start(child);
    child_close_handed_over(child);
    child_close_pidfd(&child->pidfd, child->pid);
    child_close_pidfd(&child->guardian, child->guardian_pid);
    record_free(child);
    list_remove(&child->all);
    list_remove(&child->behind);
    hub_leave(child);
    id_give(child);
    free(child->fds);
    free(child);
}

void child_end_start(struct child *child)
{
    if (!child->starts)
        return;
    child->starts = 0;
    atomic_fetch_sub(&starts_under_way, 1);
    hub_after_start(child);
}

int child_pidfd_is_ours(const struct owned *pidfd, int pid)
{
    if (pidfd->identity.inode && life_has_pidfs()) {
        enum same same = fds_compare(pidfd->fd, &pidfd->identity);
        if (same != NOT_TOLD)
            return same == SAME;
    }
    if (pidfd->fd < 0 || SYS(__NR_pidfd_send_signal, pidfd->fd, 0, 0, 0) == -EBADF)
        return 0;
    int now = pidinfo_pid(pidfd->fd);
    return now == 0 || now == pid || pid == 0;
}

void child_close_pidfd(struct owned *pidfd, int pid)
{
    if (pidfd->fd >= 0 && child_pidfd_is_ours(pidfd, pid))
        SYS(__NR_close, pidfd->fd);
    pidfd->fd = -1;
}

/* If somebody has closed a pidfd, it is opened again by the pid. Since Linux 6.9 the inode tells whether the
 * new one is the same process, even if the pid was given to another process. */
static int hold(struct owned *pidfd, int pid)
{
    if (child_pidfd_is_ours(pidfd, pid))
        return 0;
    if (pid <= 0 || pidfd->identity.inode == 0 || !life_has_pidfs())
        return -EBADF;
    struct owned anew = *pidfd;
    anew.fd = (int)SYS(__NR_pidfd_open, pid, 0);
    if (anew.fd < 0)
        return anew.fd;
    if (fds_compare(anew.fd, &anew.identity) != SAME) {
        SYS(__NR_close, anew.fd);
        return -ESRCH;
    }
    fds_move_above_stdio(&anew.fd);
    *pidfd = anew;
    return 1;
}

int child_hold_program(struct child *child)
{
    int result = hold(&child->pidfd, child->pid);
    if (result > 0)
        hub_watch_program(child);
    return result < 0 ? result : 0;
}

int child_hold_guardian(struct child *child)
{
    struct failure failure;
    int result = child->guardian_reaped ? -ESRCH : hold(&child->guardian, child->guardian_pid);
    if (result > 0 && child->hub)
        hub_watch(child, child->guardian.fd, 0, &failure);
    return result < 0 ? result : 0;
}

void child_close_handed_over(struct child *child)
{
    if (!child->n_fds)
        return;
    int error;
    const char *call;
    const struct life *life = life_get(&error, &call);
    for (size_t i = 0; i < child->n_fds; i++) {
        if (life)
            reserve_give(child->fds[i].fd, &life->read);
        fds_close(&child->fds[i]); /* not a number that holds the placeholder again by now */
    }
    child->n_fds = 0;
}

void child_wake_guardian(struct child *child)
{
    if (child_hold_guardian(child) == 0)
        SYS(__NR_pidfd_send_signal, child->guardian.fd, SIGCONT, 0, 0);
}

int child_is_over(const struct child *child)
{
    if (child->state == CHILD_FOREIGN)
        return 1;
    return child_is_final(child->state) && !child->record && child->guardian_reaped;
}

/* Uses select(2) where poll(2) refuses. poll(2) takes no more descriptors than RLIMIT_NOFILE, which may be
 * 0. */
int child_wait_readable(int fd, int64_t nanoseconds)
{
    enum { SECOND = 1000000000, BITS = 8 * sizeof(long) };
    struct timespec left = {nanoseconds / SECOND, nanoseconds % SECOND};
    struct timespec *timeout = nanoseconds < 0 ? NULL : &left;
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    int n = ppoll(&pollfd, 1, timeout, NULL);
    if (n >= 0 || errno != EINVAL)
        return n < 0 ? -errno : n;
    size_t words = (size_t)fd / BITS + 1;
    unsigned long few[64] = {0}, *set = words <= 64 ? few : calloc(words, sizeof *set);
    if (!set)
        return -ENOMEM;
    set[fd / BITS] = 1UL << fd % BITS;
    long result = SYS(__NR_pselect6, fd + 1, set, NULL, NULL, timeout);
    if (set != few)
        free(set);
    return (int)result;
}

int child_is_hung_up(int fd)
{
    struct pollfd pollfd = {.fd = fd}; /* POLLHUP and POLLERR are reported without being asked for */
    int n = poll(&pollfd, 1, 0);
    if (n >= 0 || errno != EINVAL)
        return n < 0 ? -errno : n;
    /* As above. select(2) reports it as readability, so it is not known while there is something to read. */
    int left = 0, reads = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY;
    if (reads && ioctl(fd, FIONREAD, &left) == 0 && left > 0)
        return -EINVAL;
    return child_wait_readable(fd, 0);
}

int child_is_readable(int fd)
{
    return child_wait_readable(fd, 0) == 1;
}

/* ---- Those that are behind: given up, or over except for a guardian that is about to leave ---------- */

void child_after_news(struct child *child)
{
    int over = child_is_over(child);
    if (child->abandoned && over && !child->n_blocked) {
        child_free(child);
        return;
    }
    if (!over && (child->abandoned || child_is_final(child->state)))
        list_append(&children_behind, &child->behind, child);
    else if (over)
        list_remove(&child->behind);
}

static int look_after_first(void)
{
    struct child *child = children_behind.next->child;
    list_remove(&child->behind);
    child_advance(child);
    int left = child->abandoned && !child_is_over(child);
    child_after_news(child);
    return left;
}

static size_t count_behind(size_t most)
{
    size_t n = 0;
    for (struct link *link = children_behind.next; link != &children_behind && n < most; link = link->next)
        n++;
    return n;
}

void child_sweep(void)
{
    enum { SOME = 8 }; /* more than one start adds */
    for (size_t n = count_behind(SOME); n; n--)
        look_after_first();
}

int spawner_sweep(void)
{
    int left = 0;
    spawner_lock();
    spawner_check_copy();
    for (size_t n = count_behind(SIZE_MAX); n; n--)
        left += look_after_first();
    spawner_unlock();
    return left;
}
