/* aiopidfd._native: the Python side of the spawner. It only converts between the two. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "spawned.h"
#include "lines.h"
#include "pidinfo.h"
#include "probe.h"
#include "record.h"
#include "spawner.h"
#include "syscall.h"
#include "tree.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

/* Linux 4.13; older headers lack it. */
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

extern char **environ;

/* ---- Tuples to plain C ----------------------------------------------------------------------- */

/* A tuple of bytes as a NULL-terminated array, which borrows from the tuple. Free it with PyMem_Free. */
static const char **borrow_strings(PyObject *tuple)
{
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "expected a tuple of bytes");
        return NULL;
    }
    Py_ssize_t n = PyTuple_Size(tuple);
    const char **strings = PyMem_Calloc((size_t)n + 1, sizeof *strings);
    if (!strings)
        return (const char **)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) {
        char *string;
        /* As no length is asked for, this also refuses a NUL inside. */
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, i), &string, NULL) < 0) {
            PyMem_Free(strings);
            return NULL;
        }
        strings[i] = string;
    }
    return strings;
}

/* Our environment as it is in C now, in one block. Free it with PyMem_Free. Each string is measured and
 * copied at once, because a thread in another interpreter or in a C library may be changing it. */
static const char **copy_environ(void)
{
    size_t n = 0, used = 0;
    while (environ && environ[n])
        n++;
    size_t vector = (n + 1) * sizeof(char *), size = vector + 8192;
    char *block = PyMem_Malloc(size);
    size_t i;
    for (i = 0; block && i < n && environ[i]; i++) {
        size_t length = strlen(environ[i]);
        if (vector + used + length + 1 > size) {
            size = 2 * size + length;
            char *larger = PyMem_Realloc(block, size);
            if (!larger) {
                PyMem_Free(block);
                return (const char **)PyErr_NoMemory();
            }
            block = larger;
        }
        char *copy = block + vector + used;
        memcpy(copy, environ[i], length);
        copy[length] = 0;
        ((size_t *)block)[i] = used; /* this is an offset until the block has its final place */
        used += strlen(copy) + 1;
    }
    if (!block)
        return (const char **)PyErr_NoMemory();
    n = i;
    const char **strings = (const char **)block;
    for (size_t i = 0; i < n; i++)
        strings[i] = block + vector + ((size_t *)block)[i];
    strings[n] = NULL;
    return strings;
}

/* Appends one entry of a mapping to the block, as NAME=value with its NUL. Returns 0, or -1 with an
 * exception. */
static int append_entry(PyObject *item, char **block, size_t *used, size_t *room)
{
    PyObject *name = NULL, *value = NULL, *pair[2];
    char *text[2];
    Py_ssize_t length[2];
    int result = -1;
    if (!PyTuple_Check(item) || PyTuple_Size(item) != 2) {
        PyErr_SetString(PyExc_TypeError, "env must be a mapping");
        return -1;
    }
    pair[0] = PyTuple_GetItem(item, 0);
    pair[1] = PyTuple_GetItem(item, 1);
    /* The converter refuses a NUL inside. */
    if (!PyUnicode_FSConverter(pair[0], &name) || !PyUnicode_FSConverter(pair[1], &value) ||
        PyBytes_AsStringAndSize(name, &text[0], &length[0]) < 0 ||
        PyBytes_AsStringAndSize(value, &text[1], &length[1]) < 0)
        goto done;
    if (memchr(text[0], '=', (size_t)length[0])) {
        PyErr_SetString(PyExc_ValueError, "illegal environment variable name");
        goto done;
    }
    size_t size = (size_t)length[0] + (size_t)length[1] + 2;
    if (*used + size > *room) {
        *room = 2 * *room + size;
        char *larger = PyMem_Realloc(*block, *room);
        if (!larger) {
            PyErr_NoMemory();
            goto done;
        }
        *block = larger;
    }
    char *entry = *block + *used;
    memcpy(entry, text[0], (size_t)length[0]);
    entry[length[0]] = '=';
    memcpy(entry + length[0] + 1, text[1], (size_t)length[1] + 1);
    *used += size;
    result = 0;
done:
    Py_XDECREF(name);
    Py_XDECREF(value);
    return result;
}

