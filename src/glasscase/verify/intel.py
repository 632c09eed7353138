"""Intel's own quote verification library as a second opinion, asked in a worker process.

Invariants: it is asked after the core and can only make a result worse; a crash, a hang, an unknown code or an unknown
structure version is an error, never an answer; the library is found at run time and is no part of this package.
Source: docs/policy.md, "Engines"; Intel SGX DCAP quote verification library.
"""

import importlib.metadata
import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glasscase.errors import CannotVerify
from glasscase.fs.child import module_command

if TYPE_CHECKING:
    from glasscase.collateral.model import Collateral
    from glasscase.core.dcap import CoreVerdict
    from glasscase.verify.anchor import TrustAnchor

SYSTEM_LIBRARY = "libsgx_dcap_quoteverify.so.1"
WHEEL = "trustflow-verification"  # the extra `intel`: Intel's library is inside its extension module
TIMEOUT_S = 30
ADVISORIES_MAX = 20  # with more, the library fails an otherwise valid quote when supplemental data is asked for
ADVISORY_TEXT_MAX = 319  # bytes of its list
ANSWER_MAX = 65536  # bytes

NUMBERS = (
    "returned", "result", "expiration_status", "supplemental", "earliest_issue", "latest_issue", "earliest_expiration",
    "tcb_date", "pck_crl_number", "root_ca_crl_number", "evaluation", "pcesvn", "pceid",
)  # fmt: skip
BYTES = ("root_key_id", "ppid", "cpusvn", "platform_instance_id")
HEX = re.compile(r"[0-9a-f]{32,96}")
RESULTS = {
    0x0000: "UpToDate",
    0xA001: "ConfigurationNeeded",
    0xA002: "OutOfDate",
    0xA003: "OutOfDateConfigurationNeeded",
    0xA004: "invalid signature",
    0xA005: "Revoked",
    0xA006: "unspecified",
    0xA007: "SWHardeningNeeded",
    0xA008: "ConfigurationAndSWHardeningNeeded",
}
RETURNED = range(0xE001, 0xE100)  # its error codes


class Unavailable(CannotVerify):
    """There is no library, or it cannot judge this."""

    def __init__(self, message: str) -> None:
        super().__init__("engine.intel.unavailable", message)


@dataclass(frozen=True)
class IntelAnswer:
    """What the library said. differences: how it disagrees with the core, in words; empty if it agrees."""

    library: str
    returned: int
    result: str
    expired: bool
    differences: tuple[str, ...]


def candidates(library: str | None = None) -> tuple[str, ...]:
    """Return where the library is looked for, in order: the given path alone, else the system's, else that of the extra."""
    if library is not None:
        return (os.path.abspath(library),)
    return (SYSTEM_LIBRARY, *_from_wheel())


def found(library: str | None = None) -> str | None:
    """Return the path or name of the library that loads in a worker process, None if there is none."""
    named = _ask({"candidates": candidates(library)})["library"]
    return None if named is None else str(named)


def judge(
    quote: bytes,
    collateral: "Collateral",
    *,
    core: "CoreVerdict",
    anchor: "TrustAnchor",
    at_unix: int,
    library: str | None = None,
) -> IntelAnswer:
    """Return Intel's answer on a quote that the core has judged.

    Raises Unavailable if no library loads or the anchor is not Intel's, CannotVerify("engine.intel.failed") if it crashed,
    hung, or answered what is not known.
    """
    if anchor.simulated:
        raise Unavailable("Intel's library knows Intel's root only, not the anchor that was given")
    advisories = ",".join(core.advisories)
    question = {
        "candidates": candidates(library),
        "quote": quote.hex(),
        "items": _items(collateral),
        "at": at_unix,
        "supplemental": len(core.advisories) <= ADVISORIES_MAX and len(advisories) <= ADVISORY_TEXT_MAX,
    }
    said = _ask(question)
    if said["library"] is None and library is not None:
        raise Unavailable(f"{library[:200]!r} cannot be loaded, or is not Intel's library")
    if said["library"] is None:
        extra = "the extra glasscase[intel] (for Python 3.11)"
        raise Unavailable(f"neither {SYSTEM_LIBRARY} nor {extra} is there, or they cannot be loaded")
    answer = _checked(said)
    returned, code = answer["returned"], answer["result"]
    if returned != 0:
        if returned not in RETURNED:
            raise _failed(f"{said['library']} gave the unknown code {returned:#x}")
        refused = (f"Intel's library refuses with {returned:#x}",) if core.genuine else ()
        return IntelAnswer(said["library"], returned, "", expired=False, differences=refused)
    if code not in RESULTS:
        raise _failed(f"{said['library']} gave the unknown result {code:#x}")
    expired = answer["expiration_status"] != 0
    differences = tuple(_differences(answer, RESULTS[code], expired=expired, core=core)) if core.genuine else ()
    return IntelAnswer(said["library"], 0, RESULTS[code], expired, differences)


