/* The types that Python sees: a child, and a loop's hub; and how an error is raised. */
#define PY_SSIZE_T_CLEAN
#include "python_types.h"

#include <errno.h>
#include <string.h>

PyObject *raise_errno(int error)
{
    errno = error < 0 ? -error : error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* A call that a filter refuses is named. Otherwise nobody would know what to allow. */
PyObject *raise_failure(const struct failure *failure)
{
    int number = -failure->error;
    if (!failure->call || (number != EPERM && number != EACCES && number != ENOSYS))
        return raise_errno(number);
    PyObject *text = PyUnicode_FromFormat("%s (for %s)", strerror(number), failure->call);
    PyObject *arguments = text ? Py_BuildValue("iN", number, text) : NULL;
    if (arguments)
        PyErr_SetObject(PyExc_OSError, arguments);
    Py_XDECREF(arguments);
    return NULL;
}

/* Not Py_RETURN_NONE: the headers of 3.12 and later treat None as immortal and take no reference. Code that
 * is compiled with them does so even when it runs on 3.11. */
PyObject *none(void)
{
    return Py_NewRef(Py_None);
}

/* ---- Hub ------------------------------------------------------------------------------------- */

static void hub_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (hub_of(self))
        hub_release(hub_of(self));
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static int append_id(PyObject *list, uint64_t number)
{
    PyObject *id = PyLong_FromUnsignedLongLong(number);
    int result = id ? PyList_Append(list, id) : -1;
    Py_XDECREF(id);
    return result;
}

static PyObject *hub_collect_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    enum { ROOM = 256 };
    uint64_t ids[ROOM];
    int late = 0;
    PyObject *list = PyList_New(0);
    if (!list)
        return NULL;
    size_t n = ROOM, told = ROOM;
    while (n == ROOM && told == ROOM) {
        n = hub_collect(hub_of(self), ids, ROOM, &late);
        for (told = 0; told < n; told++)
            if (append_id(list, ids[told]) < 0)
                break;
    }
    PyObject *result = told == n ? Py_BuildValue("Oi", list, late) : NULL;
    if (!result) { /* there is no memory: what was taken would be told of never again */
        hub_put_back(hub_of(self), ids + told, n - told);
        for (Py_ssize_t i = 0; i < PyList_Size(list); i++) {
            ids[0] = PyLong_AsUnsignedLongLong(PyList_GetItem(list, i));
            hub_put_back(hub_of(self), ids, 1);
        }
    }
    Py_DECREF(list);
    return result;
}

static PyObject *hub_look_again_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(hub_look_again(hub_of(self)));
}

/* ---- Child ----------------------------------------------------------------------------------- */

static void child_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (child_of(self))
        spawner_release(child_of(self));
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *child_poll(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(spawner_poll(child_of(self)));
}

static PyObject *child_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    spawner_close(child_of(self));
    return none();
}

static PyObject *child_kill(PyObject *self, PyObject *unused)
{
    (void)unused;
    spawner_kill(child_of(self));
    return none();
}

static PyObject *child_give_up_status(PyObject *self, PyObject *unused)
{
    (void)unused;
    spawner_give_up_status(child_of(self));
    return none();
}

static PyObject *child_send_signal(PyObject *self, PyObject *arg)
{
    long sig = PyLong_AsLong(arg);
    if (sig == -1 && PyErr_Occurred())
        return NULL;
    int result = sig < 0 || sig > 64 ? -EINVAL : spawner_signal(child_of(self), (int)sig);
    return result < 0 ? raise_errno(result) : none();
}

static PyObject *child_dup_pidfd(PyObject *self, PyObject *unused)
{
    (void)unused;
    int fd = spawner_dup_pidfd(child_of(self));
    return fd < 0 ? raise_errno(fd) : PyLong_FromLong(fd);
}

/* block(state, nanoseconds): nanoseconds < 0 means without a limit. */
static PyObject *child_block(PyObject *self, PyObject *args)
{
    int from, state;
    long long nanoseconds;
    if (!PyArg_ParseTuple(args, "iL:block", &from, &nanoseconds))
        return NULL;
    do {
        Py_BEGIN_ALLOW_THREADS
        state = spawner_block(child_of(self), (enum child_state)from, nanoseconds);
        Py_END_ALLOW_THREADS
        if (state == -EINTR && PyErr_CheckSignals() < 0)
            return NULL;
    } while (state == -EINTR && nanoseconds < 0);
    if (state == -EINTR || state == -ETIMEDOUT)
        state = from;
    return PyLong_FromLong(state);
}

static PyObject *child_finish(PyObject *self, PyObject *arg)
{
    long long nanoseconds = PyLong_AsLongLong(arg);
    if (nanoseconds == -1 && PyErr_Occurred())
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    spawner_finish(child_of(self), nanoseconds < 0 ? 0 : nanoseconds);
    Py_END_ALLOW_THREADS
    return none();
}

static PyObject *child_wake(PyObject *self, PyObject *unused)
{
    (void)unused;
    spawner_wake(child_of(self));
    return none();
}

static PyObject *child_stay(PyObject *self, PyObject *unused)
{
    (void)unused;
    int fd = spawner_stay(child_of(self));
    return fd < 0 ? raise_errno(fd) : PyLong_FromLong(fd);
}

static PyObject *child_failure(PyObject *self, PyObject *unused)
{
    (void)unused;
    int error, failed_step;
    const char *call;
    spawner_error(child_of(self), &error, &failed_step, &call);
    return Py_BuildValue("iiz", error, failed_step, call);
}

