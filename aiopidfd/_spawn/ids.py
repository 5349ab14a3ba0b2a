"""The options user, group and extra_groups: whose program it is."""

import grp
import pwd
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from .. import _native
from .._pidfd.arguments import is_number
from .argument_errors import named
from .options import Steps

__all__ = ["id_steps"]

_MAX_ID: Final = 2**32 - 2  # to the kernel (uid_t)-1 means "leave it"


def id_steps(
    user: str | int | None, group: str | int | None, extra_groups: Iterable[str | int] | None
) -> Steps:
    """The steps that change a program's ids: subprocess's order, and its errors.

    Raises:
        KeyError: there is no user or group of that name.
        TypeError, ValueError, OverflowError: not an id.
    """
    steps: Steps = []
    if extra_groups is not None:
        if isinstance(extra_groups, (str, bytes)):
            raise ValueError("Groups must be a list, not a string (for the option extra_groups)")
        if not isinstance(extra_groups, Iterable):
            raise TypeError(f"extra_groups must be groups, not {type(extra_groups).__name__}")
        try:
            gids = [_group_id("extra_groups", entry) for entry in extra_groups]
        except OverflowError:
            raise ValueError("invalid group id (for the option extra_groups)") from None
        packed = struct.pack(f"={len(gids)}I", *gids)
        steps.append(("extra_groups", (_native.SYS_setgroups, len(gids), packed)))
    if group is not None:
        gid = _group_id("group", group)
        steps.append(("group", (_native.SYS_setregid, gid, gid)))
    if user is not None:
        if isinstance(user, str):
            uid = _look_up("user", lambda: pwd.getpwnam(user).pw_uid)
        elif is_number(user):
            uid = user
        else:
            raise TypeError("User must be a string or an integer (for the option user)")
        if uid < 0:
            raise ValueError(f"User ID cannot be negative, got {uid} (for the option user)")
        if uid > _MAX_ID:
            raise OverflowError("uid is greater than maximum (for the option user)")
        steps.append(("user", (_native.SYS_setreuid, uid, uid)))
    return steps


def _group_id(option: str, group: Any) -> int:
    option_of = f"for the option {option}"
    if isinstance(group, str):
        gid = _look_up(option, lambda: grp.getgrnam(group).gr_gid)
    elif is_number(group):
        gid = group
    else:
        what = "Group" if option == "group" else "Items in extra_groups"
        kind = type(group)
        raise TypeError(f"{what} must be a string or an integer, not {kind} ({option_of})")
    if gid < 0:
        raise ValueError(f"Group ID cannot be negative, got {gid} ({option_of})")
    if gid > _MAX_ID:
        raise OverflowError(f"gid is greater than maximum ({option_of})")
    return gid


def _look_up(option: str, look: Callable[[], int]) -> int:
    """The number that a name stands for."""
    try:
        return look()
    except (KeyError, ValueError) as exc:  # no such name; a NUL, or what cannot be encoded
        raise named(exc, f"the option {option}") from None
