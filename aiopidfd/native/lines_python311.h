/* The lines of a reader, one after the other, for `async for`. */
#ifndef AIOPIDFD_LINES_H
#define AIOPIDFD_LINES_H

#include <Python.h>

/* Adds the type to the module. Returns -1 with an exception. */
int lines_add_type(PyObject *module);

#endif