/* A mapping as an environment, in one block. Free it with PyMem_Free. */
static const char **convert_environment(PyObject *mapping)
{
    PyObject *items = PyMapping_Items(mapping); /* this is a new list, so changes of the mapping do no harm */
    if (!items)
        return NULL;
    size_t n = (size_t)PyList_Size(items), vector = (n + 1) * sizeof(char *);
    size_t used = vector, room = vector + 4096;
    char *block = PyMem_Malloc(room);
    if (!block)
        PyErr_NoMemory();
    for (size_t i = 0; block && i < n; i++) {
        size_t offset = used;
        if (append_entry(PyList_GetItem(items, (Py_ssize_t)i), &block, &used, &room) < 0) {
            PyMem_Free(block);
            block = NULL;
        } else {
            ((size_t *)block)[i] = offset; /* this is an offset until the block has its final place */
        }
    }
    Py_DECREF(items);
    const char **strings = (const char **)block;
    for (size_t i = 0; block && i < n; i++)
        strings[i] = block + ((size_t *)block)[i];
    if (block)
        strings[n] = NULL;
    return strings;
}

static int borrow_step(PyObject *tuple, struct plan_step *step)
{
    Py_ssize_t n = PyTuple_Check(tuple) ? PyTuple_Size(tuple) : 0;
    if (n < 1 || n > 6) {
        PyErr_SetString(PyExc_TypeError, "a step is a tuple of a system call's number and up to 5 arguments");
        return -1;
    }
    step->nr = PyLong_AsLong(PyTuple_GetItem(tuple, 0));
    if (step->nr == -1 && PyErr_Occurred())
        return -1;
    for (Py_ssize_t i = 1; i < n; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        if (PyBytes_Check(item)) {
            char *data;
            Py_ssize_t size;
            if (PyBytes_AsStringAndSize(item, &data, &size) < 0)
                return -1;
            step->data[i - 1] = data;
            step->size[i - 1] = (size_t)size + 1; /* the NUL is included, as it may be a path */
        } else {
            step->arg[i - 1] = PyLong_AsLong(item);
            if (step->arg[i - 1] == -1 && PyErr_Occurred())
                return -1;
        }
    }
    return 0;
}

static struct plan_step *borrow_steps(PyObject *tuple, size_t *n_steps)
{
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "steps must be a tuple");
        return NULL;
    }
    Py_ssize_t n = PyTuple_Size(tuple);
    struct plan_step *steps = PyMem_Calloc((size_t)n + 1, sizeof *steps);
    if (!steps)
        return (struct plan_step *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++)
        if (borrow_step(PyTuple_GetItem(tuple, i), &steps[i]) < 0) {
            PyMem_Free(steps);
            return NULL;
        }
    *n_steps = (size_t)n;
    return steps;
}

static int *copy_fds(PyObject *list, size_t *n_fds)
{
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "fds must be a list");
        return NULL;
    }
    PyObject *tuple = PyList_AsTuple(list); /* an item's __index__ may change the list */
    if (!tuple)
        return NULL;
    Py_ssize_t n = PyTuple_Size(tuple);
    int *fds = PyMem_Calloc((size_t)n + 1, sizeof *fds);
    if (!fds)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; fds && i < n; i++) {
        long fd = PyLong_AsLong(PyTuple_GetItem(tuple, i));
        fds[i] = (int)fd;
        if (fd >= 0 && fd <= INT_MAX)
            continue;
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "not a descriptor");
        PyMem_Free(fds);
        fds = NULL;
    }
    Py_DECREF(tuple);
    *n_fds = (size_t)n;
    return fds;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

