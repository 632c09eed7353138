"""The simulated platform: one random root, papers as Intel's, quotes that a foreign verifier accepts under that root only."""

import base64
import json
import re
import stat
import threading

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase.errors import FormatError, UsageError
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body

AT = 1764000000
BODY = report_body(mrenclave=b"\1" * 32, mrsigner=b"\2" * 32, isv_prod_id=1, isv_svn=2, report_data=bytes(range(64)))


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    return SimPlatform.open(tmp_path_factory.mktemp("sim"))


def foreign_collateral(collateral):
    """Return the collateral in the form of dcap-qvl."""
    tcb = re.fullmatch(r'\{"tcbInfo":(.*),"signature":"([0-9a-f]+)"\}', collateral["tcb_info"])
    qe = re.fullmatch(r'\{"enclaveIdentity":(.*),"signature":"([0-9a-f]+)"\}', collateral["qe_identity"])
    parts = {
        **collateral,
        "tcb_info": tcb[1],
        "tcb_info_signature": tcb[2],
        "qe_identity": qe[1],
        "qe_identity_signature": qe[2],
    }
    return dcap_qvl.QuoteCollateralV3.from_json(json.dumps(parts))


def der_of(pem):
    return base64.b64decode("".join(pem.splitlines()[1:-1]))


def test_foreign_verifier_accepts_under_the_simulated_root(platform):
    """An independent verifier finds quote and collateral genuine and UpToDate when it is told the simulated root."""
    collateral = foreign_collateral(platform.collateral(at=AT))
    report = dcap_qvl.verify_with_root_ca(platform.quote(BODY), collateral, der_of(platform.root_pem), AT + 1)

    assert ("UpToDate", []) == (report.status, list(report.advisory_ids))


def test_foreign_verifier_refuses_under_intels_root(platform):
    """Nothing of the simulator passes under Intel's root."""
    with pytest.raises(ValueError):
        dcap_qvl.verify(platform.quote(BODY), foreign_collateral(platform.collateral(at=AT)), AT + 1)


def test_other_directory_other_root(platform, tmp_path):
    """Two data directories never share a root, and one does not vouch for the other."""
    other = SimPlatform.open(tmp_path / "other")
    collateral = foreign_collateral(platform.collateral(at=AT))

    assert other.root_pem != platform.root_pem
    with pytest.raises(ValueError):
        dcap_qvl.verify_with_root_ca(platform.quote(BODY), collateral, der_of(other.root_pem), AT + 1)


def test_reopened_platform_is_the_same(platform):
    """The same directory gives the same root, chain and collateral, byte for byte."""
    again = SimPlatform.open(platform.directory)

    assert platform.root_pem == again.root_pem
    assert platform.pck_pem() == again.pck_pem()
    assert platform.collateral(at=AT) == again.collateral(at=AT)
    assert platform.quote(BODY) == again.quote(BODY)


def test_keys_are_private(platform):
    """Every key file is 0600, the root certificate is readable, nothing else lies there."""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in platform.directory.iterdir()}

    assert 0o644 == modes.pop("root.pem")
    assert {0o600} == set(modes.values())
    assert {"root.key", "ca.key", "pck.key", "tcb-signer.key", "attestation.key", "seal.key", "lock"} == set(modes)


