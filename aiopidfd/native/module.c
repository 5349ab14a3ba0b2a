/* aiopidfd._native: the functions that Python sees. They only convert, and call the spawner. */
#define PY_SSIZE_T_CLEAN
#include "from_python.h"
#include "python_types.h"

#include "lines_python311.h"
#include "pidinfo.h"
#include "kernel_features.h"
#include "spawn_record.h"
#include "syscall.h"
#include "descendants.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

/* Linux 4.13; older headers lack it. */
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

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
    return fd < 0 ? NULL : PyBool_FromLong(fd_is_readable(fd));
}

static PyObject *native_is_hung_up(PyObject *module, PyObject *arg)
{
    (void)module;
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0)
        return NULL;
    int result = fd_is_hung_up(fd);
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
    result = fd_wait_readable(fd, slice);
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
    {"SYS_kill", __NR_kill},
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