static PyObject *child_usage(const struct rusage *u)
{
    return Py_BuildValue("ddllllllllllllll",
                         (double)u->ru_utime.tv_sec + (double)u->ru_utime.tv_usec * 1e-6,
                         (double)u->ru_stime.tv_sec + (double)u->ru_stime.tv_usec * 1e-6, u->ru_maxrss,
                         u->ru_ixrss, u->ru_idrss, u->ru_isrss, u->ru_minflt, u->ru_majflt, u->ru_nswap,
                         u->ru_inblock, u->ru_oublock, u->ru_msgsnd, u->ru_msgrcv, u->ru_nsignals,
                         u->ru_nvcsw, u->ru_nivcsw);
}

static PyObject *child_result(PyObject *self, PyObject *unused)
{
    (void)unused;
    int code, status;
    struct rusage rusage;
    int has_usage = spawner_result(child_of(self), &code, &status, &rusage);
    PyObject *usage = has_usage ? child_usage(&rusage) : none();
    if (!usage)
        return NULL;
    return Py_BuildValue("iiN", code, status, usage);
}

static PyMethodDef child_methods[] = {
    {"poll", child_poll, METH_NOARGS, "Reaps and returns the state, without blocking."},
    {"close", child_close, METH_NOARGS, "Closes the program's pidfd, in a final state."},
    {"kill", child_kill, METH_NOARGS, "SIGKILL now, or as soon as the program is known."},
    {"send_signal", child_send_signal, METH_O, "Signals the program through its pidfd."},
    {"give_up_status", child_give_up_status, METH_NOARGS, "An ORPHANED child that exited becomes UNKNOWN."},
    {"dup_pidfd", child_dup_pidfd, METH_NOARGS, "A duplicate of the program's pidfd, while it runs."},
    {"block", child_block, METH_VARARGS,
     "block(state, nanoseconds): waits, without the GIL, as long as that is the state; returns the state. It may "
     "return early with the same state."},
    {"finish", child_finish, METH_O,
     "finish(nanoseconds): waits until the guardian of a child that is over is reaped, so long at most."},
    {"wake", child_wake, METH_NOARGS, "Continues the guardian, if somebody has stopped it."},
    {"stay", child_stay, METH_NOARGS,
     "The guardian stays until all that the program started is gone. A duplicate of its pidfd."},
    {"failure", child_failure, METH_NOARGS, "(errno, step, call) of a child that FAILED; the call by name, if one was refused."},
    {"result", child_result, METH_NOARGS, "(code, status, rusage or None) of a child that EXITED."},
    {NULL, NULL, 0, NULL},
};

static PyObject *get_state(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(spawner_state(child_of(self)));
}

static PyObject *get_id(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(spawner_id(child_of(self)));
}

static PyObject *get_pid(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(spawner_pid(child_of(self)));
}

static PyObject *get_guardian_pid(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(spawner_guardian_pid(child_of(self)));
}

static PyObject *get_pidfd(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(spawner_pidfd(child_of(self)));
}

static PyGetSetDef child_getset[] = {
    {"state", get_state, NULL, "As poll() found it.", NULL},
    {"pid", get_pid, NULL, "The program's pid; 0 while STARTING.", NULL},
    {"pidfd", get_pidfd, NULL, "The program's pidfd while it runs, or -1.", NULL},
    {"guardian_pid", get_guardian_pid, NULL, "The guardian's pid.", NULL},
    {"id", get_id, NULL, "What hub.collect() names it by.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot child_slots[] = {
    {Py_tp_dealloc, child_dealloc},
    {Py_tp_methods, child_methods},
    {Py_tp_getset, child_getset},
    {Py_tp_doc, "A spawned child and its guardian. Made by spawn()."},
    {0, NULL},
};

PyType_Spec child_spec = {
    .name = "aiopidfd._native.Child",
    .basicsize = sizeof(ChildObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = child_slots,
};

static PyObject *hub_adopt_method(PyObject *self, PyObject *arg)
{
    struct state *state = PyType_GetModuleState(Py_TYPE(self));
    if (!state || !Py_IS_TYPE(arg, (PyTypeObject *)state->child_type)) {
        PyErr_SetString(PyExc_TypeError, "adopt() takes a Child");
        return NULL;
    }
    hub_adopt(hub_of(self), child_of(arg));
    return none();
}

static PyObject *get_hub_fd(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(hub_fd(hub_of(self)));
}

static PyMethodDef hub_methods[] = {
    {"adopt", hub_adopt_method, METH_O, "adopt(child): hears of it from now on, and no other hub does."},
    {"collect", hub_collect_method, METH_NOARGS,
     "collect() -> (ids, late): moves on all children of which there is news. late: of so many no event may tell; -1: it is lost."},
    {"look_again", hub_look_again_method, METH_NOARGS, "Looks at those that are late; how many are left."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef hub_getset[] = {
    {"fd", get_hub_fd, NULL, "Readable when collect() has news; -1 if it is not ours any more.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot hub_slots[] = {
    {Py_tp_dealloc, hub_dealloc},
    {Py_tp_methods, hub_methods},
    {Py_tp_getset, hub_getset},
    {Py_tp_doc, "By which a loop hears of its children. Made by hub()."},
    {0, NULL},
};

PyType_Spec hub_spec = {
    .name = "aiopidfd._native.Hub",
    .basicsize = sizeof(HubObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hub_slots,
};
