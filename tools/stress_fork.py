"""`python -m tools.stress_fork [ROUNDS]`: fork at full speed under threads that hold every lock.

Threads allocate and print in C without the GIL, and in Python, while this one forks. Each forked
process allocates, prints to the same streams, starts a thread, and exits with a status of its own.
Prints what came out; exits with 0 if every round was right. A fork that hangs ends in a traceback
of all threads.
"""

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import aiopidfd

HANG = 60.0  # seconds, for one round that takes milliseconds

libc = ctypes.CDLL(None, use_errno=True)
libc.fopen.restype = libc.malloc.restype = ctypes.c_void_p
libc.fprintf.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
libc.free.argtypes = libc.fclose.argtypes = (ctypes.c_void_p,)


def _allocate_in_c() -> None:
    found = ctypes.create_string_buffer(256)  # a glob_t is smaller
    libc.glob(b"/usr/*/*", 0, None, found)  # thousands of malloc() and free(), without the GIL
    libc.globfree(found)


def _print_in_c(stream: int) -> None:
    libc.fprintf(stream, b"%*d", ctypes.c_int(300_000), ctypes.c_int(7))  # with the stream's lock


def _in_python(null: int) -> None:
    with open(null, "w", closefd=False) as file:
        print("x" * 10_000, bytes(50_000)[:10], file=file)


@contextlib.contextmanager
def noise(stream: int, null: int) -> Iterator[None]:
    """Threads that do nothing else, until the block is left."""
    stop = threading.Event()

    def repeat(work: Callable[[], None]) -> None:
        while not stop.is_set():
            work()

    works: list[Callable[[], None]] = [
        _allocate_in_c,
        _allocate_in_c,
        lambda: _print_in_c(stream),
        lambda: _in_python(null),
    ]
    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _child(number: int, stream: int, null: int) -> int:
    """What a forked process does; its exit status."""
    blocks = [libc.malloc(100 + size * 997 % 40_000) for size in range(100)]
    for block in blocks:
        libc.free(block)
    libc.fprintf(stream, b"%d\n", ctypes.c_int(number))
    libc.fprintf(libc.fopen(b"/dev/null", b"w"), b"%d\n", ctypes.c_int(number))
    _in_python(null)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(threading.get_native_id()))
    thread.start()
    thread.join()
    own_thread = threading.get_native_id() == os.getpid()
    return number % 100 if own_thread and answers and answers[0] != os.getpid() else 101


def stress(rounds: int) -> tuple[int, int]:
    """Run them; how many exited with their own status, and how many SIGCHLD came."""
    seen = right = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1

    before = signal.signal(signal.SIGCHLD, count)
    null = os.open("/dev/null", os.O_WRONLY)
    stream = libc.fopen(b"/dev/null", b"w")
    try:
        with noise(stream, null):
            for number in range(rounds):
                faulthandler.dump_traceback_later(HANG, exit=True)
                child = aiopidfd.fork()
                if child is None:
                    status = 102
                    with contextlib.suppress(BaseException):
                        signal.alarm(int(HANG))  # faulthandler's thread is not in here
                        status = _child(number, stream, null)
                    os._exit(status)
                right += child.wait() == number % 100
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(-1, os.WNOHANG)
                    right -= 1  # there was something to be seen
    finally:
        faulthandler.cancel_dump_traceback_later()
        libc.fclose(stream)
        os.close(null)
        signal.signal(signal.SIGCHLD, before)
    return right, seen


def main() -> int:
    """Print the outcome; 0 if all was right."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    start = time.perf_counter()
    right, seen = stress(rounds)
    seconds = time.perf_counter() - start
    print(f"{right} of {rounds} rounds right, {seen} SIGCHLD, {seconds:.1f} s")
    return 0 if right == rounds and not seen else 1


if __name__ == "__main__":
    sys.exit(main())
