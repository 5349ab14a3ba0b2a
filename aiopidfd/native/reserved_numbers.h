/* The reserve: a few places at the bottom of the descriptor table, held for starts.
 *
 * A child gets its own table by a call that copies everything below the highest number that the child needs.
 * If the host has thousands of descriptors open, those of a start are among the highest. So for the time of a
 * start they are moved to low numbers that we took early. If no low number is free, the start still works,
 * but its cost grows with the length of the table.
 *
 * All functions: call with the spawner's lock held.
 */
#ifndef AIOPIDFD_RESERVED_NUMBERS_H
#define AIOPIDFD_RESERVED_NUMBERS_H

#include "fd_identity.h"

enum {
    LOW_PLACES = 9,  /* three programs with three pipes each can be under way at once */
    LOW_ENOUGH = 63, /* the kernel's smallest table has 64 numbers: below that we gain nothing */
};

/* Takes the low numbers, as far as they are free. `placeholder` may be any descriptor; its duplicates keep
 * the numbers occupied. */
void reserve_hold(int placeholder);

/* Puts a duplicate of `fd` at a free place and returns its number, or -1 if no place is free. A number that
 * is_wanted() for something else is not taken. */
int reserve_take(int fd, int (*is_wanted)(const void *opaque, int number), const void *opaque);

/* Frees the place again, and closes what was put there. If the number is not one of ours, nothing happens. */
void reserve_give(int number, const struct owned *placeholder);

/* In a forked copy: closes the numbers that are still ours. In a raw copy: forgets them. */
void reserve_drop(void);
void reserve_forget(void);

#endif
