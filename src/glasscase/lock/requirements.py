"""The requirements of a project: what its file asks for and what the enclave part itself needs.

Invariants: every line is a name with versions; options, URLs, paths and editable installs are refused, so that the index is
the only source of wheels; hashes that the file gives must hold for the wheels chosen.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from glasscase.errors import UsageError

MAX_BYTES = 1 << 20
OWN = "glasscase"
EXTRA = "enclave"
# what modules of glasscase that run inside import; the rest of its dependencies is for the host
INSIDE = ("cbor2", "cffi", "cryptography", "pynacl")
_HASH = re.compile(r"\s--hash[= ]sha256:([0-9a-fA-F]{64})")


@dataclass(frozen=True)
class Wanted:
    """One requirement. text: as it goes to the resolver. hashes: SHA-256 of the files that the line allows, if it says."""

    text: str
    name: str
    hashes: frozenset[bytes] = frozenset()


def parse_requirements(data: bytes) -> tuple[Wanted, ...]:
    """Return the requirements of a requirements file; glasscase itself is left out, its wheel is pinned another way.

    Raises UsageError("lock.requirements.refused") for anything but `name[extra] versions ; marker --hash=sha256:...`.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("it is not UTF-8", "") from None
    found = []
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if not line:
            continue
        hashes = frozenset(bytes.fromhex(digest) for digest in _HASH.findall(line))
        wanted = _one(_HASH.sub("", line).strip(), hashes)
        if wanted.name != OWN:
            found.append(wanted)
    return tuple(found)


def enclave_requirements(requires_dist: Iterable[str]) -> tuple[Wanted, ...]:
    """Return what the enclave part needs, from the Requires-Dist lines of glasscase's own wheel."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found = []
    for line in requires_dist:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        extra = requirement.marker is not None and requirement.marker.evaluate({"extra": EXTRA})
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if (always and name in INSIDE) or (extra and not always):
            found.append(Wanted(text=f"{name}{requirement.specifier}", name=name))
    return tuple(sorted(found, key=lambda wanted: wanted.name))


def _one(line: str, hashes: frozenset[bytes]) -> Wanted:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    if line.startswith("-") or " --" in line:
        raise _refused("options are not taken, the index comes from glasscase.toml", line)
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        raise _refused("it is not a name with versions", line) from None
    if requirement.url is not None:
        raise _refused("a direct URL cannot be pinned through an index", line)
    return Wanted(text=str(requirement), name=canonicalize_name(requirement.name), hashes=hashes)


def _refused(why: str, line: str) -> UsageError:
    return UsageError(
        "lock.requirements.refused",
        f"the requirements file holds {line!r}: {why}" if line else f"the requirements file: {why}",
        hint="write lines like: fastapi>=0.115",
    )
