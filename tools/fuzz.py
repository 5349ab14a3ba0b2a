"""Bad input for the native module: an exception or a result comes back, never a crash.

Wrong types and sizes, descriptors that are closed, objects that raise, lie, or change what is being
read. Nothing is left behind either.

    python -m tools.fuzz                          # the form that the tests run, the same each time
    python -m tools.fuzz --seconds 600            # at random, with a seed that it prints
    python -m tools.fuzz --seconds 600 --seed 7

It runs in a process and a pid namespace of its own: what it signals is nobody else's. If that
process crashes, its last calls are shown.

A start's steps are system calls, and are made as told: a caller that hands over a wrong address for
the kernel to write to gets what it has asked for. So only calls that write to no address are among
them here.
"""

import argparse
import contextlib
import faulthandler
import gc
import mmap
import os
import random
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from aiopidfd import _native

# On Python 3.14, where objects are counted differently, Hypothesis warns of its own.
warnings.filterwarnings("ignore", "It looks like `register_random` was passed")

EXAMPLES: Final = 150
ACTIONS: Final = 12  # in an example
LOG_SIZE: Final = 1 << 16
PATIENCE: Final = 300  # seconds without a new example

# All that the module has, but for its constants; tests/native/test_fuzz.py compares.
FUNCTIONS: Final = [
    *("hub", "prepare", "spawn", "fork", "exit_status", "is_readable", "is_hung_up"),
    *("wait_readable", "filesystem", "pidfd_getfd", "signal_tree", "kill_next", "list_tree"),
    *("sweep", "records", "has_calls", "probe"),
]
MEMBERS: Final = {
    "Child": [
        *("poll", "close", "kill", "give_up_status", "send_signal", "dup_pidfd", "block", "finish"),
        *("stay", "wake", "failure", "result", "state", "pid", "pidfd", "guardian_pid", "id"),
    ],
    "Hub": ["adopt", "collect", "look_again", "fd"],
    "Lines": ["__aiter__", "__anext__", "__await__", "__iter__", "__next__"],
}
BLOCK: Final = {"block", "finish", "wait_readable"}
CLOSED: Final = 900  # a number at which nothing is open


class InterruptionError(Exception):
    """A signal came while a call was blocked."""


class EvilError(Exception):
    """What our objects raise."""


REFUSALS: Final = (
    *(TypeError, ValueError, OverflowError, OSError, AttributeError, RuntimeError),
    *(StopIteration, StopAsyncIteration, InterruptionError, EvilError),
)


