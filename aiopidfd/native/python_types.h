/* The types that Python sees: a child, and a loop's hub; and how an error is raised. */
#ifndef AIOPIDFD_PYTHON_TYPES_H
#define AIOPIDFD_PYTHON_TYPES_H

#include <Python.h>

#include "child.h"
#include "spawner.h"

struct state {
    PyObject *child_type, *hub_type;
};

typedef struct {
    PyObject_HEAD
    struct hub *hub;
} HubObject;

typedef struct {
    PyObject_HEAD
    struct child *child;
} ChildObject;

extern PyType_Spec hub_spec, child_spec;

static inline struct hub *hub_of(PyObject *self)
{
    return ((HubObject *)self)->hub;
}

static inline struct child *child_of(PyObject *self)
{
    return ((ChildObject *)self)->child;
}

PyObject *raise_errno(int error);
PyObject *raise_failure(const struct failure *failure);

PyObject *none(void);

#endif
