/* Line after line of a reader, for `async for`. */
#ifndef AIOPIDFD_LINES_H
#define AIOPIDFD_LINES_H

#include <Python.h>

/* Add the type to the module; -1 with an exception. */
int lines_add_type(PyObject *module);

#endif
