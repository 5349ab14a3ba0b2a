/* The lifelines: process-wide descriptors by which every guardian knows that we are still here.
 *
 * They are made at the first spawn and then kept. All are close-on-exec. In a forked copy they are dropped at
 * once (forked_copies.c, become_copy()), so a copy neither keeps a guardian alive nor ends one.
 */
#ifndef AIOPIDFD_LIFELINES_H
#define AIOPIDFD_LIFELINES_H

#include "fd_identity.h"

struct life {
    struct owned read;  /* a pipe that nobody ever writes to: it hangs up when the writer closes */
    struct owned write; /* its only writer: closed by our death, and by our exec */
    struct owned self;  /* our pidfd: it shows our death even if some raw fork kept the writer */
    unsigned generation; /* another number each time that some of them are made */
};

/* All functions: call with the spawner's lock held. */

/* Returns the existing lifelines, or makes new ones. *error is 0, or -errno with the name of the failed call
 * in *call. Each guardian checks, before it does anything, whether the host has left the lifelines alone. */
const struct life *life_get(int *error, const char **call);

/* Checks whether the lifelines are still ours. A host that becomes a daemon closes descriptors that it does
 * not know. What is not ours any more is forgotten, and the next life_get() makes it anew. */
void life_check(void);

/* A guardian has found that the lifelines of this generation are not what they should be. What is not surely ours
 * is forgotten; and if nothing seems wrong, all of it. If others were made since, there is nothing to do. */
void life_doubt(unsigned generation);

/* Whether each pidfd has an inode of its own (pidfs, Linux 6.9). */
int life_has_pidfs(void);

/* For a forked copy: closes what is still ours. */
void life_drop(void);

/* For a raw copy: forgets the lifelines. They may be in a table that belongs to the original. */
void life_forget(void);

#endif