def link(fd: int) -> str:
    """What it is; "" if it is closed."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


def note_fd(fd: int) -> None:
    """It is ours to close, if nobody takes it."""
    world.fds[fd] = link(fd)


def close_ours(fd: int, what: str) -> None:
    """Close it if it still is what it was: the module has closed what it took."""
    if link(fd) == what:
        os.close(fd)


class World:
    """What one example has."""

    def __init__(self) -> None:
        self.fds: dict[int, str] = {}  # those that we have opened, and what they were
        self.children: list[Any] = []
        self.hubs: list[Any] = []
        self.lines: list[Any] = []
        self.lists: list[list[Any]] = []
        self.log: list[str] = []


world = World()
objects: "weakref.WeakSet[Object]" = weakref.WeakSet()


class Object:
    """It answers all that the module asks an object for."""

    def __init__(self, mood: str, value: Any) -> None:
        self.mood = mood
        self.value = value
        objects.add(self)

    def __repr__(self) -> str:
        return f"Object({self.mood!r}, {self.value!r})"

    def answer(self, *_: Any) -> Any:
        """What each of its methods does."""
        if self.mood == "raises":
            raise EvilError
        if self.mood == "closes" and world.fds:
            close_ours(*world.fds.popitem())
        elif self.mood == "shrinks":
            for each in world.lists:
                list.clear(each)
        elif self.mood == "grows":
            for each in world.lists:
                list.extend(each, [10**6] * 50)
        elif self.mood == "collects":
            gc.collect()
        elif self.mood == "re-enters":
            for child in world.children:
                child.poll()
            for lines in world.lines[:1]:
                with contextlib.suppress(*REFUSALS):
                    lines.__await__()
        return self.value

    __index__ = __fspath__ = __bool__ = __int__ = __call__ = __await__ = answer
    __len__ = __getitem__ = __iter__ = fileno = items = keys = answer

    def __next__(self) -> Any:
        return self.answer()

    @property
    def lines(self) -> Any:
        """What `Lines` reads."""
        return self if self.answer() is None else iter([self, b"line"])


def lies(*_: Any) -> NoReturn:
    """What is called in vain if the module reads a sequence as it is in C."""
    raise EvilError


class LiarTuple(tuple[Any, ...]):
    """It says that it is long, and gives nothing."""

    def __len__(self) -> int:
        return 10**6

    __getitem__ = __iter__ = lies


class LiarList(list[Any]):
    """The same."""

    def __len__(self) -> int:
        return 10**6

    __getitem__ = __iter__ = lies


class Mapping(dict[Any, Any]):
    """Its items are anything."""

    def items(self) -> Any:
        """What was put in."""
        return self["items"]


# ---- What is drawn: how to make it. (Hypothesis keeps what it has drawn.)


class Make(NamedTuple):
    """A call that makes a value, when that is needed."""

    how: Callable[..., Any]
    values: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{self.how.__name__}{self.values!r}"


def build(value: Any) -> Any:
    """The value itself."""
    return value.how(*map(build, value.values)) if isinstance(value, Make) else value


def made(how: Callable[..., Any], *each: st.SearchStrategy[Any]) -> st.SearchStrategy[Make]:
    """A call with these."""
    return st.builds(Make, st.just(how), st.tuples(*each))


def new_fd() -> int:
    """A descriptor that may be given away."""
    read, write = os.pipe()
    note_fd(read)
    note_fd(write)
    return read


def new_folder() -> int:
    """The same, of a folder."""
    folder = os.open("/proc/self", os.O_RDONLY)
    note_fd(folder)
    return folder


def hub() -> Any:
    """The first hub."""
    if not world.hubs:
        world.hubs.append(_native.hub())
    return world.hubs[0]


def child(number: int) -> Any:
    """A child, if there is one."""
    return world.children[number % len(world.children)] if world.children else None


def lines() -> Any:
    """The last Lines, if there is one."""
    return world.lines[-1] if world.lines else None


def pid(number: int) -> int:
    """A guardian's."""
    return child(number).guardian_pid if world.children else 0


def pidfd(number: int) -> int:
    """A program's."""
    return child(number).pidfd if world.children else -1


def a_tuple(*values: Any) -> tuple[Any, ...]:
    """As it is called."""
    return values


def a_liar(*values: Any) -> tuple[Any, ...]:
    """One that lies."""
    return LiarTuple(values)


def a_list(*values: Any) -> list[Any]:
    """A list that our objects change."""
    world.lists.append([*values])
    return world.lists[-1]


def a_lying_list(*values: Any) -> list[Any]:
    """The same, and it lies."""
    world.lists.append(LiarList(values))
    return world.lists[-1]


def a_dict(*pairs: tuple[Any, Any]) -> dict[Any, Any]:
    """Of what can be a key."""
    found = {}
    for name, value in pairs:
        with contextlib.suppress(TypeError):
            found[name] = value
    return found


def a_mapping(items: Any) -> Mapping:
    """Whose items are anything."""
    return Mapping(items=items)


