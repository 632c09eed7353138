"""An independent verifier of SGX quotes: is this quote genuine, and what does Intel say of its platform?

Written from the verification rules alone (docs/checks.md names their sources), on `cryptography` for ECDSA and a second
reading of every certificate and CRL. It shares no code with the product and says only: accepted with which TCB status, or
refused and why first.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from strict_der import Element, Refused, boolean, elements, integer, moment, octets, oid, require, single
from strict_json import Reader, date, hexadecimal, text, whole

INTEL_ROOT_NAME = "Intel SGX Root CA"
SIMULATED_ROOT_NAME = "SIMULATED SGX Root CA"
CA_ENTRIES = {"Intel SGX PCK Processor CA": 5, "Intel SGX PCK Platform CA": 7}
PCK_NAME = "Intel SGX PCK Certificate"
TCB_NAME = "Intel SGX TCB Signing"
VENDOR = bytes.fromhex("939A7233F79C4CA9940A0DB3957F0607")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
EC_P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
SGX_OID = "1.2.840.113741.1.13.1"
AKI, CRL_DP, SKI, KU, BC = "2.5.29.35", "2.5.29.31", "2.5.29.14", "2.5.29.15", "2.5.29.19"
CRL_NUMBER, CRL_REASON = "2.5.29.20", "2.5.29.21"
TAIL = (("2.5.4.10", "Intel Corporation"), ("2.5.4.7", "Santa Clara"), ("2.5.4.8", "CA"), ("2.5.4.6", "US"))
STATUSES = (
    "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
    "OutOfDateConfigurationNeeded", "Revoked",
)  # fmt: skip
QE_STATUSES = ("UpToDate", "ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked")
REPORT_RESERVED = ((20, 32), (96, 128), (160, 192), (262, 304))
LIMITS = {
    "root_ca_crl": 10 << 20, "pck_crl": 10 << 20, "pck_crl_issuer_chain": 64 << 10, "tcb_info": 1 << 20,
    "tcb_info_issuer_chain": 64 << 10, "qe_identity": 1 << 20, "qe_identity_issuer_chain": 64 << 10,
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """tcb_status: the converged status if accepted. why: the first rule that was broken if not."""

    accepted: bool
    tcb_status: str | None = None
    why: str = ""


def judge(quote, collateral, *, roots, at, simulated=False):
    """Judge a quote with collateral in the corpus form. roots: DER of the accepted root certificates; at: unix seconds."""
    try:
        return Answer(True, _judge(quote, collateral, tuple(roots), at, simulated))
    except Refused as refused:
        return Answer(False, why=str(refused))


# --- quote ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quote:
    signed: bytes
    body: bytes
    signature: bytes
    key: bytes
    qe_report: bytes
    qe_signature: bytes
    qe_auth: bytes
    chain: bytes


class Cut:
    """Takes pieces off the front of bytes."""

    def __init__(self, data):
        self.left = data

    def take(self, size):
        require(len(self.left) >= size, "quote ends too early")
        piece, self.left = self.left[:size], self.left[size:]
        return piece

    def number(self, size):
        return int.from_bytes(self.take(size), "little")


def read_quote(data):
    require(len(data) <= 65536, "quote oversize")
    cut = Cut(data)
    header = cut.take(48)
    version, key_type = int.from_bytes(header[:2], "little"), int.from_bytes(header[2:4], "little")
    require(version in (3, 4, 5), "quote version")
    require(key_type == 2, "attestation key type")
    require(header[4:8] == bytes(4), "TEE type (or reserved bytes) not SGX")
    require(version == 3 or header[8:12] == bytes(4), "reserved bytes of the header")
    require(header[12:28] == VENDOR, "QE vendor")
    signed = header
    if version == 5:
        descriptor = cut.take(6)
        require(descriptor == b"\1\0" + (384).to_bytes(4, "little"), "body type and size")
        signed += descriptor
    body = cut.take(384)
    signed += body
    auth = Cut(cut.take(cut.number(4)))
    require(not cut.left, "bytes behind the auth data")
    signature, key = auth.take(64), auth.take(64)
    if version > 3:
        require(auth.number(2) == 6, "nested certification data type")
        nested = Cut(auth.take(auth.number(4)))
        require(not auth.left, "bytes behind the nested data")
        auth = nested
    qe_report, qe_signature = auth.take(384), auth.take(64)
    qe_auth = auth.take(auth.number(2))
    require(len(qe_auth) <= 1024, "QE auth data oversize")
    certification_type = auth.number(2)
    chain = auth.take(auth.number(4))
    require(not auth.left, "bytes behind the certification data")
    require(certification_type == 5, "certification data type")
    for report in (body, qe_report):
        require(not any(any(report[start:end]) for start, end in REPORT_RESERVED), "reserved bytes of a report")
    return Quote(signed, body, signature, key, qe_report, qe_signature, qe_auth, chain)


# --- certificates -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    raw: bytes
    tbs: bytes
    serial: int
    issuer: bytes
    subject: bytes
    name: str
    not_before: int
    not_after: int
    key: bytes
    extensions: dict
    signature: bytes


def read_pem(data):
    """Return the DER of each certificate in a text of exact PEM blocks and nothing else."""
    found = []
    block = re.compile(
        rb"-----BEGIN CERTIFICATE-----\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n)-----END CERTIFICATE-----(?:\n|\Z)"
    )
    at = 0
    while at < len(data):
        match = block.match(data, at)
        require(match, "not exact PEM")
        joined = match[1].replace(b"\n", b"")
        require(len(joined) % 4 == 0, "base64 length")
        raw = base64.b64decode(joined, validate=True)
        require(base64.b64encode(raw) == joined, "base64 not canonical")
        found.append(raw)
        at = match.end()
    return found


def read_certificate(raw):
    outer = single(raw, 0x30).children()
    require(len(outer) == 3, "certificate of three parts")
    tbs, algorithm, signature = outer
    fields = tbs.children()
    require(tbs.tag == 0x30 and len(fields) == 8, "signed part of eight fields")
    version, serial, inner, issuer, validity, subject, spki, extensions = fields
    require(version.tag == 0xA0 and version.content == b"\2\1\2", "certificate version 3")
    require(algorithm.raw == inner.raw == ECDSA_SHA256, "signature algorithm")
    require(0 < integer(serial) < 2**160, "serial number")
    require(validity.tag == 0x30 and len(validity.children()) == 2, "validity")
    require(spki.tag == 0x30 and len(spki.children()) == 2 and spki.children()[0].raw == EC_P256, "key algorithm")
    bits = spki.children()[1]
    require(bits.tag == 3 and len(bits.content) == 66 and bits.content[:2] == b"\0\4", "public key form")
    require(extensions.tag == 0xA3, "extensions")
    require(signature.tag == 3 and signature.content[:1] == b"\0", "signature bits")
    try:
        x509.load_der_x509_certificate(raw)  # a second reader must not object
    except Exception as error:
        raise Refused(f"second reader: {error}") from None
    return Certificate(
        raw, tbs.raw, integer(serial), issuer.raw, subject.raw, read_name(subject), *map(moment, validity.children()),
        bits.content[1:], read_extensions(extensions), signature.content[1:],
    )  # fmt: skip


def read_name(name):
    """Return the CN of a distinguished name of Intel's form."""
    found = []
    require(name.tag == 0x30, "name")
    for part in name.children():
        require(part.tag == 0x31 and len(part.children()) == 1, "name part")
        pair = part.children()[0].children()
        require(len(pair) == 2 and pair[1].tag in (0x0C, 0x13), "name value")
        found.append((oid(pair[0]), pair[1].content.decode("utf-8", "replace")))
    require(len(found) == 5 and found[0][0] == "2.5.4.3" and tuple(found[1:]) == TAIL, "name is not of Intel's form")
    return found[0][1]


