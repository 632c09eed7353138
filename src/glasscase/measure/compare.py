"""Where two measurements part: by manifest, by memory map, by the first page that differs.

Invariants: a cause is a fact of the two inputs; an empty answer means that nothing that was given differs.
Source: docs/bundle-format.md, "Measurement".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glasscase.gramine.elf import PAGE
from glasscase.gramine.layout import EnclaveLayout
from glasscase.measure.mrenclave import Area, Measurement, area_pages

ABSENT = "absent"
_TEXT_MAX = 120  # characters of a value that is shown
# manifest keys whose change touches what the host can do or see
_SECURITY = (
    "sgx.debug", "sgx.allowed_files", "sgx.file_check_policy", "sgx.remote_attestation", "sgx.enable_stats", "sgx.profile",
    "sgx.seal_key", "sgx.isvsvn", "sgx.isvprodid", "sgx.use_exinfo", "loader.argv", "loader.log_level", "loader.log_file",
    "loader.env.LD_", "libos.entrypoint", "fs.mounts", "fs.root", "sys.disallow_subprocesses",
    "sys.enable_extra_runtime_domain_names_conf", "sys.allowed_ioctls", "sgx.cpu_features",
)  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """One difference. layer: runtime, package, size, threads, option, application, config, file, map, content, signature
    or bundle. measured: it changes MRENCLAVE. security: it changes what the host can do. note: what follows, or empty.
    """

    layer: str
    what: str
    before: str
    after: str
    measured: bool = True
    security: bool = False
    note: str = ""


@dataclass(frozen=True)
class Place:
    """The first page whose records differ. address: in the enclave; area: its name; offset: bytes into the area."""

    address: int
    area: str
    offset: int


def compare_options(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Cause, ...]:
    """Return what differs between two parsed manifests but for their trusted files: size, threads, then other keys."""
    old, new = dict(_leaves(before, "")), dict(_leaves(after, ""))
    causes = []
    for key in dict.fromkeys([*old, *new]):
        if old.get(key, ABSENT) == new.get(key, ABSENT) and (key in old) == (key in new):
            continue
        causes.append(_option(key, old.get(key, ABSENT), new.get(key, ABSENT)))
    rank = {"size": 0, "threads": 1, "option": 2}
    return tuple(sorted(causes, key=lambda cause: (rank[cause.layer], not cause.security)))


def trusted_files(document: Mapping[str, Any]) -> dict[str, str]:
    """Return URI -> SHA-256 in hex of the trusted files of a parsed manifest; "" where none stands."""
    sgx = document.get("sgx")
    listed = sgx.get("trusted_files") if isinstance(sgx, Mapping) else None
    found: dict[str, str] = {}
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, Mapping):
            found[str(entry.get("uri", ""))] = str(entry.get("sha256", ""))
        else:
            found[str(entry)] = ""
    return found


def compare_files(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Cause, ...]:
    """Return one cause for each trusted file that was added, removed or changed, sorted by URI."""
    causes = []
    for uri in sorted(before.keys() | after.keys()):
        old, new = before.get(uri), after.get(uri)
        if old == new:
            continue
        verb = "added" if old is None else "removed" if new is None else "changed"
        causes.append(
            Cause("file", f"trusted file {verb}: {uri}", ABSENT if old is None else old, ABSENT if new is None else new)
        )
    return tuple(causes)


def compare_maps(before: Measurement, after: Measurement) -> tuple[Cause, ...]:
    """Return what differs between two memory maps: size, threads, heap, PAL, manifest, in this order."""
    causes = []
    if before.enclave_size != after.enclave_size:
        causes.append(Cause("size", "enclave size", _mib(before.enclave_size), _mib(after.enclave_size)))
    if before.max_threads != after.max_threads:
        causes.append(_threads("threads", before.max_threads, after.max_threads))
    if before.edmm != after.edmm:
        causes.append(Cause("option", "heap added at start", _yes(not before.edmm), _yes(not after.edmm)))
    for name, layer in (("pal", "runtime"), ("manifest", "map")):
        old, new = _shape(before.areas, name), _shape(after.areas, name)
        if old != new:
            causes.append(Cause(layer, f"pages of {name}", _show_shape(old), _show_shape(new), security=name == "pal"))
    if not causes and before.mrenclave != after.mrenclave:
        causes.append(
            Cause(
                "content",
                "the same areas with other content: the manifest's text or bytes of libpal.so",
                before.mrenclave.hex(),
                after.mrenclave.hex(),
            )
        )
    return tuple(causes)


def first_difference(before: EnclaveLayout, after: EnclaveLayout) -> Place | None:
    """Return the first page, in the order of measuring, whose records differ; None if all are equal."""
    for old, new in zip(before.areas, after.areas, strict=False):
        if (old.name, old.start, old.flags, old.measured) != (new.name, new.start, new.flags, new.measured):
            return Place(new.start, new.name, 0)
        if old.measured:
            one, two = area_pages(before, old), area_pages(after, new)
            for offset in range(0, max(len(one), len(two)), PAGE):
                if one[offset : offset + PAGE].ljust(PAGE, b"\0") != two[offset : offset + PAGE].ljust(PAGE, b"\0"):
                    return Place(new.start + offset, new.name, offset)
        if old.size != new.size:
            return Place(new.start + min(old.size, new.size), new.name, min(old.size, new.size))
    if len(before.areas) != len(after.areas):
        rest = max(before.areas, after.areas, key=len)[min(len(before.areas), len(after.areas))]
        return Place(rest.start, rest.name, 0)
    return None


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        path = f"{prefix}{key}"
        if path == "sgx.trusted_files":
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path + ".")
        else:
            yield path, value


def _option(key: str, before: Any, after: Any) -> Cause:
    if key == "sgx.enclave_size":
        return Cause("size", key, _show(before), _show(after))
    if key == "sgx.max_threads":
        if isinstance(before, int) and isinstance(after, int):
            return _threads(key, before, after)
        return Cause("threads", key, _show(before), _show(after))
    security = any(key.startswith(name) for name in _SECURITY) or "insecure__" in key or "passthrough" in key
    return Cause("option", key, _show(before), _show(after), security=security)


def _threads(what: str, before: int, after: int) -> Cause:
    pages = 90 * abs(after - before)  # SSA, TCS, TLS, stack and signal stack of one thread
    change = "adds" if after > before else "removes"
    return Cause("threads", what, str(before), str(after), note=f"{change} {pages:,} measured pages")


def _shape(areas: Sequence[Area], name: str) -> tuple[tuple[int, str], ...]:
    return tuple((area.size, area.permissions) for area in areas if area.name == name)


def _show_shape(shape: tuple[tuple[int, str], ...]) -> str:
    return " + ".join(f"{size // PAGE} {permissions}" for size, permissions in shape) or ABSENT


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size % (1 << 20) == 0 else f"{size} bytes"


def _yes(value: bool) -> str:  # noqa: FBT001 - the word for a truth value
    return "yes" if value else "no"


def _show(value: Any) -> str:
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."
