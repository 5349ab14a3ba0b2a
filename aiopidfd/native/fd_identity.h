/* Descriptors of ours: close-on-exec, above the standard three, and closed only while they are ours.
 *
 * A host that becomes a daemon closes all numbers that it does not know, and opens files of its own there. So
 * for a descriptor that we keep long we also keep the identity of its file. We check the identity before any
 * use that could do harm, and before we close the descriptor.
 *
 * Only raw system calls are made here: the guardian uses this file too.
 */
#ifndef AIOPIDFD_FD_IDENTITY_H
#define AIOPIDFD_FD_IDENTITY_H

#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000 /* an inode never changes: a server of files is not asked, which may not answer */
#endif
#ifndef STATX_INO
#define STATX_INO 0x100U
#endif

/* The kernel's struct statx. Its own header cannot be had beside musl's sys/stat.h, which Python.h brings and
 * which declares it too, but only since musl 1.2.4. */
struct kernel_statx {
    uint64_t before[4];
    uint64_t stx_ino;
    uint64_t between[12];
    uint32_t stx_dev_major, stx_dev_minor;
    uint64_t after[14];
};
_Static_assert(sizeof(struct kernel_statx) == 256, "as the kernel writes it");

/* A file's identity, as statx(2) gives it. A pidfd has an inode of its own since Linux 6.9. Before that all
 * pidfds share one inode with every eventfd and epoll set. */
struct identity {
    uint64_t inode;
    uint32_t major, minor;
};

/* The identity is all zero where the kernel does not tell it: where a filter refuses statx(2), as old ones of
 * containers do, and fstat(2), too. Returns whether the descriptor is open. */
static inline int fds_identify(int fd, struct identity *identity)
{
    union {
        struct kernel_statx now;
        struct {
            uint64_t device, inode; /* what the kernel's struct stat begins with, where this is built */
        } before;
    } stat;
    identity->inode = 0;
    identity->major = identity->minor = 0;
    if (fd < 0)
        return 0;
    uint64_t inode = 0;
    long result = SYS(__NR_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &stat.now);
    if (result == 0) {
        identity->major = stat.now.stx_dev_major;
        identity->minor = stat.now.stx_dev_minor;
        inode = stat.now.stx_ino;
    }
#ifdef __NR_fstat
    else if (result != -EBADF && (result = SYS(__NR_fstat, fd, &stat)) == 0) {
        identity->major = (uint32_t)(stat.before.device >> 8 & 0xfff); /* makedev(3) */
        identity->minor = (uint32_t)((stat.before.device & 0xff) | (stat.before.device >> 12 & 0xfff00));
        inode = stat.before.inode;
    }
#endif
    atomic_signal_fence(memory_order_release); /* a guardian may be killed between two of these stores */
    identity->inode = inode;
    return result != -EBADF;
}

enum same { NOT_SAME, SAME, NOT_TOLD };

/* Whether this number is that file still. NOT_TOLD: it is open, but the kernel does not tell what it is. */
static inline enum same fds_compare(int fd, const struct identity *identity)
{
    struct identity now;
    if (!fds_identify(fd, &now))
        return NOT_SAME;
    if (now.inode == 0)
        return NOT_TOLD;
    return now.inode == identity->inode && now.major == identity->major && now.minor == identity->minor ? SAME : NOT_SAME;
}

/* Where nothing is told, a number is taken for ours. */
static inline int fds_is(int fd, const struct identity *identity)
{
    return fds_compare(fd, identity) != NOT_SAME;
}

/* A descriptor of ours. `fd` is -1 where there is none. */
struct owned {
    int fd;
    struct identity identity;
};

static inline void fds_own(struct owned *owned, int fd)
{
    owned->fd = fd;
    fds_identify(fd, &owned->identity);
}

static inline int fds_are_ours(const struct owned *owned)
{
    return fds_is(owned->fd, &owned->identity);
}

/* Closes the descriptor if it is still ours, and forgets it. */
static inline void fds_close(struct owned *owned)
{
    if (fds_are_ours(owned))
        SYS(__NR_close, owned->fd);
    owned->fd = -1;
}

/* Returns a duplicate, close-on-exec and above the standard three, or -errno. fcntl(2) says EINVAL where not
 * even the number 3 is allowed (RLIMIT_NOFILE). */
static inline int fds_duplicate(int fd)
{
    long result = SYS(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 3);
    return result == -EINVAL ? -EMFILE : (int)result;
}

/* Moves a descriptor off 0, 1 and 2. A host that runs with those closed will some day open something of its
 * own there. Returns 0, or -errno with *fd unchanged. */
static inline int fds_move_above_stdio(int *fd)
{
    if (*fd > 2)
        return 0;
    int moved = fds_duplicate(*fd);
    if (moved < 0)
        return moved;
    SYS(__NR_close, *fd);
    *fd = moved;
    return 0;
}

#endif