def _differences(answer: dict[str, Any], result: str, *, expired: bool, core: "CoreVerdict") -> list[str]:
    """Return how the answer differs from a verdict that is genuine."""
    pairs: list[tuple[str, Any, Any]] = [("status", result, core.tcb_status), ("expired", expired, False)]
    pck, matched = core.pck, core.matched
    if answer["supplemental"] and pck is not None and matched is not None:
        pairs += [
            ("earliest issue", answer["earliest_issue"], core.earliest_issue),
            ("latest issue", answer["latest_issue"], core.latest_issue),
            ("earliest expiration", answer["earliest_expiration"], core.earliest_expiration),
            ("TCB date", answer["tcb_date"], min(matched.date, core.qe_tcb_date)),
            ("PCK CRL number", answer["pck_crl_number"], core.pck_crl_number),
            ("root CRL number", answer["root_ca_crl_number"], core.root_ca_crl_number),
            ("evaluation number", answer["evaluation"], min(core.tcb_info_evaluation, core.qe_identity_evaluation)),
            ("root key id", answer["root_key_id"], core.root_key_id.hex()),
            ("PPID", answer["ppid"], pck.ppid.hex()),
            ("CPUSVN", answer["cpusvn"], pck.cpusvn.hex()),
            ("PCESVN", answer["pcesvn"], pck.pcesvn),
            ("PCEID", answer["pceid"], int.from_bytes(pck.pceid, "little")),
            ("platform instance", answer["platform_instance_id"], pck.platform_instance_id.hex()),
            ("advisories", sorted(filter(None, answer["advisories"].split(","))), sorted(core.advisories)),
        ]
    return [f"{name}: Intel {theirs}, core {ours}" for name, theirs, ours in pairs if theirs != ours]


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    """Return the answer with every field of its type: the process that gave it has run foreign code on hostile input."""
    answer = said.get("answer")
    if isinstance(answer, dict) and answer.get("status") == "unsupported":
        raise _failed(f"{said['library']} has supplemental data of a version that is not known")
    good = (
        isinstance(answer, dict)
        and answer.get("status") == "ok"
        and all(type(answer.get(name)) is int for name in NUMBERS)
        and all(isinstance(answer.get(name), str) and HEX.fullmatch(answer[name]) for name in BYTES)
        and isinstance(answer.get("advisories"), str)
    )
    if not isinstance(answer, dict) or not good:
        raise _failed("the worker with Intel's library gave no readable answer")
    return answer


def _items(collateral: "Collateral") -> dict[str, str]:
    items = {}
    for name, value in collateral.items().items():
        items[name] = value.hex() if isinstance(value, bytes) else value
    return items


def _from_wheel() -> tuple[str, ...]:
    """Return the extension module of the extra, found by its installation record; nothing of it is imported."""
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    names = [file for file in files if file.name.startswith("verifier.") and file.name.endswith(".so")]
    return tuple(os.path.abspath(os.fspath(file.locate())) for file in names)


def _failed(message: str) -> CannotVerify:
    return CannotVerify("engine.intel.failed", message)


def _ask(question: dict[str, Any]) -> dict[str, Any]:
    """Return the worker's answer; the worker sees no environment of ours and ends with us or after TIMEOUT_S."""
    command = module_command("glasscase.verify.intelworker")
    try:
        done = subprocess.run(
            command, input=json.dumps(question).encode(), capture_output=True, timeout=TIMEOUT_S, check=False, env={}
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"Intel's library gave no answer in {TIMEOUT_S} seconds") from None
    except OSError as error:
        raise _failed(f"the worker for Intel's library cannot start: {error.strerror}") from None
    if done.returncode != 0 or len(done.stdout) > ANSWER_MAX:
        raise _failed(f"the worker with Intel's library ended with {done.returncode}")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise _failed("the worker with Intel's library gave no readable answer") from None
    if not isinstance(answer, dict) or answer.get("library", 0) not in (None, *question["candidates"]):
        raise _failed("the worker with Intel's library gave no readable answer")
    return answer
