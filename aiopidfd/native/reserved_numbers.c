#define _GNU_SOURCE
#include "reserved_numbers.h"
#include "fd_identity.h"

#include <stddef.h>

/* The numbers are kept for long, and the host may have its own there: here a file that is not told is not
 * ours. */
static int is_surely_ours(const struct owned *held)
{
    return fds_compare(held->fd, &held->identity) == SAME;
}

static struct place {
    struct owned held; /* the placeholder's duplicate, or what was put here */
    int taken;
} places[LOW_PLACES];
static int have;

void reserve_hold(int placeholder)
{
    for (int i = 0; i < LOW_PLACES; i++) {
        if (have && places[i].taken)
            continue;
        if (have && is_surely_ours(&places[i].held))
            SYS(__NR_close, places[i].held.fd);
        int fd = fds_duplicate(placeholder);
        fds_own(&places[i].held, fd < 0 ? -1 : fd);
        places[i].taken = 0;
    }
    have = 1;
}

int reserve_take(int fd, int (*is_wanted)(const void *, int), const void *opaque)
{
    for (int i = 0; have && i < LOW_PLACES; i++) {
        struct place *place = &places[i];
        if (place->taken || place->held.fd < 0 || place->held.fd > fd)
            continue;
        if (is_wanted(opaque, place->held.fd))
            continue;
        if (!is_surely_ours(&place->held)) {
            place->held.fd = -1; /* the number is the host's by now */
            continue;
        }
        if (SYS(__NR_dup3, fd, place->held.fd, O_CLOEXEC) < 0)
            return -1;
        fds_own(&place->held, place->held.fd);
        place->taken = 1;
        return place->held.fd;
    }
    return -1;
}

void reserve_give(int number, const struct owned *placeholder)
{
    for (int i = 0; have && i < LOW_PLACES; i++) {
        struct place *place = &places[i];
        if (!place->taken || place->held.fd != number)
            continue;
        place->taken = 0;
        if (!is_surely_ours(&place->held))
            place->held.fd = -1;
        else if (!placeholder || !fds_are_ours(placeholder) || SYS(__NR_dup3, placeholder->fd, number, O_CLOEXEC) < 0)
            fds_close(&place->held);
        else
            fds_own(&place->held, number);
    }
}

void reserve_drop(void)
{
    for (int i = 0; have && i < LOW_PLACES; i++)
        fds_close(&places[i].held);
    have = 0;
}

void reserve_forget(void)
{
    have = 0;
}