static PyObject *raise_errno(int error)
{
    errno = error < 0 ? -error : error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* A call that a filter refuses is named. Otherwise nobody would know what to allow. */
static PyObject *raise_failure(const struct failure *failure)
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
static PyObject *none(void)
{
    return Py_NewRef(Py_None);
}

struct state {
    PyObject *child_type, *hub_type;
};

/* ---- Hub ------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct hub *hub;
} HubObject;

static struct hub *hub_of(PyObject *self)
{
    return ((HubObject *)self)->hub;
}

static void hub_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (hub_of(self))
        hub_release(hub_of(self));
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *hub_collect_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    enum { ROOM = 256 };
    uint64_t ids[ROOM];
    int late = 0;
    PyObject *list = PyList_New(0);
    size_t n = ROOM;
    while (list && n == ROOM) {
        n = hub_collect(hub_of(self), ids, ROOM, &late);
        for (size_t i = 0; list && i < n; i++) {
            PyObject *id = PyLong_FromUnsignedLongLong(ids[i]);
            if (!id || PyList_Append(list, id) < 0)
                Py_CLEAR(list);
            Py_XDECREF(id);
        }
    }
    return list ? Py_BuildValue("Ni", list, late) : NULL;
}

static PyObject *hub_look_again_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(hub_look_again(hub_of(self)));
}

/* ---- Child ----------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct child *child;
} ChildObject;

static struct child *child_of(PyObject *self)
{
    return ((ChildObject *)self)->child;
}

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
    spawner_error(child_of(self), &error, &failed_step);
    return Py_BuildValue("ii", error, failed_step);
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
    {"stay", child_stay, METH_NOARGS,
     "The guardian stays until all that the program started is gone. A duplicate of its pidfd."},
    {"failure", child_failure, METH_NOARGS, "(errno, step) of a child that FAILED."},
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

static PyType_Spec child_spec = {
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
     "collect() -> (ids, late): moves on all children of which there is news. late: of so many no event may tell."},
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

static PyType_Spec hub_spec = {
    .name = "aiopidfd._native.Hub",
    .basicsize = sizeof(HubObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hub_slots,
};

/* ---- Functions ------------------------------------------------------------------------------- */

/* An object of one of our types. Each type holds one pointer. */
static PyObject *allocate(PyObject *type)
{
    allocfunc make = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    return make((PyTypeObject *)type, 0);
}

static int take_hub(PyObject *module, PyObject *object, struct hub **hub)
{
    struct state *state = PyModule_GetState(module);
    *hub = NULL;
    if (object == Py_None)
        return 0;
    if (!Py_IS_TYPE(object, (PyTypeObject *)state->hub_type)) {
        PyErr_SetString(PyExc_TypeError, "hub must be a Hub or None");
        return -1;
    }
    *hub = hub_of(object);
    return 0;
}

static int check_call(long call)
{
    if (call == CALL_CLONE || (call == CALL_CLONE3 && AIOPIDFD_HAVE_CLONE3))
        return 0;
    PyErr_Format(PyExc_ValueError, "no such way to clone: %ld", call);
    return -1;
}

static PyObject *native_hub(PyObject *module, PyObject *unused)
{
    (void)unused;
    struct state *state = PyModule_GetState(module);
    HubObject *object = (HubObject *)allocate(state->hub_type);
    if (!object)
        return NULL;
    struct failure failure = {0};
    object->hub = hub_new(&failure);
    if (object->hub)
        return (PyObject *)object;
    Py_DECREF(object);
    return raise_failure(&failure);
}

static PyObject *native_prepare(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    struct failure failure = {0};
    spawner_prepare(&failure);
    return failure.error < 0 ? raise_failure(&failure) : none();
}

static PyObject *native_spawn(PyObject *module, PyObject *args)
{
    int call, private_memory, private_table, highest, contain, cgroup, kill_fd;
    PyObject *hub, *steps, *paths, *argv, *env, *fds, *borrowed, *result = NULL;
    if (!PyArg_ParseTuple(args, "OippipiiOOOOOO:spawn", &hub, &call, &private_memory, &private_table, &highest, &contain,
                          &cgroup, &kill_fd, &steps, &paths, &argv, &env, &fds, &borrowed))
        return NULL;
    if (check_call(call) < 0)
        return NULL;

    struct plan plan = {
        .call = (enum clone_call)call,
        .private_memory = private_memory,
        .private_table = private_table,
        .highest = highest,
        .contain = contain,
        .cgroup = cgroup,
        .kill_fd = kill_fd,
    };
    struct plan_step *c_steps = borrow_steps(steps, &plan.n_steps);
    const char **c_paths = c_steps ? borrow_strings(paths) : NULL;
    const char **c_argv = c_paths ? borrow_strings(argv) : NULL;
    const char **c_env = !c_argv ? NULL : env == Py_None ? copy_environ() : convert_environment(env);
    int *c_borrowed = c_env ? copy_fds(borrowed, &plan.n_borrowed) : NULL;
    int *c_fds = c_borrowed ? copy_fds(fds, &plan.n_fds) : NULL;
    if (!c_fds || take_hub(module, hub, &plan.hub) < 0)
        goto done;
    plan.steps = c_steps;
    plan.paths = c_paths;
    plan.argv = c_argv;
    plan.envp = c_env;
    plan.fds = c_fds;
    plan.borrowed = c_borrowed;

    struct state *state = PyModule_GetState(module);
    ChildObject *object = (ChildObject *)allocate(state->child_type);
    if (!object)
        goto done;
    struct failure failure = {0};
    object->child = spawner_spawn(&plan, &failure);
    if (object->child) {
        result = (PyObject *)object;
        /* This is done here and not in Python, where a signal's exception may come before the next line. So
         * each descriptor has one owner at any time. (Cutting a list short cannot fail.) */
        PyList_SetSlice(fds, 0, PyList_Size(fds), NULL);
    } else {
        Py_DECREF(object);
        raise_failure(&failure);
    }
done:
    PyMem_Free(c_fds);
    PyMem_Free(c_borrowed);
    PyMem_Free((void *)c_env);
    PyMem_Free((void *)c_argv);
    PyMem_Free((void *)c_paths);
    PyMem_Free(c_steps);
    return result;
}

/* As in os.fork(), the GIL is held all the time, and the interpreter's own handlers run before and after
 * it. */
static PyObject *native_fork(PyObject *module, PyObject *args)
{
    PyObject *hub_object;
    struct hub *hub;
    int call;
    if (!PyArg_ParseTuple(args, "Oi:fork", &hub_object, &call) || check_call(call) < 0 ||
        take_hub(module, hub_object, &hub) < 0)
        return NULL;
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_RuntimeError, "fork not supported for subinterpreters");
        return NULL;
    }
    struct state *state = PyModule_GetState(module);
    ChildObject *object = (ChildObject *)allocate(state->child_type);
    if (!object)
        return NULL;
    struct failure failure = {0};
    PyOS_BeforeFork();
    object->child = spawner_fork((enum clone_call)call, hub, &failure);
    if (object->child || failure.error)
        PyOS_AfterFork_Parent();
    else
        PyOS_AfterFork_Child();
    if (object->child)
        return (PyObject *)object;
    Py_DECREF(object);
    return failure.error ? raise_failure(&failure) : none();
}

