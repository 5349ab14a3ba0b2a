"""What the workers of test_multiprocessing.py do: a worker imports it, and so it imports little."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing import parent_process, shared_memory, util
from typing import Any


def nothing(*args: object) -> None:
    pass


def square(number: int) -> int:
    return number * number


def pid_of(_: object) -> int:
    return os.getpid()


def leave(code: object) -> None:
    sys.stderr = None  # what it would say of itself is no news to the test
    sys.exit(code)  # type: ignore[arg-type]


def raise_error(text: str) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for the traceback
    raise LookupError(text)


def raise_error_aloud(text: str) -> None:
    raise LookupError(text)


def kill_self(sig: int) -> None:
    signal.signal(sig, signal.SIG_DFL) if sig != signal.SIGKILL else None
    os.kill(os.getpid(), sig)
    time.sleep(60)


def hold(connection: Any, code: int = 0) -> None:
    """Say hello, then end with `code` once the other end is closed."""
    connection.send(os.getpid())
    with contextlib.suppress(EOFError):
        connection.recv()
    sys.exit(code)


def leave_a_grandchild(connection: Any) -> None:
    """End, and leave a program behind that holds every descriptor of ours."""
    program = subprocess.Popen(["sleep", "60"], close_fds=False)
    connection.send(program.pid)
    os._exit(4)


def leave_a_daemon(connection: Any) -> None:
    script = "setsid sleep 60 >/dev/null 2>&1 & echo $!"
    connection.send(int(subprocess.check_output(["/bin/sh", "-c", script])))
    time.sleep(60)


def use_primitives(things: dict[str, Any]) -> None:
    things["queue"].put(things["joinable"].get(timeout=60))
    things["joinable"].task_done()
    with things["lock"], things["value"].get_lock():
        things["value"].value += 1
        things["array"][1] = 2.5
    things["semaphore"].release()
    things["simple"].put(things["pipe"].recv())
    with things["condition"]:
        things["condition"].notify()
    things["barrier"].wait(60)
    things["event"].set()


def use_shared_memory(name: str) -> None:
    memory = shared_memory.SharedMemory(name)
    memory.buf[:5] = b"hello"
    memory.close()


def use_proxy(proxy: Any) -> None:
    proxy["worker"] = os.getpid()


def use_fds(listener: socket.socket, connection: Any) -> None:
    """Accept one client by a listener of the parent's; send it back through the connection."""
    client, _ = listener.accept()
    client.sendall(b"from the worker")
    connection.send(client)  # by SCM_RIGHTS, see multiprocessing.reduction
    connection.recv()
    client.close()


def nest(connection: Any) -> None:
    """Start a worker of our own, and see nothing of it."""
    from aiopidfd.multiprocessing import get_context

    worker = get_context().Process(target=leave, args=(5,))
    worker.start()
    try:
        seen: object = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        seen = None
    worker.join()
    connection.send((worker.exitcode, seen))


def tell_parent(connection: Any) -> None:
    parent = parent_process()
    assert parent is not None
    connection.send((parent.pid, parent.is_alive(), os.getppid()))


def outlive_parent(connection: Any) -> None:
    """Wait for the parent's death, as a program that respects it does; then end."""
    parent = parent_process()
    assert parent is not None
    connection.send(os.getpid())
    parent.join()
    assert not parent.is_alive()


class Finalized:
    """Has a finalizer from its unpickling on, for the worker's end."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        util.register_after_fork(self, lambda self: self.connection.send("after a fork"))
        util.Finalize(None, self.connection.send, ("finalized",), exitpriority=1)


def stay(seconds: float = 60) -> None:
    threading.Event().wait(seconds)