def read_extensions(wrapper):
    """Return oid -> (critical, content)."""
    inside = wrapper.children()
    require(len(inside) == 1 and inside[0].tag == 0x30, "extensions")
    found = {}
    for item in inside[0].children():
        require(item.tag == 0x30, "extension")
        parts = item.children()
        require(len(parts) in (2, 3), "extension")
        critical = len(parts) == 3
        require(not critical or boolean(parts[1]), "criticality FALSE is not written in DER")
        require(oid(parts[0]) not in found, "extension twice")
        found[oid(parts[0])] = (critical, octets(parts[-1]))
    return found


def holds(key, signature, message):
    """Return whether an ECDSA signature (DER) over SHA-256 of the message holds under a key of 65 bytes."""
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def holds_raw(key, signature, message):
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return holds(key, utils.encode_dss_signature(r, s), message)


def der_signature(signature):
    parts = single(signature, 0x30).children()
    require(len(parts) == 2 and all(part.tag == 2 and integer(part) > 0 for part in parts), "signature form")


def check_role(certificate, kind):
    """Check extensions, key usage and constraints of a root, CA, PCK leaf or TCB signer."""
    authority = kind in ("root", "ca")
    wanted = {AKI: False, CRL_DP: False, SKI: False, KU: True, BC: True}
    if kind == "pck":
        wanted[SGX_OID] = False
    present = {name: critical for name, (critical, _) in certificate.extensions.items()}
    require(present == wanted, f"extensions of {kind}")
    usage = single(certificate.extensions[KU][1], 0x03).content
    require(usage == (b"\1\6" if authority else b"\6\xc0"), f"key usage of {kind}")
    constraints = single(certificate.extensions[BC][1], 0x30).content
    if kind == "root":  # trusted by identity, so how many authorities may stand below it is its owner's choice
        parts = elements(constraints)
        require(len(parts) in (1, 2) and boolean(parts[0]), "basic constraints of root")
        require(all(1 <= integer(length) <= 255 for length in parts[1:]), "path length of root")
    else:
        require(constraints == (b"\1\1\xff\2\1\0" if authority else b""), f"basic constraints of {kind}")
    key_id(certificate.extensions)
    octets(single(certificate.extensions[SKI][1], 0x04))
    content = certificate.extensions[CRL_DP][1]  # not used; but DER it must be
    single(content, content[0] if content else 0)


