/* What may be asked about any descriptor, or done with any pidfd, as Python sees it. */
#define PY_SSIZE_T_CLEAN
#include "module.h"

#include "pidinfo.h"
#include "syscall.h"

#include <errno.h>
#include <sys/vfs.h>

PyObject *native_pidfd_getfd(PyObject *module, PyObject *args)
{
    (void)module;
    int pidfd, number;
    if (!PyArg_ParseTuple(args, "ii:pidfd_getfd", &pidfd, &number))
        return NULL;
    long fd = SYS(__NR_pidfd_getfd, pidfd, number, 0);
    if (fd < 0) {
        errno = (int)-fd;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(fd);
}

PyObject *native_filesystem(PyObject *module, PyObject *arg)
{
    (void)module;
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0)
        return NULL;
    struct statfs stat;
    if (fstatfs(fd, &stat) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong((long)stat.f_type);
}

PyObject *native_exit_status(PyObject *module, PyObject *arg)
{
    (void)module;
    int pidfd = PyObject_AsFileDescriptor(arg);
    if (pidfd < 0)
        return NULL;
    int code, status, result;
    Py_BEGIN_ALLOW_THREADS
    result = pidinfo_exit(pidfd, pidinfo_pid(pidfd), &code, &status);
    Py_END_ALLOW_THREADS
    if (result < 0) {
        errno = -result;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("ii", code, status);
}

PyObject *native_is_readable(PyObject *module, PyObject *arg)
{
    (void)module;
    int fd = PyObject_AsFileDescriptor(arg);
    return fd < 0 ? NULL : PyBool_FromLong(fd_is_readable(fd));
}

PyObject *native_is_hung_up(PyObject *module, PyObject *arg)
{
    (void)module;
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0)
        return NULL;
    int result = fd_is_hung_up(fd);
    if (result < 0) {
        errno = -result;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(result);
}

PyObject *native_wait_readable(PyObject *module, PyObject *args)
{
    (void)module;
    int fd, result;
    long long nanoseconds;
    if (!PyArg_ParseTuple(args, "iL:wait_readable", &fd, &nanoseconds))
        return NULL;
    if (fd < 0) {
        PyErr_SetString(PyExc_ValueError, "no descriptor is negative");
        return NULL;
    }
    /* A signal that came just before the sleep, or to another thread, has not interrupted it. */
    long long slice = nanoseconds < 0 || nanoseconds > SIGNAL_CHECK_NS ? SIGNAL_CHECK_NS : nanoseconds;
    Py_BEGIN_ALLOW_THREADS
    result = fd_wait_readable(fd, slice);
    Py_END_ALLOW_THREADS
    if (result == -EINTR || (result == 0 && slice != nanoseconds))
        return PyErr_CheckSignals() < 0 ? NULL : PyBool_FromLong(0);
    if (result < 0) {
        errno = -result;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(result);
}