def rarely(wrong: st.SearchStrategy[Any], right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """The right thing nine times of ten; `one_of` does not care how often a thing is in it."""
    return st.integers(0, 9).flatmap(lambda number: wrong if number == 9 else right)


NUMBERS = st.integers(0, 3)
A_FD = made(new_fd)
A_CHILD = made(child, NUMBERS)
A_HUB = made(hub)
A_PID = made(pid, NUMBERS)
A_PIDFD = made(pidfd, NUMBERS)
INTS = st.one_of(
    st.sampled_from([0, 1, -1, 2, CLOSED, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63]),
    st.sampled_from([10**6, 10**30, -(10**30)]),
    st.integers(),
)
TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["a\0b", "\udc80", "\ud800", "=", "x" * 5000])
)
BYTES = st.one_of(st.binary(max_size=8), st.sampled_from([b"a\0b", b"=", b"x" * 5000]))
PLAIN = st.one_of(INTS, TEXTS, BYTES, st.none(), st.floats(), A_FD, A_CHILD, A_HUB, A_PIDFD)
MOODS = st.sampled_from(["calm", "raises", "closes", "shrinks", "grows", "collects", "re-enters"])
OBJECTS = made(Object, MOODS, PLAIN)
KINDS = rarely(st.sampled_from([a_list, a_lying_list]), st.sampled_from([a_tuple, a_liar]))


