/* `fork`, as Python sees it, with what the interpreter does before and after a fork. */
#define PY_SSIZE_T_CLEAN
#include "module.h"

/* As in os.fork(), the GIL is held all the time, and the interpreter's own handlers run before and after
 * it. */
PyObject *native_fork(PyObject *module, PyObject *args)
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
