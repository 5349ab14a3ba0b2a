/* What Python hands to the native part, as plain C: tuples, lists, the environment. */
#define PY_SSIZE_T_CLEAN
#include "python_arguments.h"

#include <limits.h>
#include <string.h>

extern char **environ;

/* A tuple of bytes as a NULL-terminated array, which borrows from the tuple. Free it with PyMem_Free. */
const char **borrow_strings(PyObject *tuple)
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
const char **copy_environ(void)
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
const char **convert_environment(PyObject *mapping)
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

struct plan_step *borrow_steps(PyObject *tuple, size_t *n_steps)
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

int *copy_fds(PyObject *list, size_t *n_fds)
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