def sequence(of: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[Make]:
    """Of these, or of anything; a tuple, a list, or one that lies."""
    items = st.lists(rarely(st.one_of(PLAIN, OBJECTS), of), max_size=most).map(tuple)
    return st.builds(Make, KINDS, items)


ANY = st.one_of(PLAIN, OBJECTS, sequence(PLAIN))


def mostly(right: Any) -> st.SearchStrategy[Any]:
    """What is right, mostly, for the other arguments are to be looked at as well."""
    return rarely(ANY, right if isinstance(right, st.SearchStrategy) else st.just(right))


def arguments(*each: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """As many as there should be; or any."""
    return rarely(st.lists(ANY, max_size=5).map(tuple), st.tuples(*map(mostly, each)))


STEP_CALLS = st.sampled_from(
    [
        *(_native.SYS_dup3, _native.SYS_close_range, _native.SYS_chdir, _native.SYS_umask),
        *(_native.SYS_setsid, _native.SYS_setpgid, _native.SYS_write, _native.SYS_close),
        *(-1, 10**6),
    ]
)
STEPS = st.builds(
    Make,
    KINDS,
    st.tuples(STEP_CALLS, st.lists(mostly(st.one_of(INTS, BYTES)), max_size=6)).map(
        lambda drawn: (drawn[0], *drawn[1])
    ),
)
PAIRS = st.one_of(made(a_tuple, TEXTS, TEXTS), made(a_tuple, ANY, ANY))
ENVIRONMENTS = st.one_of(
    st.none(),
    st.builds(Make, st.just(a_dict), st.lists(PAIRS, max_size=3).map(tuple)),
    made(a_mapping, st.one_of(sequence(PAIRS), sequence(sequence(TEXTS)), ANY)),
    ANY,
)
A_GIVEN_FD = rarely(st.just(CLOSED), st.one_of(A_FD, made(new_folder)))
SOME_FDS = st.lists(rarely(made(Object, MOODS, A_GIVEN_FD), A_GIVEN_FD), max_size=5)
FD_LISTS = st.builds(Make, st.just(a_list), SOME_FDS.map(tuple))
CALLS = st.sampled_from([_native.CALL_CLONE3, _native.CALL_CLONE])
HUBS = st.one_of(st.none(), A_HUB)
PROGRAMS = st.sampled_from([(b"/bin/true",), (b"/bin/sleep", b"1000"), (b"/nonexistent",)])
SPAWN = st.one_of(
    PROGRAMS.flatmap(
        lambda program: st.tuples(
            *(HUBS, CALLS, st.booleans(), st.just(False), st.just(2), st.booleans()),
            *(st.just(-1), st.just(-1), st.just(()), st.just(program[:1]), st.just(program)),
            *(st.none(), FD_LISTS, FD_LISTS),
        )
    ),
    st.tuples(
        *(
            mostly(HUBS),
            mostly(CALLS),
            mostly(st.booleans()),
            mostly(False),
            mostly(2),
            mostly(False),
        ),
        *(mostly(-1), mostly(-1), sequence(STEPS), sequence(BYTES), sequence(BYTES)),
        *(ENVIRONMENTS, *[st.one_of(FD_LISTS, sequence(st.just(-1)), ANY)] * 2),
    ),
    st.lists(ANY, max_size=14).map(tuple),
)
NANOSECONDS = st.sampled_from([0, 1, 10**6, 2**63 - 1, -1])
FEW: Final[dict[str, st.SearchStrategy[tuple[Any, ...]]]] = {
    "spawn": SPAWN,
    "fork": st.tuples(mostly(HUBS), st.one_of(TEXTS, st.just(-1), st.just(7), st.none())),
    "exit_status": arguments(A_PIDFD),
    "is_readable": arguments(A_FD),
    "is_hung_up": arguments(A_FD),
    "filesystem": arguments(A_FD),
    "wait_readable": arguments(A_FD, NANOSECONDS),
    "pidfd_getfd": arguments(A_PIDFD, NUMBERS),
    "signal_tree": arguments(A_PID, A_PIDFD, st.booleans(), st.sampled_from([0, 15, 65, -1])),
    "kill_next": arguments(A_PID, A_PIDFD),
    "list_tree": arguments(A_PID, A_PIDFD),
    "send_signal": arguments(st.sampled_from([0, 15, 18, 64, 65, -1])),
    "block": arguments(st.integers(-1, 9), NANOSECONDS),
    "finish": arguments(NANOSECONDS),
    "adopt": arguments(A_CHILD),
    "Lines": st.tuples(OBJECTS, OBJECTS),
}
NONE = rarely(st.lists(ANY, max_size=2).map(tuple), st.just(()))
OWNERS: Final = {"Child": A_CHILD, "Hub": A_HUB, "Lines": made(lines)}
TARGETS: Final = [
    *(["spawn"] * 8),
    *(["Lines"] * 2),
    *FUNCTIONS,
    *MEMBERS,
    *(f"{kind}.{name}" for kind, names in MEMBERS.items() for name in names),
    *("drop children", "drop hubs", "drop lines"),
]


# ---- One example

in_call = False
counts: Counter[str] = Counter()
log: mmap.mmap


def on_alarm(*_: Any) -> None:
    """End a call that blocks."""
    if in_call:
        raise InterruptionError


def note(text: str) -> None:
    """Keep what is done next where a crash leaves it."""
    world.log.append(text[:400])
    data = "\n".join(world.log).encode(errors="backslashreplace")[-LOG_SIZE + 1 :]
    log[: len(data) + 1] = data + b"\0"


def keep(name: str, result: Any) -> None:
    """What a call has given to us is ours to close."""
    for kind, native in (
        ("children", _native.Child),
        ("hubs", _native.Hub),
        ("lines", _native.Lines),
    ):
        if isinstance(result, native) and result not in getattr(world, kind):
            getattr(world, kind).append(result)
    if name in {"dup_pidfd", "stay", "pidfd_getfd"}:
        note_fd(result)
    elif name == "list_tree":
        for _, fd in result:
            note_fd(fd)


def act(data: st.DataObject) -> None:
    """Make one call.

    Raises:
        SystemError: or what else no call may raise.
    """
    global in_call
    target = data.draw(st.sampled_from(TARGETS))
    if target.startswith("drop"):
        note(target)
        dropped = getattr(world, target.split()[1])
        while dropped:
            last = dropped.pop()
            if isinstance(last, _native.Child):
                last.kill()  # else it would run on
        return
    kind, _, name = target.rpartition(".")
    drawn = data.draw(FEW.get(name, NONE))
    owner = build(data.draw(OWNERS[kind])) if kind else _native
    if owner is None:
        return
    note(f"{target}{drawn!r}")
    few = list(map(build, drawn))
    if name in BLOCK:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        in_call = True
        result = getattr(owner, name)
        keep(name, result(*few) if callable(result) else result)  # the others are properties
        counts["answered"] += 1
    except REFUSALS as error:
        counts[type(error).__name__] += 1
    finally:
        in_call = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def open_fds() -> set[str]:
    """Our descriptors, and what each is."""
    numbers = map(int, os.listdir("/proc/self/fd"))
    return {f"{fd} {what}" for fd in numbers if (what := link(fd))}


def reap_orphans() -> None:
    """As pid 1 of a namespace we get them."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def clean_up(before: set[str]) -> None:
    """End all that the example has left.

    Raises:
        AssertionError: something is left.
    """
    global world
    while world.children:
        world.children.pop().kill()
    fds = world.fds
    world = World()
    gc.collect()
    deadline = time.monotonic() + 30
    while (_native.sweep() or _native.records()) and time.monotonic() < deadline:
        time.sleep(0.001)
    for fd, what in fds.items():
        close_ours(fd, what)
    left = open_fds() - before
    reap_orphans()
    assert not left, f"left behind: {left}"
    assert _native.records() == 0, "left behind: a record"
    assert not objects, f"left behind: {list(objects)}"


def run_example(data: st.DataObject) -> None:
    """Make some calls, and look at what is left."""
    signal.alarm(0)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    before = open_fds()
    try:
        try:
            for _ in range(data.draw(st.integers(1, ACTIONS))):
                act(data)
        finally:  # Hypothesis gives up an example that has drawn too much
            clean_up(before)
    except Exception:
        traceback.print_exc()  # at once: Hypothesis would run it again, and all is different then
        sys.stderr.flush()
        os._exit(1)


def fuzz(seed: int | None, examples: int, seconds: float, path: str) -> None:
    """All that is done in the process."""
    global log
    with open(path, "r+b") as file:
        log = mmap.mmap(file.fileno(), LOG_SIZE)
    faulthandler.enable()
    signal.signal(signal.SIGALRM, on_alarm)
    _native.prepare()
    assert _native.hub().fd > 0
    gc.freeze()
    gc.disable()  # a signal's exception would be lost in its callbacks
    ends = time.monotonic() + seconds
    random_numbers = random.Random(seed)
    while True:
        test = given(st.data())(run_example)
        test = settings(
            derandomize=seed is None,
            database=None,
            deadline=None,
            max_examples=examples,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(test)
        if seed is not None:
            test = seeded(random_numbers.randrange(1 << 32))(test)
        test()
        if time.monotonic() >= ends:
            break
    print(
        "calls:", ", ".join(f"{how} {number}" for how, number in counts.most_common()), flush=True
    )
    os._exit(0)  # nothing is collected any more


# ---- The process that looks on


def namespace() -> list[str]:
    """What puts a command into a pid namespace of its own, if that is allowed here."""
    ids = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", *ids, "--mount-proc", "--pid", "--fork", "--kill-child"]
    try:
        done = subprocess.run([*command, "true"], check=False, capture_output=True)
    except FileNotFoundError:
        return []
    return command if done.returncode == 0 else []


def main() -> int:
    """The command; 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="tools.fuzz", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="in one go")
    parser.add_argument("--seconds", type=float, default=0, help="go on for so long")
    parser.add_argument("--seed", type=int, help="else random, with --seconds")
    parser.add_argument("--inside", metavar="LOG", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed
    if options.inside:
        fuzz(seed, options.examples, options.seconds, options.inside)
    if seed is None and options.seconds:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
    apart = namespace()
    if not apart:
        print("there is no pid namespace to be had here: nothing is run")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "log")
        path.write_bytes(bytes(LOG_SIZE))
        command = [*apart, sys.executable, "-m", "tools.fuzz", "--inside", str(path)]
        command += ["--examples", str(options.examples), "--seconds", str(options.seconds)]
        command += [] if seed is None else ["--seed", str(seed)]
        environment = {**os.environ, "MALLOC_PERTURB_": "165"}
        if not sysconfig.get_config_var("Py_GIL_DISABLED"):  # that one has an allocator of its own
            environment["PYTHONMALLOC"] = "malloc"
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
        done = subprocess.run(command, check=False, env=environment, cwd=directory)
        if done.returncode == 0:
            return 0
        print(path.read_bytes().partition(b"\0")[0].decode())
        print(f"--- the process ended with {done.returncode}. Above, its last calls.")
        return 1


if __name__ == "__main__":
    sys.exit(main())
