/* Low numbers: a handful of places at the bottom of the descriptor table, held for starts.
 *
 * A child gets a table of its own by a call that copies all below the highest number it needs. Where the
 * host has thousands of descriptors open, those of a start are among the highest: so for the time of a
 * start they are moved to numbers that were taken early. Where none is free the start works all the same,
 * and costs what the table is long.
 *
 * All functions: call with the spawner's lock held.
 */
#ifndef AIOPIDFD_LOW_H
#define AIOPIDFD_LOW_H

#include "fds.h"

enum {
    LOW_PLACES = 9,  /* three programs with three pipes each can be under way at once */
    LOW_ENOUGH = 63, /* the kernel's smallest table has 64 numbers: below that nothing is won */
};

/* Takes the numbers, as far as they are to be had. `placeholder`: whatever keeps a number occupied. */
void low_hold(int placeholder);

/* Puts a duplicate of `fd` at a free place and returns its number; -1 where there is none. */
int low_take(int fd);

/* The place is free again, and what was put there is closed. Not one of ours: nothing happens. */
void low_give(int number, const struct owned *placeholder);

/* In a forked copy: closes what is still ours. In a raw copy: forgets it. */
void low_drop(void);
void low_forget(void);

#endif