static PyObject *native_sweep(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromLong(spawner_sweep());
}

static PyObject *native_records(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromLong(spawner_records());
}

static PyObject *native_has_calls(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyBool_FromLong(probe_calls());
}

static PyObject *native_probe(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    struct probe probe;
    if (probe_kernel(&probe) < 0)
        return PyErr_NoMemory();
    return Py_BuildValue("{sisisisisisisi}", "clone3", probe.clone3, "clone", probe.clone, "waitid", probe.waitid,
                         "pidfd_open", probe.pidfd_open, "pidfd_send_signal", probe.pidfd_send_signal,
                         "close_range", probe.close_range, "exit_info", probe.exit_info);
}

static PyObject *native_pidfd_getfd(PyObject *module, PyObject *args)
{
    (void)module;
    int pidfd, number;
    if (!PyArg_ParseTuple(args, "ii:pidfd_getfd", &pidfd, &number))
        return NULL;
    long fd = SYS(__NR_pidfd_getfd, pidfd, number, 0);
    if (fd < 0) {
        errno = (int)-fd;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(fd);
}

/* ---- A tree ---------------------------------------------------------------------------------- */

static PyObject *native_signal_tree(PyObject *module, PyObject *args)
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

static PyObject *native_kill_next(PyObject *module, PyObject *args)
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
};

static int find(void *arg, int pid, int pidfd)
{
    struct found *found = arg;
    if (found->n == found->room) {
        size_t room = found->room ? 2 * found->room : 64;
        int(*larger)[2] = realloc(found->member, room * sizeof *larger);
        if (!larger)
            return 0;
        found->member = larger;
        found->room = room;
    }
    found->member[found->n][0] = pid;
    found->member[found->n++][1] = pidfd;
    return 1;
}

