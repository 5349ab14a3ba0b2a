/* All children: the lists that they are in, their ids, and what each of them holds. */
#include "child.h"
#include "lifelines.h"
#include "reserved_numbers.h"

#include <stdlib.h>

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

void child_close_handed_over(struct child *child)
{
    if (!child->n_fds)
        return;
    int error;
    const char *call;
    const struct life *life = life_get(&error, &call);
    for (size_t i = 0; i < child->n_fds; i++) {
        reserve_give(child->fds[i].fd, life ? &life->read : NULL);
        fds_close(&child->fds[i]); /* not a number that holds the placeholder again by now */
    }
    child->n_fds = 0;
}
