"""Everything that a verifier would look at, described before it is signed: one platform, its papers, one quote, one time.

Invariants: an unchanged scene renders to what an honest platform gives; every change is a change of one named part, so a
fault can be stated in one line. Signing happens in render() only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from glasscase.sim import pck, pki
from glasscase.sim.documents import DAY_S, qe_identity, signed_document, tcb_info
from glasscase.sim.pki import Certificate, Crl, Edit, SigningKey
from glasscase.sim.quoting import QE_MRSIGNER, Quote, QuoteEdits

ROOT_FROM = 1526899510  # 2018-05-21T10:45:10Z, as Intel's root
AUTHORITY_FROM = 1526899810  # 2018-05-21T10:50:10Z
UNTIL = 4102444799  # 2099-12-31T23:59:59Z
ROOT_CRL_LIFE_S = 380 * DAY_S
PCK_CRL_LIFE_S = 30 * DAY_S
_STAGES = {
    "pem": ("quote", "pck_crl", "tcb_info", "qe_identity"),
    "json": ("tcb_info", "qe_identity"),
    "text": ("tcb_info", "qe_identity"),
    "hex": ("root_crl", "pck_crl"),
    "quote": ("signed", "qe_report", "auth", "bytes"),
}


@dataclass(frozen=True)
class PlatformKeys:
    """The keys behind a simulated platform."""

    root: SigningKey
    ca: SigningKey
    pck: SigningKey
    tcb_signer: SigningKey
    attestation: SigningKey


@dataclass(frozen=True)
class Exhibit:
    """What a verifier gets. collateral: the seven objects as text, CRLs as hex DER; root: the DER of the trust anchor.

    claims: what the enclave is said to have said; its hash is the quote's report data.
    """

    quote: bytes
    collateral: dict[str, str]
    root: bytes
    at: int
    claims: bytes = b""


@dataclass
class Scene:
    """The description. signers: who signs which part; chains: which certificates are handed over where; anchor: the DER of
    the trusted root; omitted: collateral that is not handed over; edits: changes of bytes, by stage.

    A stage is `tbs.NAME` (certificate or CRL, before signing), `der.NAME` (after), `pem.quote`, `pem.pck_crl`,
    `pem.tcb_info`, `pem.qe_identity` (chains as text), `json.tcb_info`, `json.qe_identity` (the object before signing),
    `text.tcb_info`, `text.qe_identity` (the whole document), `hex.root_crl`, `hex.pck_crl` (as handed over),
    `quote.signed` (header and body), `quote.qe_report` (both before signing), `quote.auth` (before its length),
    `quote.bytes` (at the end).
    """

    at: int
    keys: PlatformKeys
    certificates: dict[str, Certificate]
    crls: dict[str, Crl]
    tcb_info: dict[str, Any]
    qe_identity: dict[str, Any]
    quote: Quote
    signers: dict[str, SigningKey]
    chains: dict[str, tuple[str, ...]]
    edits: list[tuple[str, Edit]] = field(default_factory=list)
    anchor: bytes = b""
    omitted: set[str] = field(default_factory=set)
    claims: bytes = b""

    def edit(self, stage: str, change: Edit) -> None:
        """Change the bytes of one stage; changes of one stage act in the order in which they were made.

        Raises ValueError for a stage that does not exist.
        """
        kind, _, name = stage.partition(".")
        if (
            name not in (*self.certificates, *self.crls)
            if kind in ("tbs", "der")
            else name not in _STAGES.get(kind, ())
        ):
            raise ValueError(f"there is no stage {stage!r}")
        self.edits.append((stage, change))

    def certificate(self, name: str, **changes: Any) -> None:
        """Change fields of one certificate."""
        self.certificates[name] = replace(self.certificates[name], **changes)

    def crl(self, name: str, **changes: Any) -> None:
        """Change fields of one CRL."""
        self.crls[name] = replace(self.crls[name], **changes)

    def set_quote(self, **changes: Any) -> None:
        """Change fields of the quote."""
        self.quote = replace(self.quote, **changes)

    def certificate_der(self, name: str) -> bytes:
        """Return one certificate as it is handed over."""
        made = self.certificates[name].encode(self.signers[name], edit_tbs=self._stage(f"tbs.{name}"))
        return self._stage(f"der.{name}")(made)

    def trust_changed_root(self) -> None:
        """Let the root certificate, with all its changes, be the trust anchor; without this it is the honest one."""
        self.anchor = b""

    def render(self) -> Exhibit:
        """Return the signed quote and collateral."""
        papers = {name: pki.pem(self.certificate_der(name)) for name in self.certificates}
        chains = {key: "".join(papers[name] for name in names) for key, names in self.chains.items()}
        chains = {key: self._stage(f"pem.{key}")(text.encode()).decode("latin-1") for key, text in chains.items()}
        quote = replace(self.quote, certification=chains["quote"].encode("latin-1") + b"\0")
        edits = QuoteEdits(*(self._stage(f"quote.{part}") for part in ("signed", "qe_report", "auth", "bytes")))
        collateral = {
            "root_ca_crl": self._crl_hex("root_crl"),
            "pck_crl": self._crl_hex("pck_crl"),
            "pck_crl_issuer_chain": chains["pck_crl"],
            "tcb_info": self._document("tcb_info", "tcbInfo", self.tcb_info),
            "tcb_info_issuer_chain": chains["tcb_info"],
            "qe_identity": self._document("qe_identity", "enclaveIdentity", self.qe_identity),
            "qe_identity_issuer_chain": chains["qe_identity"],
        }
        return Exhibit(
            quote=quote.encode(self.signers["quote"], self.signers["qe_report"], edits=edits),
            collateral={key: value for key, value in collateral.items() if key not in self.omitted},
            root=self.anchor or self.certificate_der("root"),
            at=self.at,
            claims=self.claims,
        )

    def _crl_hex(self, name: str) -> str:
        made = self.crls[name].encode(self.signers[name], edit_tbs=self._stage(f"tbs.{name}"))
        text = self._stage(f"der.{name}")(made).hex()
        return self._stage(f"hex.{name}")(text.encode("ascii")).decode("latin-1")

    def _document(self, name: str, outer_key: str, value: dict[str, Any]) -> str:
        made = signed_document(outer_key, value, self.signers[name], edit_object=self._stage(f"json.{name}"))
        return self._stage(f"text.{name}")(made).decode("utf-8", "surrogateescape")

    def _stage(self, stage: str) -> Edit:
        changes: list[Callable[[bytes], bytes]] = [change for name, change in self.edits if name == stage]

        def run(data: bytes) -> bytes:
            for change in changes:
                data = change(data)
            return data

        return run


def honest_scene(keys: PlatformKeys, *, body: bytes, at: int) -> Scene:
    """Return the scene of an honest platform at `at` (unix seconds) whose enclave has this report body (384 bytes)."""
    certificates = {
        "root": _authority(pki.ROOT_NAME, pki.ROOT_NAME, keys.root, keys.root, path_length=1, since=ROOT_FROM),
        "ca": _authority(pki.PLATFORM_CA_NAME, pki.ROOT_NAME, keys.ca, keys.root, path_length=0, since=AUTHORITY_FROM),
        "pck": pck_certificate(keys),
        "tcb_signer": Certificate(
            serial=pki.key_serial(keys.tcb_signer),
            issuer=pki.name(pki.ROOT_NAME),
            subject=pki.name(pki.TCB_SIGNING_NAME),
            not_before=AUTHORITY_FROM,
            not_after=UNTIL,
            point=keys.tcb_signer.point,
            extensions=(
                *pki.common_extensions(keys.root, keys.tcb_signer, pki.ROOT_CRL_URL),
                *pki.signer_extensions(),
            ),
        ),
    }
    crls = {
        "root_crl": Crl(
            issuer=pki.name(pki.ROOT_NAME),
            this_update=at,
            next_update=at + ROOT_CRL_LIFE_S,
            extensions=pki.crl_extensions(1, keys.root),
        ),
        "pck_crl": Crl(
            issuer=pki.name(pki.PLATFORM_CA_NAME),
            this_update=at,
            next_update=at + PCK_CRL_LIFE_S,
            extensions=pki.crl_extensions(1, keys.ca),
            revoked=tuple(int.from_bytes(keys.ca.derive(f"revoked {n}", 19), "big") for n in range(3)),
        ),
    }
    scene = Scene(
        at=at,
        keys=keys,
        certificates=certificates,
        crls=crls,
        tcb_info=tcb_info(at=at),
        qe_identity=qe_identity(at=at, mrsigner=QE_MRSIGNER),
        quote=Quote(body=body, certification=b"", user_data=keys.pck.derive("qe id", 16) + bytes(4)),
        signers={
            "root": keys.root, "ca": keys.root, "pck": keys.ca, "tcb_signer": keys.root,
            "root_crl": keys.root, "pck_crl": keys.ca, "tcb_info": keys.tcb_signer, "qe_identity": keys.tcb_signer,
            "quote": keys.attestation, "qe_report": keys.pck,
        },
        chains={
            "quote": ("pck", "ca", "root"), "pck_crl": ("ca", "root"),
            "tcb_info": ("tcb_signer", "root"), "qe_identity": ("tcb_signer", "root"),
        },
    )  # fmt: skip
    scene.anchor = scene.certificate_der("root")
    return scene


def pck_entries(keys: PlatformKeys, tcb: pck.PlatformTcb = pck.CURRENT_TCB) -> tuple[bytes, ...]:
    """Return the seven entries of the platform's SGX extension."""
    return pck.sgx_entries(tcb, ppid=keys.pck.derive("ppid", 16), instance_id=keys.pck.derive("instance id", 16))


def pck_certificate(keys: PlatformKeys) -> Certificate:
    """Return the description of the platform's PCK certificate."""
    return Certificate(
        serial=int.from_bytes(keys.pck.derive("pck serial", 20), "big") | 1 << 159,
        issuer=pki.name(pki.PLATFORM_CA_NAME),
        subject=pki.name(pki.PCK_NAME),
        not_before=AUTHORITY_FROM,
        not_after=UNTIL,
        point=keys.pck.point,
        extensions=(
            *pki.common_extensions(keys.ca, keys.pck, pki.PCK_CRL_URL.format(ca="platform")),
            *pki.signer_extensions(),
            pck.sgx_extension(pck_entries(keys)),
        ),
    )


def _authority(
    common_name: str, issuer_name: str, key: SigningKey, issuer: SigningKey, *, path_length: int, since: int
) -> Certificate:
    return Certificate(
        serial=pki.key_serial(key),
        issuer=pki.name(issuer_name),
        subject=pki.name(common_name),
        not_before=since,
        not_after=UNTIL,
        point=key.point,
        extensions=(*pki.common_extensions(issuer, key, pki.ROOT_CRL_URL), *pki.ca_extensions(path_length)),
    )
