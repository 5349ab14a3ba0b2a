/* The lines of a reader, one after the other, for `async for` in Python 3.11.
 *
 * Most lines are there before they are awaited. In Python each of them would still need a coroutine, which is
 * most of the cost of a short line. Here the iterator is its own awaitable, and is done at once. It awaits a
 * coroutine only if no line is there. (From 3.12 on a coroutine is cheaper than this.) */
#define PY_SSIZE_T_CLEAN
#include "lines_python311.h"

typedef struct {
    PyObject_HEAD
    PyObject *ahead; /* its attribute "lines" is an iterator over what is there */
    PyObject *wait;  /* returns a coroutine: the next line, or StopAsyncIteration */
    PyObject *name;  /* "lines" */
    PyObject *line;  /* the line that was awaited and is about to be handed out; else NULL */
    PyObject *waits; /* what is awaited since the last __anext__, where no line was there; else NULL */
} LinesObject;

static PyObject *lines_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *ahead, *wait;
    if (kwargs && PyDict_Size(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Lines() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OO:Lines", &ahead, &wait))
        return NULL;
    LinesObject *self = (LinesObject *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    self->ahead = Py_NewRef(ahead);
    self->wait = Py_NewRef(wait);
    self->name = PyUnicode_InternFromString("lines");
    if (!self->name) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int lines_traverse(PyObject *object, visitproc visit, void *arg)
{
    LinesObject *self = (LinesObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->ahead);
    Py_VISIT(self->wait);
    Py_VISIT(self->line);
    Py_VISIT(self->waits);
    return 0;
}

static int lines_clear(PyObject *object)
{
    LinesObject *self = (LinesObject *)object;
    Py_CLEAR(self->ahead);
    Py_CLEAR(self->wait);
    Py_CLEAR(self->line);
    Py_CLEAR(self->waits);
    return 0;
}

static void lines_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    lines_clear(object);
    Py_CLEAR(((LinesObject *)object)->name);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

/* Returns the next line that is there. Returns NULL if there is none, or with an exception. */
static PyObject *next_line(LinesObject *self)
{
    PyObject *lines = PyObject_GetAttr(self->ahead, self->name);
    if (!lines)
        return NULL;
    PyObject *line = NULL;
    if (PyIter_Check(lines))
        line = PyIter_Next(lines);
    else
        PyErr_SetString(PyExc_TypeError, "lines must be an iterator");
    Py_DECREF(lines);
    return line;
}

static PyObject *lines_itself(PyObject *self)
{
    return Py_NewRef(self);
}

static PyObject *lines_anext(PyObject *object)
{
    Py_CLEAR(((LinesObject *)object)->waits);
    return Py_NewRef(object);
}

/* __await__: returns the iterator itself if a line is there. anext(lines, default) calls this again each time
 * that it is resumed, and must get what it got before. */
static PyObject *lines_await(PyObject *object)
{
    LinesObject *self = (LinesObject *)object;
    if (self->waits)
        return Py_NewRef(self->waits);
    if (!self->line) {
        PyObject *line = next_line(self);
        if (!line && PyErr_Occurred())
            return NULL;
        if (line) {
            PyObject *other = self->line; /* it is lost if the one that we asked has awaited it here */
            self->line = line;
            Py_XDECREF(other);
        }
    }
    if (self->line)
        return Py_NewRef(object);
    PyObject *coroutine = PyObject_CallNoArgs(self->wait);
    if (!coroutine)
        return NULL;
    PyObject *awaited = PyObject_CallMethod(coroutine, "__await__", NULL);
    Py_DECREF(coroutine);
    self->waits = Py_XNewRef(awaited);
    return awaited;
}

/* After each __await__ this is called once. There is nothing else to await. */
static PyObject *take_line(LinesObject *self)
{
    PyObject *line = self->line;
    self->line = NULL;
    if (!line)
        PyErr_SetString(PyExc_RuntimeError, "a line is to be awaited, once: use async for");
    return line;
}

static PySendResult lines_send(PyObject *self, PyObject *unused, PyObject **result)
{
    (void)unused;
    *result = take_line((LinesObject *)self);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

static PyObject *lines_next(PyObject *self)
{
    PyObject *line = take_line((LinesObject *)self);
    if (line) {
        PyErr_SetObject(PyExc_StopIteration, line);
        Py_DECREF(line);
    }
    return NULL;
}

static PyType_Slot lines_slots[] = {
    {Py_tp_new, lines_new},
    {Py_tp_traverse, lines_traverse},
    {Py_tp_clear, lines_clear},
    {Py_tp_dealloc, lines_dealloc},
    {Py_tp_iter, lines_itself}, /* the object that __await__ returns must have this slot */
    {Py_tp_iternext, lines_next},
    {Py_am_aiter, lines_itself},
    {Py_am_anext, lines_anext},
    {Py_am_await, lines_await},
    {Py_am_send, lines_send},
    {Py_tp_doc, "Lines(ahead, wait): iterates over ahead.lines, and awaits wait() where there is none."},
    {0, NULL},
};

static PyType_Spec lines_spec = {
    .name = "aiopidfd._native.Lines",
    .basicsize = sizeof(LinesObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lines_slots,
};

int lines_add_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &lines_spec, NULL);
    if (!type)
        return -1;
    int result = PyModule_AddObjectRef(module, "Lines", type);
    Py_DECREF(type);
    return result;
}
