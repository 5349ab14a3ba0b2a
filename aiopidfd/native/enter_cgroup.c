/* The child enters its cgroup by itself, if it could not be born in it, as clone3(2) would have it. */
#include "after_clone.h"

#include <fcntl.h>

/* Called while the child still has all our rights. */
void aiopidfd_enter_cgroup(struct record *record)
{
    long fd = SYS(__NR_openat, record->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    long result = fd < 0 ? fd : SYS(__NR_write, fd, "0", 1); /* 0 means the process that writes it */
    if (result < 0)
        child_fails(record, FAILED_CGROUP, result);
    SYS(__NR_close, fd);
}