def key_id(extensions):
    """Return the key id of an authority key identifier."""
    parts = single(extensions[AKI][1], 0x30).children()
    require(len(parts) == 1 and parts[0].tag == 0x80, "authority key identifier")
    return parts[0].content


def check_issued(certificate, issuer, what):
    require(certificate.issuer == issuer.subject, f"issuer of {what}")
    require(key_id(certificate.extensions) == octets(single(issuer.extensions[SKI][1], 0x04)), f"key id of {what}")
    der_signature(certificate.signature)
    require(holds(issuer.key, certificate.signature, certificate.tbs), f"signature of {what}")


def check_window(certificate, at, what):
    require(certificate.not_before <= at < certificate.not_after, f"window of {what}")


def check_root(certificate, roots, at, simulated, what):
    require(certificate.raw in roots, f"root of {what} is not an accepted one")
    names = (INTEL_ROOT_NAME, SIMULATED_ROOT_NAME) if simulated else (INTEL_ROOT_NAME,)
    require(certificate.name in names, f"name of the root of {what}")
    check_role(certificate, "root")
    check_issued(certificate, certificate, f"root of {what}")
    check_window(certificate, at, f"root of {what}")


# --- SGX extension ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Platform:
    components: tuple
    pce_svn: int
    pce_id: bytes
    fmspc: bytes


def read_sgx(content, entries_wanted):
    entries = pairs(single(content, 0x30).children(), SGX_OID)
    require(len(entries) == entries_wanted, "number of entries of the SGX extension")
    require([number for number, _ in entries] == [str(n) for n in range(1, entries_wanted + 1)], "SGX entries")
    values = dict(entries)
    octets(values["1"], 16)
    fmspc, pce_id = octets(values["4"], 6), octets(values["3"], 2)
    require(integer(values["5"], 0x0A) in (0, 1, 2), "SGX type")
    if entries_wanted == 7:
        octets(values["6"], 16)
        flags = pairs(values["7"].children(), SGX_OID + ".7")
        require(values["7"].tag == 0x30 and [n for n, _ in flags] == ["1", "2", "3"], "SGX configuration")
        for _, flag in flags:
            boolean(flag)
    require(values["2"].tag == 0x30, "TCB")
    tcb = pairs(values["2"].children(), SGX_OID + ".2")
    require([number for number, _ in tcb] == [str(n) for n in range(1, 19)], "TCB entries")
    components = tuple(integer(value) for _, value in tcb[:16])
    pce_svn = integer(tcb[16][1])
    octets(tcb[17][1], 16)
    require(all(0 <= svn <= 255 for svn in components) and 0 <= pce_svn <= 65535, "SVN range")
    return Platform(components, pce_svn, pce_id, fmspc)


