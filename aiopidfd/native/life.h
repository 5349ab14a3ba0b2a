/* The lifelines: process-wide descriptors by which every guardian knows that we are still here.
 *
 * Made at the first spawn and kept; all close-on-exec. In a forked copy they are dropped at once
 * (child.c, become_copy()), so a copy neither keeps a guardian alive nor ends one.
 */
#ifndef AIOPIDFD_LIFE_H
#define AIOPIDFD_LIFE_H

#include "fds.h"

struct life {
    struct owned read;  /* a pipe that nothing is ever written to: hangs up when the writer closes */
    struct owned write; /* its only writer: closed by our death, and by our exec */
    struct owned self;  /* our pidfd: our death is seen even if some raw fork kept the writer */
};

/* All functions: call with the spawner's lock held. */

/* Those that there are, or new ones: *error is 0, or -errno and *call the name of the call that failed.
 * Whether the host has left them alone is looked at by each guardian before it does anything. */
const struct life *life_get(int *error, const char **call);

/* Looks whether they are ours still. A host that becomes a daemon closes descriptors that it does not
 * know: what is not ours any more is forgotten, and made anew by the next life_get(). */
void life_check(void);

/* Whether each pidfd has an inode of its own (pidfs, Linux 6.9). */
int life_has_pidfs(void);

/* In a forked copy: closes what is still ours. */
void life_drop(void);

/* In a raw copy: forgets them. They may be in a table that is the original's. */
void life_forget(void);

#endif
