/* aiopidfd._native: what it has. The functions are in python_*.c: they only convert, and call the spawner. */
#define PY_SSIZE_T_CLEAN
#include "module.h"

#include "kernel_features.h"
#include "lines_python311.h"
#include "spawn_record.h"
#include "syscall.h"

#include <errno.h>
#include <sys/ioctl.h>

/* Linux 4.13; older headers lack it. */
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

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