def pairs(items, arc):
    """Return (last part of the id, value) of entries below an arc."""
    found = []
    for item in items:
        require(item.tag == 0x30 and len(item.children()) == 2, "SGX entry of two")
        name, value = item.children()
        head, _, last = oid(name).rpartition(".")
        require(head == arc, "SGX entry of another arc")
        found.append((last, value))
    return found


# --- CRL --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crl:
    tbs: bytes
    issuer: bytes
    start: int
    end: int
    revoked: frozenset
    extensions: dict
    signature: bytes


def read_crl(given):
    data = crl_bytes(given)
    outer = single(data, 0x30).children()
    require(len(outer) == 3, "CRL of three parts")
    tbs, algorithm, signature = outer
    fields = tbs.children()
    require(tbs.tag == 0x30 and len(fields) in (6, 7), "CRL fields")
    require(fields[0].raw == b"\2\1\1", "CRL version 2")
    require(algorithm.raw == fields[1].raw == ECDSA_SHA256, "CRL signature algorithm")
    entries = fields[5].children() if len(fields) == 7 else []
    require(len(fields) == 6 or (fields[5].tag == 0x30 and entries), "CRL entries")
    require(fields[-1].tag == 0xA0, "CRL extensions")
    require(signature.tag == 3 and signature.content[:1] == b"\0", "CRL signature bits")
    revoked = []
    for entry in entries:
        parts = entry.children()
        require(entry.tag == 0x30 and len(parts) in (2, 3), "CRL entry")
        revoked.append(integer(parts[0]))
        require(0 <= revoked[-1] < 2**160, "serial number of a CRL entry")
        moment(parts[1])
        if len(parts) == 3:
            reason = read_extensions(Element(0xA0, parts[2].raw, b""))
            require(set(reason) == {CRL_REASON} and not reason[CRL_REASON][0], "extensions of a CRL entry")
            # 8, removeFromCRL, stands in delta CRLs only (RFC 5280, 5.3.1)
            require(integer(single(reason[CRL_REASON][1], 0x0A), 0x0A) in (*range(8), 9, 10), "reason code")
    try:
        x509.load_der_x509_crl(data).extensions  # noqa: B018 - a second reader must not object
    except Exception as error:
        raise Refused(f"second reader: {error}") from None
    extensions = read_extensions(fields[-1])
    require(
        {name: critical for name, (critical, _) in extensions.items()} == {CRL_NUMBER: False, AKI: False},
        "CRL extensions",
    )
    require(0 <= integer(single(extensions[CRL_NUMBER][1], 0x02)) < 2**160, "CRL number")
    return Crl(
        tbs.raw,
        fields[2].raw,
        moment(fields[3]),
        moment(fields[4]),
        frozenset(revoked),
        extensions,
        signature.content[1:],
    )


def crl_bytes(given):
    """Return DER from hex, PEM or DER."""
    data = given.encode("latin-1", "replace") if isinstance(given, str) else given
    require(data, "CRL missing")
    if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", data):
        return bytes.fromhex(data.decode("ascii"))
    return data


def check_crl(crl, issuer, at, what):
    require(crl.issuer == issuer.subject, f"issuer of {what}")
    require(key_id(crl.extensions) == octets(single(issuer.extensions[SKI][1], 0x04)), f"key id of {what}")
    der_signature(crl.signature)
    require(holds(issuer.key, crl.signature, crl.tbs), f"signature of {what}")
    require(crl.start <= at < crl.end, f"window of {what}")


# --- documents --------------------------------------------------------------------------------------------------------


def read_document(given, outer_key, signer):
    """Return the signed object after its signature was checked over its verbatim bytes."""
    require(given, f"{outer_key} missing")
    data = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else given
    reader = Reader(data)
    document = reader.document()
    require(
        isinstance(document, dict) and set(document) == {outer_key, "signature"}, f"members of the {outer_key} document"
    )
    require(isinstance(document[outer_key], dict), f"{outer_key} is no object")
    signature = hexadecimal(document["signature"], 64)
    start, end = reader.spans[outer_key]
    require(holds_raw(signer.key, signature, data[start:end]), f"signature of {outer_key}")
    return document[outer_key]


