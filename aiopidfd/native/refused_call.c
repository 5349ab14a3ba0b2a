/* The names of the calls that a guardian needs, for the error where a filter or a limit refuses one. */
#include "child.h"

const char *refused_call(int step)
{
    if (step == FAILED_TABLE)
        return "close_range(2)";
    switch (FAILED_CALL - step) {
    case __NR_close_range:
        return "close_range(2)";
    case __NR_kill:
        return "kill(2)";
    case __NR_lseek:
        return "lseek(2)";
    case __NR_ppoll:
        return "ppoll(2)";
    case __NR_prctl:
        return "prctl(2)";
    case __NR_signalfd4:
        return "signalfd4(2)";
    case __NR_waitid:
        return "waitid(2)";
    default:
        return NULL;
    }
}