def test_concurrent_first_use_makes_one_root(tmp_path):
    """Programs that open the same new directory at once get one and the same platform."""
    roots = []
    threads = [
        threading.Thread(target=lambda: roots.append(SimPlatform.open(tmp_path / "d").root_pem)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 4 == len(roots)
    assert 1 == len(set(roots))


def test_killed_first_use_is_done_again(tmp_path):
    """Keys without root.pem are the leftovers of a killed run: open makes all anew."""
    first = SimPlatform.open(tmp_path)
    (tmp_path / "root.pem").unlink()
    second = SimPlatform.open(tmp_path)

    assert first.root_pem != second.root_pem


@pytest.mark.parametrize(
    ("file", "content"),
    [("pck.key", None), ("ca.key", b"junk"), ("root.pem", b"junk"), ("seal.key", b"short"), ("seal.key", None)],
)
def test_damaged_directory_is_refused(tmp_path, file, content):
    """A missing or foreign file is an error with an id, never a silent new key."""
    SimPlatform.open(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(FormatError) as caught:
        SimPlatform.open(tmp_path)

    assert "sim.platform.damaged" == caught.value.reason


def test_exposed_key_is_refused(tmp_path):
    """A key that others can read is refused."""
    SimPlatform.open(tmp_path)
    (tmp_path / "root.key").chmod(0o644)
    with pytest.raises(UsageError) as caught:
        SimPlatform.open(tmp_path)

    assert "fs.key.exposed" == caught.value.reason


def test_collateral_lives_thirty_days(platform):
    """Everything but the yearly root CRL is issued at `at` and ends 30 days later."""
    collateral = platform.collateral(at=AT)
    crl = x509.load_der_x509_crl(bytes.fromhex(collateral["pck_crl"]))

    assert AT == crl.last_update_utc.timestamp()
    assert 30 * 86400 == (crl.next_update_utc - crl.last_update_utc).total_seconds()
    for document, key in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        value = json.loads(collateral[document])[key]
        assert "2025-11-24T16:00:00Z" == value["issueDate"]
        assert "2025-12-24T16:00:00Z" == value["nextUpdate"]


def skeleton(der):
    """Return the nesting of DER: OIDs and booleans in full, of other values tag and length (integers: tag only)."""
    found = []
    while der:
        tag, size, start = der[0], der[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(der[2:start], "big")
        content, der = der[start : start + size], der[start + size :]
        value = content.hex() if tag in (1, 6) else None if tag == 2 else len(content)
        found.append((tag, skeleton(content) if tag & 0x20 else value))
    return found


def shape(certificate):
    """Return what has to be the same in a certificate of Intel's and of ours: everything but keys, names' CN, times."""
    extensions = []
    for item in certificate.extensions:
        value = item.value
        if isinstance(value, x509.UnrecognizedExtension):
            content = skeleton(value.value)
        elif isinstance(value, x509.SubjectKeyIdentifier):
            content = len(value.digest)
        elif isinstance(value, x509.AuthorityKeyIdentifier):
            content = (len(value.key_identifier), value.authority_cert_issuer, value.authority_cert_serial_number)
        elif isinstance(value, x509.CRLDistributionPoints):
            content = value[0].full_name[0].value.replace("/v3/", "/v4/")
        else:
            content = repr(value)
        extensions.append((item.oid.dotted_string, item.critical, content))
    tail = [[(a.oid.dotted_string, a._type, a.value) for a in rdn] for rdn in list(certificate.subject.rdns)[1:]]
    return (
        certificate.version,
        certificate.signature_algorithm_oid,
        certificate.signature_hash_algorithm.name,
        certificate.public_key().curve.name,
        tail,
        extensions,
    )


def chain(pem):
    return x509.load_pem_x509_certificates(pem.encode("ascii"))


def test_certificates_have_intels_form(platform, shared):
    """Field by field, extension by extension, our certificates are shaped as genuine ones; only the root's name differs."""
    case = shared / "corpus" / "sgx3-00606a000000-c81a90-2508"
    quote = (case / "quote.bin").read_bytes()
    genuine = json.loads((case / "collateral.json").read_text())
    ours = platform.collateral(at=AT)
    pairs = [
        *zip(chain(quote[quote.index(b"-----BEGIN") : -1].decode()), chain(platform.pck_pem()), strict=True),
        *zip(chain(genuine["tcb_info_issuer_chain"]), chain(ours["tcb_info_issuer_chain"]), strict=True),
        *zip(chain(genuine["qe_identity_issuer_chain"]), chain(ours["qe_identity_issuer_chain"]), strict=True),
        *zip(chain(genuine["pck_crl_issuer_chain"]), chain(ours["pck_crl_issuer_chain"]), strict=True),
    ]
    for theirs, mine in pairs:
        assert shape(theirs) == shape(mine)
    names = {c.subject.rfc4514_string().split("CN=")[-1] for _, c in pairs}
    assert {
        "SIMULATED SGX Root CA", "Intel SGX PCK Platform CA", "Intel SGX PCK Certificate", "Intel SGX TCB Signing",
    } == names  # fmt: skip


def test_documents_have_intels_spelling(platform, shared):
    """Keys, their order, their types and the compact spelling are those of genuine documents."""

    def spelling(value):
        if isinstance(value, dict):
            return [
                (key, spelling(item)) for key, item in value.items() if key not in ("category", "type", "advisoryIDs")
            ]
        return [spelling(item) for item in value[:1]] if isinstance(value, list) else type(value)

    genuine = json.loads((shared / "corpus" / "sgx3-00606a000000-c81a90-2508" / "collateral.json").read_text())
    ours = platform.collateral(at=AT)
    for name in ("tcb_info", "qe_identity"):
        assert spelling(json.loads(genuine[name])) == spelling(json.loads(ours[name]))
        assert ours[name] == json.dumps(json.loads(ours[name]), separators=(",", ":"))
        assert genuine[name] == json.dumps(json.loads(genuine[name]), separators=(",", ":"))
    assert list(genuine) == list(ours)


def test_crls_have_intels_form(platform, shared):
    """Our CRLs carry the same extensions, versions and algorithms as genuine ones."""
    genuine = json.loads((shared / "corpus" / "sgx3-00606a000000-c81a90-2508" / "collateral.json").read_text())
    ours = platform.collateral(at=AT)
    for name in ("root_ca_crl", "pck_crl"):
        theirs, mine = (x509.load_der_x509_crl(bytes.fromhex(c[name])) for c in (genuine, ours))

        assert [(e.oid, e.critical) for e in theirs.extensions] == [(e.oid, e.critical) for e in mine.extensions]
        assert theirs.signature_algorithm_oid == mine.signature_algorithm_oid
        assert theirs[0].extensions[0].value == mine[0].extensions[0].value if len(theirs) else not len(mine)


def test_quote_fields(platform):
    """The quote has Intel's layout: header, body, signatures that hold, certification data type 5, nothing behind."""
    quote = platform.quote(BODY)
    genuine_header = bytes.fromhex("0300020000000000")
    auth = quote[436:]
    certificates = chain(quote[quote.index(b"-----BEGIN") : -1].decode())
    ec.EllipticCurvePublicNumbers(
        int.from_bytes(auth[64:96], "big"), int.from_bytes(auth[96:128], "big"), ec.SECP256R1()
    ).public_key()

    assert genuine_header == quote[:8]
    assert BODY == quote[48:432]
    assert len(auth) == int.from_bytes(quote[432:436], "little")
    assert bytes(range(64)) == quote[368:432]
    assert "Intel SGX PCK Certificate" in certificates[0].subject.rfc4514_string()
    assert platform.pck_pem().encode() + b"\0" == quote[-len(platform.pck_pem()) - 1 :]


def test_report_body_of_wrong_length_is_refused(platform):
    """A body or field of another length is a programming error."""
    with pytest.raises(ValueError):
        platform.quote(BODY + b"\0")
    with pytest.raises(ValueError):
        report_body(mrenclave=b"\1" * 31, mrsigner=b"\2" * 32)


def test_unknown_stage_is_refused(platform):
    """A misspelt stage is an error, not a fault that changes nothing."""
    scene = platform.scene(body=BODY, at=AT)
    for stage in ("tbs.leaf", "json.tcbinfo", "quote", "nothing.at_all", "pem.root"):
        with pytest.raises(ValueError):
            scene.edit(stage, bytes)
