/* The lifelines: process-wide descriptors by which every guardian knows that we are still here.
 *
 * Made at the first spawn and kept; all close-on-exec. In a forked copy they are dropped at once
 * (spawner.c's at-fork handler), so a copy neither keeps a guardian alive nor ends one.
 */
#ifndef AIOPIDFD_LIFE_H
#define AIOPIDFD_LIFE_H

struct life {
    int read_fd;    /* a pipe that nothing is ever written to: hangs up when the writer closes */
    int write_fd;   /* its only writer: closed by our death, and by our exec */
    int self_fd;    /* our pidfd: our death is seen even if some raw fork kept the writer */
};

/* All functions: call with the spawner's lock held. */
int life_get(struct life *life); /* 0 or -errno; makes them if need be */
void life_drop(void);            /* async-signal-safe: closes them, in a forked copy */

#endif
