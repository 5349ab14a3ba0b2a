/* The exec of a file that may still be open for writing somewhere: "text file busy". */
#include "after_clone.h"

#include <errno.h>

/* A file that was written and closed a moment ago is busy as long as somebody has a duplicate of its
 * descriptor. That may be another start, between its first call and its second, or a fork of the host's. The
 * file is free when those have gone on. So the exec is tried again while other starts are under way, up to a
 * limit, and once more after that. */
long aiopidfd_try_exec(const struct record *record, const char *path)
{
    enum { PAUSE_MS = 1, TRIES = 100, LEAST = 3 };
    long result = SYS(__NR_execve, path, record->argv, record->envp);
    for (int i = 0; result == -ETXTBSY && i < TRIES; i++) {
        int others = atomic_load(record->starting) > 1;
        sleep_ms(PAUSE_MS);
        result = SYS(__NR_execve, path, record->argv, record->envp);
        if (!others && i >= LEAST)
            break;
    }
    return result;
}
