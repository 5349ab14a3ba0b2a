/* A thread waits for what becomes of a child. */
#define _GNU_SOURCE
#include "child.h"

#include <limits.h>
#include <linux/futex.h>
#include <poll.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

static long sleep_ms(int ms)
{
    struct timespec wait = timespec_of(ms * 1000000LL);
    return SYS(__NR_ppoll, NULL, 0, &wait, NULL, sizeof(uint64_t)) == -EINTR ? -EINTR : 0;
}

/* Looks at a word for a while before the caller sleeps on it. Returns whether the word has changed.
 *
 * A start takes some 200 us. It takes half as much again if the caller sleeps at once: then the kernel puts
 * the guardian's child on the processor that has become idle, and each of the three has to wake the next one
 * on another processor. So the caller stays awake, and only yields to other tasks that want to run here. It
 * does not do so while other threads start programs too, because they can use the processor. */
static int changes_soon(const atomic_int *word, int value)
{
    enum { AT_MOST_NS = 1000 * 1000 };
    int64_t deadline = now_ns() + AT_MOST_NS;
    do {
        SYS(__NR_sched_yield);
        if (atomic_load(word) != value)
            return 1;
    } while (atomic_load(&starts_under_way) == 1 && now_ns() < deadline);
    return 0;
}

/* Sleeps until there may be news, but at most this long. Returns 0 or -errno. Call it with the lock held; the
 * lock is given up meanwhile. The guardian wakes us; if the guardian is dead, the kernel does. A program
 * without a guardian is watched by its pidfd alone. */
static long sleep_on(struct child *child, int64_t ns)
{
    struct timespec wait = timespec_of(ns);
    struct record *record = child->record;
    long result;
    child->n_blocked++;
    if (child->state == CHILD_STARTING || child->state == CHILD_RUNNING) {
        atomic_store(&record->awaited, 1);
        int value = atomic_load(&record->alive), phase = atomic_load(&record->phase);
        int starts = child->state == CHILD_STARTING, seen = starts ? PHASE_STARTING : PHASE_RUNNING;
        spawner_unlock();
        /* The guardian is about to leave, before start_again(). Or it is gone, and it is not clear whether
         * there is a program. */
        if (value == 0 || (phase == PHASE_FAILED && record->failed_step == FAILED_LIFELINES))
            result = sleep_ms(1);
        else if (phase != seen || (starts && changes_soon(&record->alive, value)))
            result = 0;
        else
            result = SYS(__NR_futex, &record->alive, FUTEX_WAIT, value, &wait);
        if (atomic_load(&record->alive) == 0) /* the kernel wakes one thread, and that one wakes the others */
            SYS(__NR_futex, &record->alive, FUTEX_WAKE, INT_MAX);
    } else {
        struct pollfd pollfd = {.fd = child->pidfd.fd, .events = POLLIN};
        spawner_unlock();
        result = SYS(__NR_ppoll, &pollfd, 1, &wait, NULL, sizeof(uint64_t));
        if (result > 0 || (result < 0 && result != -EINTR)) { /* exited but not reaped, or poll fails */
            result = sleep_ms(1);
        }
    }
    spawner_lock();
    child->n_blocked--;
    return result;
}

static int is_over(const struct child *child)
{
    return child->state == CHILD_RUNNING && fd_is_readable(child->pidfd.fd);
}

int spawner_block(struct child *child, enum child_state from, int64_t nanoseconds)
{
    int64_t now = now_ns(), deadline = nanoseconds > INT64_MAX - now ? INT64_MAX : now + nanoseconds;
    int result = 0;
    spawner_lock();
    spawner_check_copy();
    for (;;) {
        child_advance(child);
        if (child->state != from || result == -EINTR)
            break;
        int64_t left = nanoseconds < 0 ? SIGNAL_CHECK_NS : deadline - now_ns();
        if (left <= 0) {
            result = -ETIMEDOUT;
            break;
        }
        result = (int)sleep_on(child, left < SIGNAL_CHECK_NS ? left : SIGNAL_CHECK_NS);
        /* A guardian that somebody has stopped would report neither a start nor an exit. */
        if (result == -ETIMEDOUT && (child->state == CHILD_STARTING || is_over(child)))
            child_wake_guardian(child);
        if (result == -ETIMEDOUT && child->state == CHILD_STARTING)
            child_reap_guardian(child); /* see guardian_has_left_memory() */
        /* The caller looks for a signal that came just before the sleep, or to another thread: neither has
         * interrupted it. */
        if (result == -ETIMEDOUT && left >= SIGNAL_CHECK_NS)
            result = -EINTR;
        if (from == CHILD_ORPHANED) { /* the caller knows how long to wait for the one who reaps it */
            child_advance(child);
            break;
        }
    }
    if (child->state != from || (result != -ETIMEDOUT && result != -EINTR))
        result = child->state;
    child_after_news(child);
    spawner_unlock();
    return result;
}

void spawner_finish(struct child *child, int64_t nanoseconds)
{
    struct timespec wait = timespec_of(nanoseconds);
    spawner_lock();
    spawner_check_copy();
    child_advance(child);
    int stays = child->record && child->record->stays;
    struct pollfd pollfd = {.fd = child->guardian.fd, .events = POLLIN};
    if (child_is_final(child->state) && !child->guardian_reaped && !stays && pollfd.fd >= 0) {
        spawner_unlock();
        SYS(__NR_ppoll, &pollfd, 1, &wait, NULL, sizeof(uint64_t));
        spawner_lock();
        child_advance(child);
    }
    child_after_news(child);
    child_sweep();
    spawner_unlock();
}