def check_dates(value, at, what):
    start, end = date(value.get("issueDate")), date(value.get("nextUpdate"))
    require(start <= at < end, f"window of {what}")
    whole(value.get("tcbEvaluationDataNumber"), 0, 2**32 - 1)


def advisories(level):
    found = level.get("advisoryIDs", [])
    require(
        isinstance(found, list) and all(isinstance(item, str) and 0 < len(item) <= 64 for item in found), "advisoryIDs"
    )


def level_list(value):
    levels = value.get("tcbLevels")
    require(isinstance(levels, list) and levels and all(isinstance(item, dict) for item in levels), "tcbLevels")
    for level in levels:
        require(isinstance(level.get("tcb"), dict), "tcb of a level")
        date(level.get("tcbDate"))
        advisories(level)
    return levels


def platform_status(value, platform):
    """Return the status that TCB info gives a platform, after every rule about TCB info."""
    require(whole(value.get("version"), 0, 2**32) == 3, "TCB info version")
    require(value.get("id") == "SGX", "TCB info of another TEE")
    require(whole(value.get("tcbType"), 0, 2**32) == 0, "tcbType")
    require("tdxModule" not in value and "tdxModuleIdentities" not in value, "TDX module in SGX TCB info")
    require(hexadecimal(value.get("fmspc"), 6) == platform.fmspc, "FMSPC")
    require(hexadecimal(value.get("pceId"), 2) == platform.pce_id, "PCEID")
    levels = []
    for level in level_list(value):
        tcb = level["tcb"]
        components = tcb.get("sgxtcbcomponents")
        require("tdxtcbcomponents" not in tcb, "TDX components in SGX TCB info")
        require(isinstance(components, list) and len(components) == 16, "number of components")
        require(all(isinstance(item, dict) for item in components), "component")
        svns = tuple(whole(item.get("svn"), 0, 255) for item in components)
        names = [item[key] for item in components for key in ("category", "type") if key in item]
        require(all(isinstance(name, str) for name in names), "name of a component")
        status = text(level.get("tcbStatus"), "|".join(STATUSES))
        levels.append((svns, whole(tcb.get("pcesvn"), 0, 65535), status))
    require(len({item[:2] for item in levels}) == len(levels), "TCB level twice")
    for svns, pce_svn, status in sorted(levels, key=lambda item: item[:2], reverse=True):
        if (
            all(own >= needed for own, needed in zip(platform.components, svns, strict=True))
            and platform.pce_svn >= pce_svn
        ):
            require(status != "Revoked", "TCB level revoked")
            return status
    raise Refused("no TCB level for this platform")


def check_enclave_identity(value, report):
    """Return the status of the quoting enclave, after every rule about QE identity."""
    require(whole(value.get("version"), 0, 2**32) == 2, "QE identity version")
    require(value.get("id") == "QE", "identity of another enclave")
    misc, misc_mask = hexadecimal(value.get("miscselect"), 4), hexadecimal(value.get("miscselectMask"), 4)
    attributes, attributes_mask = hexadecimal(value.get("attributes"), 16), hexadecimal(value.get("attributesMask"), 16)
    # MISCSELECT is a number in the report and spelt big-endian in the document
    seen = report[16:20][::-1]
    require(bytes(a & b for a, b in zip(seen, misc_mask, strict=True)) == misc, "QE MISCSELECT")
    require(bytes(a & b for a, b in zip(report[48:64], attributes_mask, strict=True)) == attributes, "QE attributes")
    require(hexadecimal(value.get("mrsigner"), 32) == report[128:160], "QE MRSIGNER")
    require(whole(value.get("isvprodid"), 0, 65535) == int.from_bytes(report[256:258], "little"), "QE product id")
    levels = [
        (whole(level["tcb"].get("isvsvn"), 0, 65535), text(level.get("tcbStatus"), "|".join(QE_STATUSES)))
        for level in level_list(value)
    ]
    svns = [svn for svn, _ in levels]
    require(svns == sorted(set(svns), reverse=True), "QE levels not strictly descending")
    own = int.from_bytes(report[258:260], "little")
    for svn, status in levels:
        if svn <= own:
            require(status != "Revoked", "QE revoked")
            return "UpToDate" if status == "UpToDate" else "OutOfDate"
    raise Refused("no level for the QE")