static PyObject *native_list_tree(PyObject *module, PyObject *args)
{
    (void)module;
    int pid, pidfd, error;
    if (!PyArg_ParseTuple(args, "ii:list_tree", &pid, &pidfd))
        return NULL;
    struct found found = {0};
    Py_BEGIN_ALLOW_THREADS
    error = tree_visit(pid, pidfd, find, &found);
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

static PyObject *native_filesystem(PyObject *module, PyObject *arg)
{
    (void)module;
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0)
        return NULL;
    struct statfs stat;
    if (fstatfs(fd, &stat) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong((long)stat.f_type);
}

static PyObject *native_exit_status(PyObject *module, PyObject *arg)
{
    (void)module;
    int pidfd = PyObject_AsFileDescriptor(arg);
    if (pidfd < 0)
        return NULL;
    int code, status, result;
    Py_BEGIN_ALLOW_THREADS
    result = pidinfo_exit(pidfd, pidinfo_pid(pidfd), &code, &status);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        errno = -result;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("ii", code, status);
}

static PyObject *native_is_readable(PyObject *module, PyObject *arg)
{
    (void)module;
    int fd = PyObject_AsFileDescriptor(arg);
    return fd < 0 ? NULL : PyBool_FromLong(child_is_readable(fd));
}

static PyObject *native_is_hung_up(PyObject *module, PyObject *arg)
{
    (void)module;
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0)
        return NULL;
    int result = child_is_hung_up(fd);
    if (result < 0) {
        errno = -result;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(result);
}

static PyObject *native_wait_readable(PyObject *module, PyObject *args)
{
    (void)module;
    int fd, result;
    long long nanoseconds;
    if (!PyArg_ParseTuple(args, "iL:wait_readable", &fd, &nanoseconds))
        return NULL;
    if (fd < 0) {
        PyErr_SetString(PyExc_ValueError, "no descriptor is negative");
        return NULL;
    }
    /* A signal that came just before the sleep, or to another thread, has not interrupted it. */
    long long slice = nanoseconds < 0 || nanoseconds > SIGNAL_CHECK_NS ? SIGNAL_CHECK_NS : nanoseconds;
    Py_BEGIN_ALLOW_THREADS
    result = child_wait_readable(fd, slice);
    Py_END_ALLOW_THREADS
    if (result == -EINTR || (result == 0 && slice != nanoseconds))
        return PyErr_CheckSignals() < 0 ? NULL : PyBool_FromLong(0);
    if (result < 0) {
        errno = -result;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(result);
}

static PyMethodDef module_methods[] = {
    {"hub", native_hub, METH_NOARGS, "hub() -> Hub."},
    {"prepare", native_prepare, METH_NOARGS, "Takes the descriptors that the first start would take."},
    {"spawn", native_spawn, METH_VARARGS,
     "spawn(hub, call, private_memory, private_table, highest, contain, cgroup, kill_fd, steps, paths, argv, env, fds, "
     "borrowed) -> Child. Returns before the exec. Takes the descriptors out of the list `fds`, cgroup and kill_fd among "
     "them, and closes them when the program has them. Those in the list `borrowed` stay the caller's."},
    {"fork", native_fork, METH_VARARGS, "fork(hub, call) -> Child, RUNNING; None in the forked process."},
    {"sweep", native_sweep, METH_NOARGS, "Reaps children that were given up; returns how many are left."},
    {"records", native_records, METH_NOARGS, "How many spawn records exist, for tests."},
    {"has_calls", native_has_calls, METH_NOARGS, "Whether every call but clone is let through."},
    {"signal_tree", native_signal_tree, METH_VARARGS,
     "signal_tree(pid, pidfd, root_too, signal) -> (signalled, denied, errno): every descendant of a process."},
    {"kill_next", native_kill_next, METH_VARARGS,
     "kill_next(pid, pidfd) -> (signalled, denied, errno): the children of a subreaper."},
    {"list_tree", native_list_tree, METH_VARARGS,
     "list_tree(pid, pidfd) -> [(pid, pidfd)]: every descendant of a process. The pidfds are the caller's."},
    {"exit_status", native_exit_status, METH_O,
     "exit_status(pidfd) -> (code, status) of a process that has exited and is no child of ours. OSError: EAGAIN: "
     "perhaps later; else it cannot be known."},
    {"is_readable", native_is_readable, METH_O,
     "Whether a descriptor is readable now, or no descriptor; whatever RLIMIT_NOFILE is."},
    {"is_hung_up", native_is_hung_up, METH_O,
     "Whether nobody has the other end of a pipe or of a terminal open, or it is no descriptor."},
    {"wait_readable", native_wait_readable, METH_VARARGS,
     "wait_readable(fd, nanoseconds): the same, waiting for so long at most, or for half a second, or until a signal "
     "was handled. Without the GIL."},
    {"filesystem", native_filesystem, METH_O, "The type of the file system that a descriptor's file is on: statfs(2)."},
    {"pidfd_getfd", native_pidfd_getfd, METH_VARARGS,
     "pidfd_getfd(pidfd, number): a duplicate of a descriptor of another process, close-on-exec."},
    {"probe", native_probe, METH_NOARGS, "What the kernel answers to each call: 0 or an errno."},
    {NULL, NULL, 0, NULL},
};

static const struct {
    const char *name;
    long value;
} constants[] = {
    {"CALL_CLONE3", CALL_CLONE3},
    {"CALL_CLONE", CALL_CLONE},
    {"STARTING", CHILD_STARTING},
    {"RUNNING", CHILD_RUNNING},
    {"ORPHANED", CHILD_ORPHANED},
    {"DYING", CHILD_DYING},
    {"EXITED", CHILD_EXITED},
    {"UNKNOWN", CHILD_UNKNOWN},
    {"FAILED", CHILD_FAILED},
    {"FOREIGN", CHILD_FOREIGN},
    {"FAILED_CLONE", FAILED_CLONE},
    {"FAILED_EXEC", FAILED_EXEC},
    {"FAILED_GUARDIAN", FAILED_GUARDIAN},
    {"FAILED_CGROUP", FAILED_CGROUP},
    {"FAILED_TABLE", FAILED_TABLE},
    {"FAILED_LIFELINES", FAILED_LIFELINES},
    {"FAILED_DESCRIPTORS", FAILED_DESCRIPTORS},
    {"FAILED_CALL", FAILED_CALL},
    {"SYS_ppoll", __NR_ppoll},
    {"SYS_signalfd4", __NR_signalfd4},
    {"SYS_waitid", __NR_waitid},
    {"SYS_dup3", __NR_dup3},
    {"SYS_fcntl", __NR_fcntl},
    {"SYS_close_range", __NR_close_range},
    {"SYS_chdir", __NR_chdir},
    {"SYS_umask", __NR_umask},
    {"SYS_rt_sigaction", __NR_rt_sigaction},
    {"SYS_setsid", __NR_setsid},
    {"SYS_ioctl", __NR_ioctl},
    {"SYS_setpgid", __NR_setpgid},
    {"SYS_setgroups", __NR_setgroups},
    {"SYS_setregid", __NR_setregid},
    {"SYS_setreuid", __NR_setreuid},
    {"SYS_prlimit64", __NR_prlimit64},
    {"SYS_setpriority", __NR_setpriority},
    {"SYS_sched_setaffinity", __NR_sched_setaffinity},
    {"SYS_sched_setscheduler", __NR_sched_setscheduler},
    {"SYS_ioprio_set", __NR_ioprio_set},
    {"SYS_prctl", __NR_prctl},
    {"SYS_openat", __NR_openat},
    {"SYS_write", __NR_write},
    {"SYS_close", __NR_close},
    {"OPENED", STEP_OPENED},
    {"TIOCSPTLCK", TIOCSPTLCK},
    {"TIOCGPTPEER", TIOCGPTPEER},
};

static int module_exec(PyObject *module)
{
    int error = spawner_init();
    if (error < 0) {
        errno = -error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    struct state *state = PyModule_GetState(module);
    state->child_type = PyType_FromModuleAndSpec(module, &child_spec, NULL);
    if (!state->child_type || PyModule_AddObjectRef(module, "Child", state->child_type) < 0)
        return -1;
    state->hub_type = PyType_FromModuleAndSpec(module, &hub_spec, NULL);
    if (!state->hub_type || PyModule_AddObjectRef(module, "Hub", state->hub_type) < 0)
        return -1;
    if (lines_add_type(module) < 0)
        return -1;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct state *state = PyModule_GetState(module);
    Py_VISIT(state->child_type);
    Py_VISIT(state->hub_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct state *state = PyModule_GetState(module);
    Py_CLEAR(state->child_type);
    Py_CLEAR(state->hub_type);
    return 0;
}

/* Slots that newer interpreters know, and for which 3.11's headers have no names. */
enum { SLOT_MULTIPLE_INTERPRETERS = 3, SLOT_GIL = 4 };

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL}, /* filled below, as far as the running interpreter knows them */
    {0, NULL},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "aiopidfd._native",
    .m_doc = "The native spawner. Use the package aiopidfd.",
    .m_size = sizeof(struct state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__native(void)
{
    if (Py_Version >= 0x030C0000) {
        module_slots[1].slot = SLOT_MULTIPLE_INTERPRETERS;
        module_slots[1].value = (void *)2; /* Py_MOD_PER_INTERPRETER_GIL_SUPPORTED */
    }
#ifdef Py_GIL_DISABLED
    module_slots[2].slot = SLOT_GIL;
    module_slots[2].value = (void *)1; /* Py_MOD_GIL_NOT_USED */
#endif
    return PyModuleDef_Init(&module_def);
}
