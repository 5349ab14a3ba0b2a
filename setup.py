"""The native module; everything else stands in pyproject.toml."""

import platform
import sysconfig

from setuptools import Extension, setup

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # has no stable ABI yet

NATIVE = "aiopidfd/native/"

# What runs after the clone (see guardian.c): no instrumentation of any kind, no symbol that is
# bound lazily, and a bound on the stack, which has no guard page.
AFTER_CLONE_FLAGS = [
    "-std=gnu11",
    "-O2",
    "-ffreestanding",
    "-fvisibility=hidden",
    "-fno-plt",
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-fno-tree-loop-distribute-patterns",
    "-Werror=frame-larger-than=1024",
]
if platform.machine() == "aarch64":
    AFTER_CLONE_FLAGS.append("-mno-outline-atomics")  # those are functions of libgcc's

HEADERS = [
    NATIVE + name
    for name in (
        "children.h",
        "child.h",
        "clone.h",
        "fds.h",
        "fork.h",
        "jail.h",
        "life.h",
        "lines.h",
        "low.h",
        "pidinfo.h",
        "probe.h",
        "record.h",
        "spawner.h",
        "syscall.h",
        "tree.h",
    )
]
AFTER_CLONE = [
    NATIVE + name for name in ("guardian.c", "children.c", "jail.c", "clone.c", "fork.c")
]

setup(
    libraries=[
        (
            "aiopidfd_after_clone",
            {
                "sources": AFTER_CLONE,
                "obj_deps": {"": HEADERS},
                "cflags": AFTER_CLONE_FLAGS,
            },
        )
    ],
    ext_modules=[
        Extension(
            "aiopidfd._native",
            sources=[
                NATIVE + name
                for name in (
                    "module.c",
                    "child.c",
                    "record.c",
                    "start.c",
                    "collect.c",
                    "fork_host.c",
                    "hub.c",
                    "life.c",
                    "lines.c",
                    "low.c",
                    "pidinfo.c",
                    "probe.c",
                    "tree.c",
                )
            ],
            depends=[*HEADERS, *AFTER_CLONE],
            extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
            define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=not FREE_THREADED,
        )
    ],
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
