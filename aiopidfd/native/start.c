/* A start: everything that it needs is prepared, a guardian is made, and then the guardian may begin. */
#define _GNU_SOURCE
#include "child.h"
#include "lifelines.h"
#include "reserved_numbers.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void spawner_prepare(struct failure *failure)
{
    spawner_lock();
    spawner_check_copy();
    life_get(&failure->error, &failure->call);
    spawner_unlock();
}

void start_go(struct record *record, int go)
{
    if (atomic_exchange(&record->go, go) == GO_AWAITED)
        SYS(__NR_futex, &record->go, FUTEX_WAKE, INT_MAX);
}

/* Whether the child will put something else at this number, perhaps before it has copied what is there now. */
static int is_a_target(const void *opaque, int number)
{
    const struct record *record = opaque;
    for (unsigned long n = 0; n < record->n_steps; n++)
        if (record->steps[n].nr == __NR_dup3 && record->steps[n].arg[1] == number)
            return 1;
    return 0;
}

/* Moves descriptors with high numbers down for the time of the start: see reserved_numbers.h. */
static void move_down(struct child *child)
{
    struct record *record = child->record;
    for (size_t i = 0; i < child->n_fds; i++) {
        int from = child->fds[i].fd;
        int to = from > LOW_ENOUGH ? reserve_take(from, is_a_target, record) : -1;
        if (to < 0)
            continue;
        for (unsigned long n = 0; n < record->n_steps; n++)
            if (record->steps[n].nr == __NR_dup3 && record->steps[n].arg[0] == from)
                record->steps[n].arg[0] = to;
        if (record->cgroup == from)
            record->cgroup = to;
        if (record->kill_fd == from)
            record->kill_fd = to;
        fds_own(&child->fds[i], to); /* `from` still belongs to the caller, see spawner_spawn() */
    }
}

static void find_highest(struct child *child, int highest)
{
    struct record *record = child->record;
    for (size_t i = 0; i < record->n_fds; i++)
        if (record->fds[i].fd > highest)
            highest = record->fds[i].fd;
    record->highest = highest > 2 ? highest : 2;
}

/* Gets everything that can be got before there is a guardian. */
static int prepare(struct child *child, const struct plan *plan)
{
    child->fds = malloc((plan->n_fds + plan->n_borrowed + 1) * sizeof *child->fds);
    if (!record_new(child, plan) || !child->fds)
        return -ENOMEM;
    for (size_t i = 0; i < plan->n_fds; i++)
        fds_own(&child->fds[i], plan->fds[i]);
    for (size_t i = 0; i < plan->n_borrowed; i++)
        fds_own(&child->fds[plan->n_fds + i], plan->borrowed[i]);
    child->n_fds = plan->n_fds;
    child->record->fds = child->fds; /* the record has them until the program is told to run */
    child->record->n_fds = plan->n_fds + plan->n_borrowed;
    move_down(child);
    find_highest(child, plan->highest);
    return 0;
}

/* Closes the originals of the descriptors that were moved down. */
static void close_moved(const struct child *child, const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_fds; i++)
        if (child->fds[i].fd != plan->fds[i])
            SYS(__NR_close, plan->fds[i]);
}

/* Descriptors that were not moved stay the caller's. */
static void give_back(struct child *child, const struct plan *plan)
{
    for (size_t i = 0; i < child->n_fds; i++)
        if (child->fds[i].fd == plan->fds[i])
            child->fds[i].fd = -1;
}

struct child *spawner_spawn(const struct plan *plan, struct failure *failure)
{
    failure->error = -ENOMEM;
    failure->call = NULL;
    spawner_lock();
    spawner_check_copy();
    child_sweep();
    child_look_after_pidfds();
    child_reap_guardians_before_exec();
    struct child *child = child_new(plan->hub);
    if (!child) {
        spawner_unlock();
        return NULL;
    }
    const struct life *life = life_get(&failure->error, &failure->call); /* takes the low numbers too */
    if (life)
        failure->error = prepare(child, plan);
    if (failure->error == 0) {
        child->starts = 1;
        atomic_fetch_add(&starts_under_way, 1);
        if (child->hub) {
            child->hub->n_starting++;
            list_append(&child->hub->asked, &child->asked, child);
        }
        start_guardian(child, failure);
    }
    if (failure->error == 0) {
        close_moved(child, plan);
        start_go(child->record, GO_ON);
        spawner_unlock();
        return child;
    }
    give_back(child, plan);
    if (child->guardian_pid) {
        /* The guardian has not begun, and goes home. It only remains to reap it. */
        start_go(child->record, GO_HOME);
        child->abandoned = 1;
        child_close_handed_over(child); /* those that were moved down */
        child_end_start(child);
        child_after_news(child);
    } else {
        child_free(child);
    }
    spawner_unlock();
    return NULL;
}
