/* What Python hands to the native part, as plain C. Each function raises and returns NULL on failure; what it
 * returns is freed with PyMem_Free. */
#ifndef AIOPIDFD_PYTHON_ARGUMENTS_H
#define AIOPIDFD_PYTHON_ARGUMENTS_H

#include <Python.h>

#include "spawner.h"

/* A tuple of bytes as a NULL-terminated array, which borrows from the tuple. */
const char **borrow_strings(PyObject *tuple);

/* Our environment as it is in C now, or a mapping as an environment, in one block. */
const char **copy_environ(void);
const char **convert_environment(PyObject *mapping);

/* The steps of a plan, which borrow from the tuple. */
struct plan_step *borrow_steps(PyObject *tuple, size_t *n_steps);

/* A list of descriptors. */
int *copy_fds(PyObject *list, size_t *n_fds);

#endif
