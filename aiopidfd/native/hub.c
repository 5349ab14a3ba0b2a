/* Hubs: how a loop hears of its children. One epoll set and one eventfd serve all of them. So the loop adds
 * one descriptor, once.
 *
 *   what has happened                  what the loop is woken by
 *   the program was exec'd             the guardian writes to the eventfd
 *   it could not be; the guardian dies the guardian's pidfd
 *   the program has exited             the program's pidfd; usually the guardian has its status by then,
 *                                      else the guardian is asked to write to the eventfd
 *
 * All of them are edge-triggered, so nothing needs to be read. A descriptor that stays readable for ever does
 * not make the loop spin. (Examples are a guardian that another process traces and does not let go, and a
 * pidfd of which a raw copy of us has a duplicate.) For the same reason an event carries an id and not a
 * pointer.
 */
#define _GNU_SOURCE
#include "child.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static struct hub *hubs;

/* Takes a descriptor over, and moves it off 0, 1 and 2. */
static int take(struct owned *owned, int fd)
{
    if (fd < 0)
        return -errno;
    int error = fds_move_above_stdio(&fd);
    fds_own(owned, fd);
    return error;
}

/* libuv makes the second call, and CPython the first: a filter that was made for a host may allow one alone. */
static int take_events(struct hub *hub, struct epoll_event *events, int room)
{
    int n = epoll_wait(hub->epoll.fd, events, room, 0);
    if (n < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS))
        n = epoll_pwait(hub->epoll.fd, events, room, 0, NULL);
    return n;
}

static int open_both(struct hub *hub, const char **call)
{
    *call = "eventfd2(2)";
    int error = take(&hub->event, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (error < 0)
        return error;
    *call = "epoll_create1(2)";
    error = take(&hub->epoll, epoll_create1(EPOLL_CLOEXEC));
    if (error < 0)
        return error;
    *call = "epoll_ctl(2)";
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = 0};
    if (epoll_ctl(hub->epoll.fd, EPOLL_CTL_ADD, hub->event.fd, &event) < 0)
        return -errno;
    *call = "epoll_wait(2)";
    return take_events(hub, &event, 1) < 0 ? -errno : 0;
}

static void forget(struct hub *hub)
{
    hub->epoll.fd = hub->event.fd = -1; /* the next hub may get these numbers */
    hub->is_lost = 1;
}

/* All eventfds and epoll sets share one inode, so the inode alone does not identify ours. But the two prove
 * each other. Either the kernel finds this file under this number in this set (EEXIST). Or it does not, and
 * then nothing in a stranger's set stays changed. EPOLL_CTL_MOD would answer too, but it would report the
 * eventfd to the loop once more, as the eventfd is never read. That costs two turns of the loop. */
static int hub_is_ours(struct hub *hub)
{
    struct epoll_event event = {.events = 0};
    if (hub->epoll.fd < 0)
        return 0;
    if (hub->was_checked)
        return 1;
    int added = epoll_ctl(hub->epoll.fd, EPOLL_CTL_ADD, hub->event.fd, &event) == 0;
    if (!added && errno == EEXIST)
        return 1;
    if (added)
        epoll_ctl(hub->epoll.fd, EPOLL_CTL_DEL, hub->event.fd, &event);
    forget(hub);
    return 0;
}

/* A stranger's set may well watch a stranger's file at that number: a pipe, say, or a socket. */
static int hub_is_surely_ours(struct hub *hub)
{
    if (hub->epoll.fd >= 0 && !fds_are_ours(&hub->event))
        forget(hub);
    return hub_is_ours(hub);
}

static void close_both(struct hub *hub)
{
    if (hub_is_surely_ours(hub)) {
        SYS(__NR_close, hub->epoll.fd);
        SYS(__NR_close, hub->event.fd);
    }
    hub->epoll.fd = hub->event.fd = -1;
}

static void close_if_idle(struct hub *hub)
{
    /* Until then a guardian knows the eventfd only by its number in our table. */
    if (hub->released && hub->n_starting == 0)
        close_both(hub);
}

static void free_if_unused(struct hub *hub)
{
    if (!hub->released || hub->n_children)
        return;
    struct hub **at = &hubs;
    while (*at != hub)
        at = &(*at)->next;
    *at = hub->next;
    free(hub);
}

