/* Children that a later start looks after: given up, or over but for a guardian that is about to leave. */
#include "child.h"

int child_is_over(const struct child *child)
{
    if (child->state == CHILD_FOREIGN)
        return 1;
    return child_is_final(child->state) && !child->record && child->guardian_reaped;
}

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
    int has_exited = child_is_final(child->state) || (child->state == CHILD_RUNNING && fd_is_readable(child->pidfd.fd));
    if (has_exited && !child->guardian_reaped)
        child_wake_guardian(child); /* else one that somebody has stopped would stay */
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
