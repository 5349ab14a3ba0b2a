/* A guardian that somebody has stopped, perhaps with its process group, is continued: whenever it has something to
 * do for us, and when its program is over and it has not told so. */
#include "child.h"

void child_wake_guardian(struct child *child)
{
    if (child_hold_guardian(child) == 0)
        SYS(__NR_pidfd_send_signal, child->guardian.fd, SIGCONT, 0, 0);
}
