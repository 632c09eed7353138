"""TCB info and QE identity as Intel's service spells them: compact JSON, signed over the inner object.

Invariants: what is signed is exactly what stands between the outer key and its closing brace.
Source: Intel SGX and TDX Provisioning Certification Service, version 4: TCB info V3, enclave identity V2.
"""

import json
from datetime import UTC, datetime
from typing import Any

from glasscase.sim.pck import CURRENT_TCB, FMSPC, PCE_ID
from glasscase.sim.pki import Edit, SigningKey

DAY_S = 86400
COLLATERAL_LIFE_S = 30 * DAY_S
TCB_EVALUATION_NUMBER = 19
QE_SVN = 8
_ADVISORIES = ("INTEL-SA-00289", "INTEL-SA-00615", "INTEL-SA-00828")
_KINDS: tuple[dict[str, str], ...] = (
    {"category": "BIOS", "type": "Early Microcode Update"},
    {"category": "OS/VMM", "type": "SGX Late Microcode Update"},
    {"category": "OS/VMM", "type": "TXT SINIT"},
    {"category": "BIOS"},
)


def utc(at: int) -> str:
    """Return YYYY-MM-DDThh:mm:ssZ."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def tcb_level(
    components: tuple[int, ...], pce_svn: int, status: str, date: str, advisories: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return one TCB level of a TCB info document; date: YYYY-MM-DD."""
    kinds = (*_KINDS, *({} for _ in range(12)))
    level: dict[str, Any] = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn, **kind} for svn, kind in zip(components, kinds, strict=True)],
            "pcesvn": pce_svn,
        },
        "tcbDate": f"{date}T00:00:00Z",
        "tcbStatus": status,
    }
    if advisories:
        level["advisoryIDs"] = list(advisories)
    return level


def tcb_info(*, at: int, evaluation_number: int = TCB_EVALUATION_NUMBER) -> dict[str, Any]:
    """Return the TCB info object (not yet signed) issued at `at` for the simulated platform, which it finds UpToDate."""
    now = CURRENT_TCB.components
    older = (now[0] - 1, now[1] - 1, *now[2:])
    oldest = (now[0] - 5, now[1] - 5, *now[2:6], 0, *now[7:])
    return {
        "id": "SGX",
        "version": 3,
        "issueDate": utc(at),
        "nextUpdate": utc(at + COLLATERAL_LIFE_S),
        "fmspc": FMSPC.hex(),
        "pceId": PCE_ID.hex(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": evaluation_number,
        "tcbLevels": [
            tcb_level(now, CURRENT_TCB.pce_svn, "UpToDate", "2025-08-13"),
            tcb_level(now, CURRENT_TCB.pce_svn - 2, "ConfigurationNeeded", "2025-08-13", _ADVISORIES[:1]),
            tcb_level(older, CURRENT_TCB.pce_svn - 2, "SWHardeningNeeded", "2024-03-13", _ADVISORIES[1:2]),
            tcb_level(oldest, CURRENT_TCB.pce_svn - 5, "OutOfDate", "2023-02-15", _ADVISORIES),
        ],
    }


def qe_identity(*, at: int, mrsigner: bytes, evaluation_number: int = TCB_EVALUATION_NUMBER) -> dict[str, Any]:
    """Return the QE identity object (not yet signed) issued at `at` for the simulated quoting enclave."""
    levels = ((QE_SVN, "UpToDate", "2025-08-13", ()), (6, "OutOfDate", "2021-11-10", _ADVISORIES[1:2]))
    return {
        "id": "QE",
        "version": 2,
        "issueDate": utc(at),
        "nextUpdate": utc(at + COLLATERAL_LIFE_S),
        "tcbEvaluationDataNumber": evaluation_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": mrsigner.hex().upper(),
        "isvprodid": 1,
        "tcbLevels": [
            {
                "tcb": {"isvsvn": svn},
                "tcbDate": f"{date}T00:00:00Z",
                "tcbStatus": status,
                **({"advisoryIDs": list(advisories)} if advisories else {}),
            }
            for svn, status, date, advisories in levels
        ],
    }


def compact(value: Any) -> bytes:
    """Return JSON without white space, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def signed_document(
    outer_key: str, value: dict[str, Any], signer: SigningKey, *, edit_object: Edit | None = None
) -> bytes:
    """Return {outer_key: object, "signature": hex}. edit_object: changes the text of the object before it is signed."""
    text = compact(value)
    if edit_object:
        text = edit_object(text)
    return b'{"%s":%s,"signature":"%s"}' % (outer_key.encode("ascii"), text, signer.sign_raw(text).hex().encode())
