"""imports.txt, the measured table of everything that can be imported, made from the paths of rootfs alone.

Invariants: the table is a function of the set of paths; each name stands once, for the file that Python's own path search
would find first (packages before extensions before modules, standard library before wheels).
Source: docs/bundle-format.md, "imports.txt".
"""

import re
from collections.abc import Iterable

from glasscase.bundle.index import IMPORTS, ROOTFS
from glasscase.errors import FormatError

HEAD = "glasscase-imports 1"
SITE = "opt/site"
_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_STDLIB = re.compile(r"usr/lib/python3\.\d+")
_EXTENSION = re.compile(r"(?P<name>[^.]+)(\.cpython-(?P<version>3\d+)(-x86_64-linux-gnu)?|\.abi3)?\.so")
_INIT = "__init__"


def import_table(paths: Iterable[str]) -> bytes:
    """Return the table for the files of a bundle. paths: of all its files; those below rootfs/ count."""
    below = sorted(path.removeprefix(ROOTFS) for path in paths if path.startswith(ROOTFS) and path != IMPORTS)
    stdlib = {match[0] for path in below if (match := _STDLIB.match(path))}
    if len(stdlib) > 1:
        raise FormatError("bundle.imports.ambiguous", f"rootfs holds several standard libraries: {sorted(stdlib)}")
    roots = [root for base in sorted(stdlib) for root in (base, f"{base}/lib-dynload")] + [SITE]
    found: dict[str, tuple[str, str]] = {}
    for root in roots:
        _collect(root, [path for path in below if path.startswith(root + "/")], found)
    taken = {path for kind, path in found.values() if kind != "n"}
    lines = [f"{kind} {name} /{path}" for name, (kind, path) in found.items()]
    lines += [f"f - /{path}" for path in below if path not in taken]
    encoded = sorted(line.encode("utf-8") for line in lines)
    return b"\n".join([HEAD.encode("ascii"), *encoded]) + b"\n"


def module_names(table: bytes) -> frozenset[str]:
    """Return the names that a table makes importable."""
    rows = table.decode("utf-8").splitlines()[1:]
    return frozenset(row.split(" ", 2)[1] for row in rows if not row.startswith("f "))


def _collect(root: str, paths: list[str], found: dict[str, tuple[str, str]]) -> None:
    """Add the modules below one directory of the search path; names that are already found win."""
    candidates: dict[str, list[tuple[int, str, str]]] = {}
    namespaces: set[str] = set()
    for path in paths:
        parts = path[len(root) + 1 :].split("/")
        if root.startswith("usr/") and parts[0] == "lib-dynload" and not root.endswith("lib-dynload"):
            continue
        module = _module(parts[-1])
        if module is None or not all(_PART.fullmatch(part) for part in parts[:-1]):
            continue
        rank, kind, name = module
        if name == _INIT:
            if len(parts) == 1:
                continue
            dotted, rank, kind = ".".join(parts[:-1]), 0, "p"
        else:
            dotted = ".".join([*parts[:-1], name])
        candidates.setdefault(dotted, []).append((rank, kind, path))
        for depth in range(1, len(parts)):
            namespaces.add(".".join(parts[:depth]))
    first = set(found)
    for dotted, choices in candidates.items():
        ranked = sorted(choices)
        if len(ranked) > 1 and ranked[0][0] == ranked[1][0]:
            raise FormatError("bundle.imports.ambiguous", f"{ranked[0][2]!r} and {ranked[1][2]!r} are the same module")
        if not _hidden(dotted, first, found):
            found.setdefault(dotted, ranked[0][1:])
    for dotted in namespaces - candidates.keys():
        if not _hidden(dotted, first, found):
            found.setdefault(dotted, ("n", f"{root}/{dotted.replace('.', '/')}"))


def _hidden(dotted: str, first: set[str], found: dict[str, tuple[str, str]]) -> bool:
    """Return whether a regular package or module of an earlier directory stands in front of this name."""
    top = dotted.partition(".")[0]
    return top in first and found[top][0] != "n"


def _module(file: str) -> tuple[int, str, str] | None:
    """Return (rank, kind, name) of a file that can be imported: rank 1 extension, 2 module."""
    if file.endswith(".py"):
        name = file[:-3]
        return (2, "m", name) if _PART.fullmatch(name) else None
    match = _EXTENSION.fullmatch(file)
    if match and _PART.fullmatch(match["name"]):
        return (1, "x", match["name"])
    return None
