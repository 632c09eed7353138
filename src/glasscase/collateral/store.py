"""What was fetched before: a cache of verified collateral, and marks below which a server may not fall back.

Invariants: only verified collateral is kept; marks only grow; both are written whole or not at all, one writer at a time.
Neither decides a verdict: that rests on arguments and policy alone.
Source: docs/evidence-format.md, "Fetching collateral".
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasscase.codec import strictjson
from glasscase.collateral.model import FILE_MAX, Collateral, parse_collateral
from glasscase.errors import CannotVerify, FormatError, StorageError
from glasscase.fs.atomic import read_file, storage_error, write_file

if TYPE_CHECKING:
    from glasscase.core.dcap import CoreVerdict

MARKS = "marks.json"
MARKS_MAX = 4 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Marks:
    """The numbers of one piece of collateral, each under the name of what it belongs to.

    name: fmspc, CA and channel, the name of the cached file. numbers: (object, FMSPC or CA, channel) as text -> number.
    """

    name: str
    numbers: dict[str, int]

    @classmethod
    def of(cls, core: "CoreVerdict", *, fmspc: bytes, ca: str, update: str) -> "Marks":
        """Return the marks of collateral that the core has judged: CRL numbers, evaluations, dates of issue."""
        found = {
            "root_ca_crl.number": core.root_ca_crl_number,
            f"pck_crl.{ca}.number": core.pck_crl_number,
            f"tcb_info.{fmspc.hex()}.{update}.evaluation": core.tcb_info_evaluation,
            f"qe_identity.{update}.evaluation": core.qe_identity_evaluation,
        }
        dates = {
            "root_ca_crl.issued": "root_ca_crl",
            f"pck_crl.{ca}.issued": "pck_crl",
            f"tcb_info.{fmspc.hex()}.{update}.issued": "tcb_info",
            f"qe_identity.{update}.issued": "qe_identity",
        }
        numbers = {name: number for name, number in found.items() if number is not None}
        numbers |= {name: core.windows[item].start for name, item in dates.items() if item in core.windows}
        return cls(f"{fmspc.hex()}-{ca}-{update}", numbers)


class Store:
    """A directory of collateral for one trust anchor. Made on first use, 0700."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def get(self, *, fmspc: bytes, ca: str, update: str = "standard") -> Collateral | None:
        """Return what was kept for a platform, or None. It was verified when it was kept; it may be old now."""
        path = self._directory / f"{fmspc.hex()}-{ca}-{update}.json"
        try:
            return parse_collateral(read_file(path, max_bytes=FILE_MAX, what="cached collateral"))
        except StorageError:
            return None
        except FormatError:
            return None  # a damaged cache is no cache

    def keep(self, collateral: Collateral, marks: Marks) -> None:
        """Write the collateral and raise the marks.

        Raises CannotVerify("collateral.source.older") if a number is below its mark; nothing is written then.
        """
        with self._locked():
            before = self._read_marks()
            for name, number in marks.numbers.items():
                if number < before.get(name, number):
                    raise CannotVerify(
                        "collateral.source.older",
                        f"{name} is {number}, {before[name]} was seen before",
                        hint="the server hides newer data; use another --source",
                    )
            write_file(self._directory / f"{marks.name}.json", collateral.to_bytes(), mode=0o600)
            grown = {name: _to_json(number) for name, number in {**before, **marks.numbers}.items()}
            write_file(self._directory / MARKS, strictjson.write_canonical(grown), mode=0o600)

    def _read_marks(self) -> dict[str, int]:
        try:
            value: Any = strictjson.parse_canonical(
                read_file(self._directory / MARKS, max_bytes=MARKS_MAX, what="marks"), max_bytes=MARKS_MAX, what="marks"
            )
        except StorageError as error:
            if error.reason == "fs.file.missing":
                return {}
            raise
        if not isinstance(value, dict) or not all(_is_number(number) for number in value.values()):
            raise FormatError("codec.json.malformed", f"{MARKS} in the cache is not a table of numbers")
        return {name: int(number) for name, number in value.items()}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, self._directory) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _to_json(number: int) -> int | str:
    """Return a number of a CRL, of up to 20 bytes, as JSON can hold it: beyond 53 bits as its digits."""
    return number if number <= strictjson.INT_MAX else str(number)


def _is_number(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{15,48}", value) is not None)
