"""The kernel's own calls, which gevent and eventlet take away or replace (`monkey.patch_all()`).

Before our import or after it: gevent and eventlet take `epoll` out of `select`. eventlet's
`os.read` and `os.write`, where they would block, wait in a loop that is not the one that calls us.
"""

import select
from posix import read, write
from typing import TYPE_CHECKING, Final

__all__ = ["EPOLLET", "EPOLLIN", "epoll", "read", "write"]

EPOLLIN: Final = select.EPOLLIN
EPOLLET: Final = select.EPOLLET

if TYPE_CHECKING or hasattr(select, "epoll"):
    from select import epoll
else:  # the module made once more has what was taken out of the first one
    import importlib.util

    _spec = importlib.util.find_spec("select")
    _select = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_select)
    epoll = _select.epoll