struct hub *hub_new(struct failure *failure)
{
    failure->error = -ENOMEM;
    struct hub *hub = calloc(1, sizeof *hub);
    if (!hub)
        return NULL;
    hub->epoll.fd = hub->event.fd = -1;
    list_init(&hub->asked);
    list_init(&hub->news);
    spawner_lock();
    spawner_check_copy();
    spawner_prepare(failure); /* the low numbers are taken before our descriptors */
    for (struct hub *other = hubs; other; other = other->next)
        hub_is_surely_ours(other); /* forgets the numbers of one that was closed: we may get them now */
    if (failure->error == 0)
        failure->error = open_both(hub, &failure->call);
    if (failure->error < 0) {
        fds_close(&hub->event); /* it was opened a moment ago */
        fds_close(&hub->epoll);
        free(hub);
        hub = NULL;
    } else {
        hub->next = hubs;
        hubs = hub;
    }
    spawner_unlock();
    return hub;
}

int hub_fd(struct hub *hub)
{
    spawner_lock();
    spawner_check_copy();
    int fd = hub_is_surely_ours(hub) ? hub->epoll.fd : -1;
    spawner_unlock();
    return fd;
}

int hub_watch(struct child *child, int fd, int is_program, struct failure *failure)
{
    failure->call = "epoll_ctl(2)";
    failure->error = 0;
    if (child->hub->released)
        return 0; /* nobody wants to be told */
    if (!hub_is_ours(child->hub)) /* the set may be the host's own, which would then report unknown ids */
        return failure->error = -EBADF;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = child->id << 1 | (is_program != 0)};
    int result = epoll_ctl(child->hub->epoll.fd, EPOLL_CTL_ADD, fd, &event);
    if (result < 0 && errno == EEXIST) /* the child was this hub's before: what is ready is reported again */
        result = epoll_ctl(child->hub->epoll.fd, EPOLL_CTL_MOD, fd, &event);
    return failure->error = result < 0 ? -errno : 0;
}

/* The guardian tells of the exit, and the loop looks again and again. It is woken to learn that. */
void hub_watch_without_event(struct child *child)
{
    child->is_unwatched = 1;
    if (child->record)
        atomic_store(&child->record->tell_requested, 1);
    list_append(&child->hub->asked, &child->asked, child);
    if (hub_is_surely_ours(child->hub))
        eventfd_write(child->hub->event.fd, 1);
}

/* The pidfd cannot be watched if there is no memory, or the user watches too much, or if there is none. */
void hub_watch_program(struct child *child)
{
    struct failure failure;
    child->is_unwatched = 0;
    if (child->hub && hub_watch(child, child->pidfd.fd, 1, &failure) < 0)
        hub_watch_without_event(child);
}

void hub_add_news(struct child *child)
{
    int is_news = child->told != child->state || child->state == CHILD_ORPHANED; /* it may have more news */
    if (child->hub && !child->abandoned && is_news)
        list_append(&child->hub->news, &child->news, child);
}

void hub_after_start(struct child *child)
{
    if (!child->hub)
        return;
    list_remove(&child->asked);
    child->hub->n_starting--;
    close_if_idle(child->hub);
}

void hub_leave(struct child *child)
{
    struct hub *hub = child->hub;
    if (!hub)
        return;
    list_remove(&child->asked);
    list_remove(&child->news);
    child->hub = NULL;
    hub->n_children--;
    free_if_unused(hub);
}

/* The guardian knows only the old hub's eventfd. Here the news is the end of the guardian, or the loop looks
 * again. */
void hub_adopt(struct hub *hub, struct child *child)
{
    struct failure failure;
    spawner_lock();
    spawner_check_copy();
    if (child->hub != hub && !child_is_final(child->state) && child->state != CHILD_STARTING && hub->epoll.fd >= 0) {
        hub_leave(child);
        child->hub = hub;
        hub->n_children++;
        if (!child->guardian_reaped && child_pidfd_is_ours(&child->guardian, child->guardian_pid))
            hub_watch(child, child->guardian.fd, 0, &failure);
        if (child_hold_program(child) == 0)
            hub_watch_program(child);
        else
            hub_watch_without_event(child);
    }
    spawner_unlock();
}

static void look_at(struct child *child)
{
    child_advance(child);
    hub_add_news(child);
    child_after_news(child); /* this may free the child */
}

/* Looks at the children whose guardian was going to write to the eventfd. */
static void look_at_asked(struct hub *hub)
{
    for (struct link *link = hub->asked.next, *next; link != &hub->asked; link = next) {
        next = link->next;
        look_at(link->child);
    }
}

