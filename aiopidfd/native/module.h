/* The functions of the module that are not in module.c, and what several of them need. */
#ifndef AIOPIDFD_MODULE_H
#define AIOPIDFD_MODULE_H

#include "python_types.h"

/* An object of one of our types. */
PyObject *allocate(PyObject *type);

/* The hub of a Hub, or NULL for None. Returns 0, or -1 with TypeError. */
int take_hub(PyObject *module, PyObject *object, struct hub **hub);

/* Returns 0, or -1 with ValueError: there is no such way to clone here. */
int check_call(long call);

PyObject *native_hub(PyObject *module, PyObject *unused);
PyObject *native_prepare(PyObject *module, PyObject *unused);
PyObject *native_spawn(PyObject *module, PyObject *args);
PyObject *native_fork(PyObject *module, PyObject *args);
PyObject *native_signal_tree(PyObject *module, PyObject *args);
PyObject *native_kill_next(PyObject *module, PyObject *args);
PyObject *native_list_tree(PyObject *module, PyObject *args);
PyObject *native_pidfd_getfd(PyObject *module, PyObject *args);
PyObject *native_filesystem(PyObject *module, PyObject *arg);
PyObject *native_exit_status(PyObject *module, PyObject *arg);
PyObject *native_is_readable(PyObject *module, PyObject *arg);
PyObject *native_is_hung_up(PyObject *module, PyObject *arg);
PyObject *native_wait_readable(PyObject *module, PyObject *args);

#endif
