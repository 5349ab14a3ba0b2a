/* The processes below one process, as Python sees them. */
#define PY_SSIZE_T_CLEAN
#include "module.h"

#include "descendants.h"
#include "syscall.h"

#include <errno.h>
#include <stdlib.h>

PyObject *native_signal_tree(PyObject *module, PyObject *args)
{
    (void)module;
    int pid, pidfd, root_too, sig, signalled, denied, error;
    if (!PyArg_ParseTuple(args, "iipi:signal_tree", &pid, &pidfd, &root_too, &sig))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = tree_signal(pid, pidfd, root_too, sig, &signalled, &denied);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("iii", signalled, denied, -error);
}

PyObject *native_kill_next(PyObject *module, PyObject *args)
{
    (void)module;
    int pid, pidfd, signalled, denied, error;
    if (!PyArg_ParseTuple(args, "ii:kill_next", &pid, &pidfd))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = tree_kill_next(pid, pidfd, &signalled, &denied);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("iii", signalled, denied, -error);
}

/* The members that were found. We have taken over their pidfds. */
struct found {
    int (*member)[2];
    size_t n, room;
    int is_short; /* there was no memory for one of them */
};

static int find(void *arg, int pid, int pidfd)
{
    struct found *found = arg;
    if (found->n == found->room) {
        size_t room = found->room ? 2 * found->room : 64;
        int(*larger)[2] = realloc(found->member, room * sizeof *larger);
        if (!larger) {
            found->is_short = 1;
            return 0;
        }
        found->member = larger;
        found->room = room;
    }
    found->member[found->n][0] = pid;
    found->member[found->n++][1] = pidfd;
    return 1;
}

PyObject *native_list_tree(PyObject *module, PyObject *args)
{
    (void)module;
    int pid, pidfd, error;
    if (!PyArg_ParseTuple(args, "ii:list_tree", &pid, &pidfd))
        return NULL;
    struct found found = {0};
    Py_BEGIN_ALLOW_THREADS
    error = tree_visit(pid, pidfd, find, &found);
    if (error == 0 && found.is_short)
        error = -ENOMEM;
    Py_END_ALLOW_THREADS
    PyObject *list = error < 0 ? NULL : PyList_New((Py_ssize_t)found.n);
    if (error < 0) {
        errno = -error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    for (size_t i = 0; list && i < found.n; i++) {
        PyObject *pair = Py_BuildValue("ii", found.member[i][0], found.member[i][1]);
        if (!pair)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, (Py_ssize_t)i, pair);
    }
    for (size_t i = 0; !list && i < found.n; i++)
        SYS(__NR_close, found.member[i][1]);
    free(found.member);
    return list;
}