def converge(platform, qe):
    if qe == "UpToDate":
        return platform
    return {
        "UpToDate": "OutOfDate",
        "SWHardeningNeeded": "OutOfDate",
        "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
    }.get(platform, platform)


# --- the whole --------------------------------------------------------------------------------------------------------


def chain_of(given, count, what):
    data = given.encode("latin-1", "replace") if isinstance(given, str) else given
    require(data, f"{what} missing")
    found = [read_certificate(raw) for raw in read_pem(data)]
    require(len(found) == count, f"{what} has {len(found)} certificates")
    return found


def _judge(data, collateral, roots, at, simulated):
    for name, limit in LIMITS.items():
        require(isinstance(collateral.get(name), str | bytes), f"{name} missing")
        require(len(collateral[name]) <= limit * (2 if name.endswith("crl") else 1), f"{name} oversize")
    quote = read_quote(data)
    root_names = (INTEL_ROOT_NAME, SIMULATED_ROOT_NAME)
    chain_text = quote.chain.removesuffix(b"\0")
    chain = chain_of(chain_text, 3, "PCK chain")
    by_role = {"root": [], "ca": [], "pck": []}
    for certificate in chain:
        role = "root" if certificate.name in root_names else "ca" if certificate.name in CA_ENTRIES else "pck"
        require(role != "pck" or certificate.name == PCK_NAME, "name in the PCK chain")
        by_role[role].append(certificate)
    require(all(len(found) == 1 for found in by_role.values()), "roles of the PCK chain")
    root, ca, pck = (by_role[role][0] for role in ("root", "ca", "pck"))
    check_root(root, roots, at, simulated, "the PCK chain")
    for certificate, issuer, role in ((ca, root, "ca"), (pck, ca, "pck")):
        check_role(certificate, role)
        check_issued(certificate, issuer, role)
        check_window(certificate, at, role)
    platform = read_sgx(pck.extensions[SGX_OID][1], CA_ENTRIES[ca.name])

    root_crl = read_crl(collateral["root_ca_crl"])
    check_crl(root_crl, root, at, "the root CRL")
    crl_ca, crl_root = chain_of(collateral["pck_crl_issuer_chain"], 2, "PCK CRL chain")
    check_root(crl_root, roots, at, simulated, "the PCK CRL chain")
    require(crl_ca.name in CA_ENTRIES, "name in the PCK CRL chain")
    check_role(crl_ca, "ca")
    check_issued(crl_ca, crl_root, "CA of the PCK CRL")
    check_window(crl_ca, at, "CA of the PCK CRL")
    require((crl_ca.subject, crl_ca.key) == (ca.subject, ca.key), "PCK CRL of another CA")
    pck_crl = read_crl(collateral["pck_crl"])
    check_crl(pck_crl, crl_ca, at, "the PCK CRL")
    require(root.serial not in root_crl.revoked, "root revoked")
    require(ca.serial not in root_crl.revoked and crl_ca.serial not in root_crl.revoked, "CA revoked")
    require(pck.serial not in pck_crl.revoked, "PCK certificate revoked")

    documents = {}
    for name, outer_key in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        signer, signer_root = chain_of(collateral[f"{name}_issuer_chain"], 2, f"{name} chain")
        check_root(signer_root, roots, at, simulated, f"the {name} chain")
        require(signer.name == TCB_NAME, f"name of the signer of {name}")
        check_role(signer, "signer")
        check_issued(signer, signer_root, f"signer of {name}")
        check_window(signer, at, f"signer of {name}")
        require(signer.serial not in root_crl.revoked, f"signer of {name} revoked")
        documents[name] = read_document(collateral[name], outer_key, signer)
        check_dates(documents[name], at, name)
    status = platform_status(documents["tcb_info"], platform)

    require(holds_raw(pck.key, quote.qe_signature, quote.qe_report), "signature of the QE report")
    binding = hashlib.sha256(quote.key + quote.qe_auth).digest() + bytes(32)
    require(quote.qe_report[320:384] == binding, "QE report data")
    qe_status = check_enclave_identity(documents["qe_identity"], quote.qe_report)
    require(holds_raw(b"\4" + quote.key, quote.signature, quote.signed), "signature of the quote")
    return converge(status, qe_status)
