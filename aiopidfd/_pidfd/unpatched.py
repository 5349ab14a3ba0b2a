"""The kernel's own calls, which gevent and eventlet take away or replace (`monkey.patch_all()`).

They may do so before our import or after it. Both take `epoll` out of `select`. eventlet's
`os.read` and `os.write` wait, where they would block, in another loop than the one that calls us.
"""

import select
from posix import read, write
from typing import TYPE_CHECKING, Final

__all__ = ["EPOLLET", "EPOLLIN", "epoll", "read", "write"]

EPOLLIN: Final = select.EPOLLIN
EPOLLET: Final = select.EPOLLET

if TYPE_CHECKING or hasattr(select, "epoll"):
    from select import epoll
else:  # a second copy of the module still has what was removed from the first
    import importlib.util

    _spec = importlib.util.find_spec("select")
    _select = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_select)
    epoll = _select.epoll
