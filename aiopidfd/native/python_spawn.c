/* Starts, as Python sees them: a hub, and `spawn`. */
#define PY_SSIZE_T_CLEAN
#include "python_arguments.h"
#include "module.h"

/* An object of one of our types. Each type holds one pointer. */
PyObject *allocate(PyObject *type)
{
    allocfunc make = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    return make((PyTypeObject *)type, 0);
}

int take_hub(PyObject *module, PyObject *object, struct hub **hub)
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

int check_call(long call)
{
    if (call == CALL_CLONE || (call == CALL_CLONE3 && AIOPIDFD_HAVE_CLONE3))
        return 0;
    PyErr_Format(PyExc_ValueError, "no such way to clone: %ld", call);
    return -1;
}

PyObject *native_hub(PyObject *module, PyObject *unused)
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

PyObject *native_prepare(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    struct failure failure = {0};
    spawner_prepare(&failure);
    return failure.error < 0 ? raise_failure(&failure) : none();
}

PyObject *native_spawn(PyObject *module, PyObject *args)
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
