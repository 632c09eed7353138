"""The policy: which enclave is meant, and what platform, freshness and provisioning are accepted.

Invariants: a Policy always names an enclave or says insecure_any; no field means "not checked" by being absent: each has the
strict default of docs/policy.md. It comes from a file or from the caller, never from the environment or the evidence.
Source: docs/policy.md.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from glasscase.codec.printable import brief
from glasscase.codec.version import require_version
from glasscase.errors import FormatError

POLICY_MAX = 64 * 1024  # bytes
STATUSES = (
    "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
    "OutOfDateConfigurationNeeded",
)  # fmt: skip
ANY_ADVISORY = "any"
ANY_PLATFORM = "any-intel"
DAY_S = 86_400

_MALFORMED = "policy.file.malformed"
_INCOMPLETE = "policy.identity.incomplete"
_DURATION = r"([1-9][0-9]{0,9})([smhd])"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}
_SVN_MAX = 0xFFFF
_EVALUATION_MAX = 0xFFFF_FFFF


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_digest(value: Any) -> bool:
    return type(value) is bytes and len(value) == 32


def _is_digests(value: Any) -> bool:
    return type(value) is tuple and all(_is_digest(item) for item in value)


def _is_names(value: Any) -> bool:
    return type(value) is tuple and all(type(item) is str for item in value)


# field of Policy -> whether a value has its form: one of another form would compare unlike what it says
_FORMS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("bundle", "insecure_any", "nonce", "insecure_debug"), _is_flag),
    **dict.fromkeys(("bundle_id", "mrsigner"), lambda value: value is None or _is_digest(value)),
    **dict.fromkeys(("isv_prod_id", "isv_svn_min", "evidence_max_age_s"), lambda value: value is None or _is_count(value)),
    **dict.fromkeys(
        ("tcb_evaluation_min", "collateral_max_age_s", "crl_max_age_s", "statements_require"), _is_count
    ),
    **dict.fromkeys(("mrenclave", "owners", "statements_keys"), _is_digests),
    **dict.fromkeys(("accept", "advisories", "platforms"), _is_names),
    "provisioned": lambda value: _is_flag(value) or _is_digests(value),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One policy. Byte fields have 32 bytes, platforms 16 in hex; ages are seconds, evidence_max_age_s None is "off".

    provisioned: False, True, or the digests of the envelopes that are accepted. text: the file's bytes, empty if it was not
    read from a file; equal policies may have other texts. Raises FormatError: "policy.file.malformed" for a value of
    another type, a list for a tuple too, "policy.identity.incomplete" if no enclave is named.
    """

    bundle: bool = False
    bundle_id: bytes | None = None
    mrenclave: tuple[bytes, ...] = ()
    mrsigner: bytes | None = None
    isv_prod_id: int | None = None
    isv_svn_min: int | None = None
    insecure_any: bool = False
    accept: tuple[str, ...] = ("UpToDate",)
    advisories: tuple[str, ...] = ()
    tcb_evaluation_min: int = 0
    platforms: tuple[str, ...] = ()
    collateral_max_age_s: int = 7 * DAY_S
    crl_max_age_s: int = 31 * DAY_S
    evidence_max_age_s: int | None = DAY_S
    nonce: bool = False
    insecure_debug: bool = False
    provisioned: bool | tuple[bytes, ...] = False
    owners: tuple[bytes, ...] = ()
    statements_require: int = 0
    statements_keys: tuple[bytes, ...] = ()
    text: bytes = field(default=b"", compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, fits in _FORMS.items():
            if not fits(getattr(self, name)):
                raise FormatError(_MALFORMED, f"{name} of the policy has another type or form than it must have")
        if self.insecure_any:
            identity = (self.bundle_id, self.mrsigner, self.isv_prod_id, self.isv_svn_min)
            if self.bundle or self.mrenclave or any(value is not None for value in identity):
                raise FormatError(
                    _INCOMPLETE, "insecure_any stands alone: it contradicts every other key of [measurement]"
                )
        elif not self.bundle and not self.mrenclave and None in (self.mrsigner, self.isv_prod_id, self.isv_svn_min):
            raise FormatError(
                _INCOMPLETE,
                "[measurement] names no enclave: bundle, mrenclave, or all of mrsigner, isv_prod_id, isv_svn_min",
            )
        if self.bundle_id is not None and not self.bundle:
            raise FormatError(_INCOMPLETE, "bundle_id says whose bundle is meant, so it needs bundle = true")
        unknown = set(self.accept) - set(STATUSES)
        if unknown:
            raise FormatError(
                _MALFORMED,
                f"{sorted(unknown)[0]!r} is not a status that can be accepted, expected {', '.join(STATUSES)}",
            )
        if ANY_ADVISORY in self.advisories and len(self.advisories) > 1:
            raise FormatError(_MALFORMED, 'advisories = ["any"] stands alone')
        if ANY_PLATFORM in self.platforms and len(self.platforms) > 1:
            raise FormatError(_MALFORMED, 'platforms = ["any-intel"] stands alone')
        if self.provisioned == ():
            raise FormatError(_MALFORMED, "provisioned = [] would accept no envelope; write false or the digests")
        if len(set(self.statements_keys)) != len(self.statements_keys):
            raise FormatError(_MALFORMED, "a key stands twice in [statements] keys")
        if not 0 <= self.statements_require <= len(self.statements_keys):
            raise FormatError(
                _MALFORMED,
                f"[statements] require is {self.statements_require}, but keys has {len(self.statements_keys)}",
            )

    @property
    def sha256(self) -> bytes:
        """Return SHA-256 of the file's bytes, or zeros if it was not read from a file."""
        import hashlib

        return hashlib.sha256(self.text).digest() if self.text else bytes(32)

    @property
    def names_platforms(self) -> bool:
        """Return whether platforms are named or waived in words; without it nothing may be sealed or sent."""
        return bool(self.platforms)


def parse_policy(text: bytes) -> Policy:
    """Return the policy in the bytes of a TOML file.

    Raises FormatError: "format.newer" for a higher version, "policy.file.malformed" for an unknown key, a wrong type or a
    wrong value, "policy.identity.incomplete" if no enclave is named.
    """
    from glasscase.codec import stricttoml

    if len(text) > POLICY_MAX:
        raise _fault(f"the policy has {len(text)} bytes, at most {POLICY_MAX} are allowed")
    try:
        document = stricttoml.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise _fault("the policy is not UTF-8") from None
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise _fault(f"the policy is not TOML: {str(error)[:120]}") from None
    if "version" not in document:
        raise _fault("the policy has no version, expected version = 1")
    require_version(document.pop("version"), "the policy")
    tables = {name: document.pop(name, None) for name in _TABLES}
    if document:
        raise _fault(
            f"unknown key {brief(next(iter(document)))}, expected version or one of the tables {', '.join(_TABLES)}"
        )
    if tables["measurement"] is None:
        raise FormatError(
            _INCOMPLETE, "the policy has no [measurement]", hint="write one: glasscase policy BUNDLE -o policy.toml"
        )
    fields: dict[str, Any] = {"text": text}
    for name, table in tables.items():
        if table is None:
            continue
        if not isinstance(table, dict):
            raise _fault(f"{name} is {brief(table)}, expected a table")
        for key, value in table.items():
            known = _TABLES[name].get(key)
            if known is None:
                raise _fault(f"unknown key {brief(key)} in [{name}], expected one of {', '.join(_TABLES[name])}")
            name_in_policy, read = known
            fields[name_in_policy] = read(value, f"{key} in [{name}]")
    return Policy(**fields)


def _fault(message: str) -> FormatError:
    return FormatError(_MALFORMED, message, what="policy", hint="docs/policy.md shows every key")


def _bool(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise _fault(f"{what} is {brief(value)}, expected true or false")
    return value


def _number(limit: int) -> Any:
    def read(value: Any, what: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
            raise _fault(f"{what} is {brief(value)}, expected an integer from 0 to {limit}")
        return value

    return read


def _hex(value: Any, what: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value, re.ASCII):
        raise _fault(f"{what} is {brief(value)}, expected 64 lower-case hex digits in quotes")
    return bytes.fromhex(value)


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise _fault(f"{what} is {brief(value)}, expected a list")
    return value


def _hexes(value: Any, what: str) -> tuple[bytes, ...]:
    return tuple(_hex(item, f"an item of {what}") for item in _list(value, what))


def _one_or_more_hex(value: Any, what: str) -> tuple[bytes, ...]:
    found = _hexes(value, what) if isinstance(value, list) else (_hex(value, what),)
    if not found:
        raise FormatError(_INCOMPLETE, f"{what} is empty, so it names no enclave")
    return found


def _texts(value: Any, what: str) -> tuple[str, ...]:
    for item in _list(value, what):
        if not isinstance(item, str) or not item or len(item) > 64 or not item.isascii() or not item.isprintable():
            raise _fault(f"an item of {what} is {brief(item)}, expected a name of 1 to 64 printable ASCII characters")
    return tuple(value)


def _platforms(value: Any, what: str) -> tuple[str, ...]:
    for item in _texts(value, what):
        if item != ANY_PLATFORM and not re.fullmatch(r"[0-9a-f]{32}", item, re.ASCII):
            raise _fault(f'an item of {what} is {item!r}, expected "{ANY_PLATFORM}" or 32 lower-case hex digits')
    return tuple(value)


def _duration(value: Any, what: str, *, otherwise: str = "") -> int:
    match = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    if match is None:
        raise _fault(f'{what} is {brief(value)}, expected a number and s, m, h or d, such as "7d"{otherwise}')
    return int(match[1]) * _UNITS_S[match[2]]


def _duration_or_off(value: Any, what: str) -> int | None:
    return None if value == "off" else _duration(value, what, otherwise=', or "off"')


def _provisioned(value: Any, what: str) -> bool | tuple[bytes, ...]:
    if not isinstance(value, bool | list):
        raise _fault(f"{what} is {brief(value)}, expected true, false or a list of digests")
    return value if isinstance(value, bool) else _hexes(value, what)


# table: {key: (field of Policy, reader)}
_TABLES: dict[str, dict[str, tuple[str, Any]]] = {
    "measurement": {
        "bundle": ("bundle", _bool),
        "bundle_id": ("bundle_id", _hex),
        "mrenclave": ("mrenclave", _one_or_more_hex),
        "mrsigner": ("mrsigner", _hex),
        "isv_prod_id": ("isv_prod_id", _number(_SVN_MAX)),
        "isv_svn_min": ("isv_svn_min", _number(_SVN_MAX)),
        "insecure_any": ("insecure_any", _bool),
    },
    "platform": {
        "accept": ("accept", _texts),
        "advisories": ("advisories", _texts),
        "tcb_evaluation_min": ("tcb_evaluation_min", _number(_EVALUATION_MAX)),
        "platforms": ("platforms", _platforms),
    },
    "freshness": {
        "collateral_max_age": ("collateral_max_age_s", _duration),
        "crl_max_age": ("crl_max_age_s", _duration),
        "evidence_max_age": ("evidence_max_age_s", _duration_or_off),
        "nonce": ("nonce", _bool),
    },
    "enclave": {"insecure_debug": ("insecure_debug", _bool)},
    "instance": {"provisioned": ("provisioned", _provisioned), "owners": ("owners", _hexes)},
    "statements": {"require": ("statements_require", _number(_SVN_MAX)), "keys": ("statements_keys", _hexes)},
}
