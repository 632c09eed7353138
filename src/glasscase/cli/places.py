"""The user's directories: state, cache and data. They hold files only; none of them changes a verdict.

Invariants: each is an absolute path to a directory of mode 0700, made on first use; one that was there and holds other things
keeps its mode and is refused.
Source: docs/operating.md, "Directories" (GLASSCASE_STATE, GLASSCASE_CACHE, GLASSCASE_DATA, else XDG).
"""

import os
import pwd
from pathlib import Path

from glasscase.errors import StorageError
from glasscase.fs.atomic import PART, storage_error

_OURS = frozenset({"collateral", "inputs", "instances", "measurements.jsonl", "runtimes", "simulator", "uv"})
_DATA = ("GLASSCASE_DATA", "XDG_DATA_HOME", ".local/share")


def state_dir() -> Path:
    """Return the directory of instances (GLASSCASE_STATE, else XDG_STATE_HOME/glasscase)."""
    return _made(state_place(), "GLASSCASE_STATE")


def state_place() -> Path:
    """Return where state_dir() is or would be, for who only looks."""
    return _place("GLASSCASE_STATE", "XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    """Return the directory of what can be fetched again (GLASSCASE_CACHE, else XDG_CACHE_HOME/glasscase)."""
    return _made(_place("GLASSCASE_CACHE", "XDG_CACHE_HOME", ".cache"), "GLASSCASE_CACHE")


def data_dir() -> Path:
    """Return the directory of runtimes, simulator root and ledger (GLASSCASE_DATA, else XDG_DATA_HOME/glasscase)."""
    return _made(data_place(), _DATA[0])


def data_place() -> Path:
    """Return where data_dir() is or would be, for who only looks."""
    return _place(*_DATA)


def data_dir_if_any() -> Path | None:
    """Return data_dir() if it is there, else None; makes nothing, so whoever only reads needs no home that is writable."""
    try:
        path = data_place()
    except StorageError:
        return None
    return path if os.path.isdir(path) else None  # Path.is_dir() raises where we may not look


def _place(own: str, xdg: str, fallback: str) -> Path:
    chosen = os.environ.get(own)
    if chosen:
        return Path(os.path.abspath(chosen))
    base = os.environ.get(xdg, "")
    # the XDG rules: a relative path counts as unset
    return (Path(base) if os.path.isabs(base) else _home() / fallback) / "glasscase"


def _made(path: Path, variable: str) -> Path:
    """Return the directory, made if need be; an error says which variable names another one: nobody has named this path."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            _close_to_others(path)
    except OSError as error:
        failure = storage_error(error, path)
        failure.hint = f"{variable}=DIR, one that this account can write to"
        raise failure from None
    return path


def _close_to_others(path: Path) -> None:
    """Set mode 0700; not of /tmp or a home, which a variable may name by mistake. Raises StorageError("fs.directory.shared")."""
    foreign = next((name for name in os.listdir(path) if name not in _OURS and not name.startswith(PART)), None)
    if foreign is not None:
        raise StorageError(
            "fs.directory.shared",
            f"{os.fspath(path)!r} is open to others and holds {foreign!r}, so it is not closed to them here",
            hint="name a directory of glasscase's own in GLASSCASE_DATA, _STATE, _CACHE, or chmod 700 this one",
            path=os.fspath(path),
        )
    path.chmod(0o700)


def _home() -> Path:
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise StorageError(
            "fs.file.missing",
            "there is no home directory for this user",
            hint="set HOME or GLASSCASE_DATA, _STATE, _CACHE",
        ) from None
