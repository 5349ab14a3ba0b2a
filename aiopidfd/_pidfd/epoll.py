"""`select.epoll`, which gevent and eventlet take out of `select`, before or after our import."""

import importlib.util
import select
from typing import TYPE_CHECKING, Final

__all__ = ["EPOLLET", "EPOLLIN", "epoll"]

EPOLLIN: Final = select.EPOLLIN
EPOLLET: Final = select.EPOLLET

if TYPE_CHECKING or hasattr(select, "epoll"):
    from select import epoll
else:  # the module made once more has what was taken out of the first one
    _spec = importlib.util.find_spec("select")
    _select = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_select)
    epoll = _select.epoll