/* The program is over, and its guardian has not told how yet, but is about to. A guardian that was stopped is
 * not woken here, but when the loop looks again: SIGCONT would trap a guardian that somebody traces
 * (ptrace(2), PTRACE_SEIZE). */
static void ask_for_status(struct child *child)
{
    atomic_store(&child->record->tell_requested, 1);
    list_append(&child->hub->asked, &child->asked, child);
    look_at(child); /* the guardian may have told just before it could see the request */
}

static void look_at_event(uint64_t data)
{
    struct child *child = child_find(data >> 1);
    if (!child)
        return;
    int is_program = data & 1;
    if (!is_program)
        child_reap_guardian(child);
    look_at(child);
    child = child_find(data >> 1);
    if (child && is_program && child->state == CHILD_RUNNING && child->record)
        ask_for_status(child);
}

/* Whether there may be news of the child that no event will report, or not for sure. That is so for a program
 * that is over and whose guardian is late: perhaps stopped, or it knows another hub. It is so if the pidfd
 * could not be watched. And it is so if the guardian was killed while it is not clear whether there is a
 * program. The loop looks again after a while. */
static int is_late(const struct child *child)
{
    if (child->state == CHILD_RUNNING && child->record && !atomic_load(&child->record->tell_requested))
        return 0; /* its guardian stays, and tells unasked: see spawner_stay() */
    if (child->state == CHILD_STARTING) /* or its guardian is about to leave, before start_again() */
        return child->lost_since.tv_sec || atomic_load(&child->record->phase) == PHASE_FAILED;
    return !child_is_final(child->state);
}

static int count_late(const struct hub *hub)
{
    int n = 0;
    for (struct link *link = hub->asked.next; link != &hub->asked; link = link->next)
        n += is_late(link->child);
    return n;
}

int hub_look_again(struct hub *hub)
{
    spawner_lock();
    spawner_check_copy();
    for (struct link *link = hub->asked.next, *next; link != &hub->asked; link = next) {
        next = link->next;
        if (link->child->state == CHILD_STARTING || (link->child->state == CHILD_RUNNING && is_late(link->child)))
            child_wake_guardian(link->child);
        look_at(link->child);
    }
    int late = count_late(hub);
    spawner_unlock();
    return late;
}

size_t hub_collect(struct hub *hub, uint64_t *ids, size_t room, int *late)
{
    enum { EVENTS = 64 };
    struct epoll_event events[EVENTS];
    spawner_lock();
    spawner_check_copy();
    hub->was_checked = !hub->released && hub_is_ours(hub); /* we must not take the events of a stranger's set */
    int n = hub->was_checked ? EVENTS : 0;
    while (n == EVENTS) {
        n = take_events(hub, events, EVENTS);
        int told = 0;
        for (int i = 0; i < n; i++) {
            told |= events[i].data.u64 == 0;
            look_at_event(events[i].data.u64);
        }
        if (told)
            look_at_asked(hub);
    }
    hub->was_checked = 0;
    size_t found = 0;
    while (found < room && hub->news.next != &hub->news) {
        struct child *child = hub->news.next->child;
        list_remove(&child->news);
        child->told = child->state;
        ids[found++] = child->id;
    }
    *late = hub->is_lost ? -1 : count_late(hub);
    spawner_unlock();
    return found;
}

void hub_put_back(struct hub *hub, const uint64_t *ids, size_t n)
{
    spawner_lock();
    spawner_check_copy();
    for (size_t i = 0; i < n; i++) {
        struct child *child = child_find(ids[i]);
        if (child && child->hub == hub)
            list_append(&hub->news, &child->news, child);
    }
    if (hub_is_surely_ours(hub))
        eventfd_write(hub->event.fd, 1);
    spawner_unlock();
}

void hub_release(struct hub *hub)
{
    spawner_lock();
    spawner_check_copy();
    hub->released = 1;
    close_if_idle(hub);
    free_if_unused(hub);
    spawner_unlock();
}

void hubs_drop(int close)
{
    for (struct hub *hub = hubs; hub; hub = hub->next) {
        if (close)
            close_both(hub);
        hub->epoll.fd = hub->event.fd = -1;
        hub->n_starting = hub->is_lost = hub->was_checked = 0; /* a copy has its own */
    }
}
