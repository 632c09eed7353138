"""inspect names what a file is, shows what it says, and says nothing of a file that it does not know."""

import contextlib
import json
import os
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from glasscase.audit.inspection import inspect_bytes
from glasscase.errors import FormatError
from glasscase.evidence.attestation import Attestation, Claims, Instance, Session
from glasscase.evidence.format import to_json
from glasscase.evidence.model import Evidence
from glasscase.ratls.cert import LEGACY_OID, make_certificate, spki_digest
from glasscase.sgx.reportdata import claims_report_data
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body
from glasscase.statements.ledger import NO_KEY, next_line

AT = 1764000000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return evidence, certificate, claims and quote of one simulated enclave."""
    platform = SimPlatform.open(tmp_path_factory.mktemp("inspect"))
    key = ec.generate_private_key(ec.SECP256R1())
    instance = Instance(b"i" * 16, 1, b"s" * 1216, b"r" * 32)
    session = Session(4, AT, AT + 3600, ("localhost",))
    claims = Claims(spki_digest(key.public_key()), instance.to_bytes(), session.to_bytes()).to_bytes()
    quote = platform.quote(report_body(mrenclave=b"\x1c" * 32, mrsigner=b"\x2d" * 32, isv_prod_id=7, isv_svn=3,
                                       report_data=claims_report_data(claims)))  # fmt: skip
    certificate = make_certificate(
        key, claims, quote, name="app", not_before=AT, not_after=AT + 3600, san=("localhost",)
    )
    evidence = Evidence(attestation=Attestation(quote, claims, certificate), bundle_id=b"b" * 32, created_at=AT)
    return SimpleNamespace(
        platform=platform, key=key, claims=claims, quote=quote, certificate=certificate, evidence=evidence
    )


def test_every_quote_of_the_corpus(shared):
    """Each quote shows version, TEE, platform and debug as its case says; those that are cut or extended are refused."""
    seen = set()
    for folder in sorted((shared / "corpus").glob("*/")):
        if not (folder / "quote.bin").exists():
            continue
        facts = json.loads((folder / "expected.json").read_text())["facts"]
        content = (folder / "quote.bin").read_bytes()
        if folder.name.startswith(("odd-trailing", "odd-truncated", "odd-vendor")):
            with pytest.raises(FormatError) as caught:
                inspect_bytes(content)
            assert caught.value.reason.startswith("quote.")
            continue
        value = inspect_bytes(content)
        assert ("quote", facts["tee"], facts["quote_version"]) == (value["kind"], value["tee"], value["version"])
        assert "kind" == next(iter(value))
        assert facts["debug"] == value["debug"]
        if facts["cert_type"] == 5:
            assert (facts["fmspc"], facts["ca"].split()[-2].lower()) == (value["fmspc"], value["pck_ca"])
        else:
            assert value["fmspc"] is None and value["pck_ca"] is None
        if facts["tee"] == "SGX":
            assert content[112:144].hex() == value["mrenclave"]
            assert content[368:432].hex() == value["report_data"]
        seen.add((facts["tee"], facts["quote_version"]))

    assert {("SGX", 3), ("TDX", 4), ("TDX", 5)} == seen


def test_evidence_in_both_forms(made):
    """Evidence shows quote, claims and the host's own words apart."""
    for content in (made.evidence.to_cbor(), to_json(made.evidence)):
        value = inspect_bytes(content)

        assert ("evidence", "1c" * 32, 7) == (value["kind"], value["quote"]["mrenclave"], value["quote"]["isv_prod_id"])
        assert ["localhost"] == value["claims"]["san"]
        assert ("62" * 32, made.evidence.evidence_id.hex()) == (value["host_says"]["bundle_id"], value["id"])
    assert "attestation" == inspect_bytes(made.evidence.attestation.to_bytes())["kind"]
    assert "claims" == inspect_bytes(made.claims)["kind"]


def test_certificates_by_role(made, shared):
    """RA-TLS, Gramine's older form, PCK and others are told apart; the older form is only shown."""
    from cryptography import x509

    from glasscase.core import dcap

    value = inspect_bytes(made.certificate)
    assert ("certificate", "ra-tls", "1c" * 32) == (value["kind"], value["role"], value["quote"]["mrenclave"])
    pem = x509.load_der_x509_certificate(made.certificate).public_bytes(Encoding.PEM)
    assert "ra-tls" == inspect_bytes(pem)["role"]
    legacy = inspect_bytes(legacy_certificate(made))
    assert ("ra-tls-legacy", "1c" * 32) == (legacy["role"], legacy["quote"]["mrenclave"])
    assert "never enough" in legacy["note"]
    chain = dcap.parse_quote(made.quote).chain
    assert "pck" in {inspect_bytes(der)["role"] for der in chain}
    root = (shared / "corpus" / "roots" / "intel-2049.pem").read_bytes()
    assert "other" == inspect_bytes(root)["role"]
    assert "certificate-chain" == inspect_bytes(root + root)["kind"]


def legacy_certificate(made):
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "RATLS")])
    begin = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(made.key.public_key())
    builder = builder.serial_number(5).not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=900))
    builder = builder.add_extension(x509.UnrecognizedExtension(LEGACY_OID, made.quote), critical=False)
    return builder.sign(made.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_the_predecessors_evidence(made):
    """Cosmian Enclave's file is recognised by its certificate, and is said not to be verifiable."""
    content = json.dumps({"ratls_certificate": legacy_certificate(made).decode(), "input_args": {}, "signer_pk": "x"})
    value = inspect_bytes(content.encode())

    assert ("cenclave-evidence", False) == (value["kind"], value["verifiable"])
    assert "1c" * 32 == value["certificate"]["quote"]["mrenclave"]
    with pytest.raises(FormatError):
        inspect_bytes(b'{"ratls_certificate": 5}')


def test_collateral_crls_and_documents(shared, made):
    """Collateral, a CRL in both forms, and the signed documents themselves."""
    content = (shared / "corpus" / "sgx3-00606a000000-b7ab1c-2412" / "collateral.json").read_bytes()
    collateral = json.loads(content)
    value = inspect_bytes(content)

    assert "collateral" == value["kind"]
    assert 1733811288 == next(item["issued"] for item in value["items"] if item["name"] == "tcb_info")
    crl = inspect_bytes(bytes.fromhex(collateral["pck_crl"]))
    assert ("crl", 1733059891) == (crl["kind"], crl["issued"])
    assert ("tcb-info", "00606a000000") == tuple(
        inspect_bytes(collateral["tcb_info"].encode())[k] for k in ("kind", "fmspc")
    )
    assert "enclave-identity" == inspect_bytes(collateral["qe_identity"].encode())["kind"]


@pytest.mark.parametrize("begin", [b"\x30", b"{", b" {", b"\xa1", b"name = 1\n", b"\x04\x00"], ids=bytes.hex)
def test_a_package_key_may_begin_like_anything(begin):
    """A key is 32 random bytes; one in 256 begins like DER, and is a key all the same."""
    secret = begin + bytes([0xFF]) * (32 - len(begin))

    assert "package" == inspect_bytes(secret)["type"]


@pytest.mark.parametrize("begin", [b"\x89GLASS\r\n", b"-----BEGIN RSA PRIVATE"], ids=["encrypted", "pem"])
def test_a_file_cut_to_the_size_of_a_key_is_no_key(begin):
    """What begins like no random key is said to be what it looks like, and broken."""
    with pytest.raises(FormatError):
        inspect_bytes(begin.ljust(32, b"-"))


def test_keys_show_their_id_and_never_themselves():
    """Package, owner and enclave keys are named; no private byte is in the answer."""
    secret = os.urandom(32)
    owner = ed25519.Ed25519PrivateKey.generate()
    enclave = rsa.generate_private_key(public_exponent=3, key_size=3072)
    pkcs8 = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    spki = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    package = inspect_bytes(secret)

    assert ("key", "package", 32) == (package["kind"], package["type"], len(package["id"]))
    assert secret.hex() not in json.dumps(package)
    for content, kind, private in (
        (owner.private_bytes(*pkcs8), "owner", True), (owner.public_key().public_bytes(*spki), "owner", False),
        (enclave.private_bytes(*pkcs8), "enclave", True), (enclave.public_key().public_bytes(*spki), "enclave", False),
    ):  # fmt: skip
        value = inspect_bytes(content)
        assert ("key", kind, private) == (value["kind"], value["type"], value["secret"])
    assert owner.public_key().public_bytes_raw().hex() == inspect_bytes(owner.private_bytes(*pkcs8))["id"]
    assert owner.private_bytes_raw().hex() not in json.dumps(inspect_bytes(owner.private_bytes(*pkcs8)))


def test_measurement_files(shared):
    """SIGSTRUCTs and manifests of real Gramine builds."""
    signatures = manifests = 0
    for path in sorted((shared / "vectors" / "mrenclave").rglob("*")):
        if path.is_file() and path.stat().st_size == 1808:
            value = inspect_bytes(path.read_bytes())
            assert ("sigstruct", 64) == (value["kind"], len(value["mrenclave"]))
            signatures += 1
        elif path.name.endswith("manifest.sgx"):
            value = inspect_bytes(path.read_bytes())
            assert "manifest" == value["kind"]
            assert value["enclave_size"]
            manifests += 1

    assert signatures >= 10 and manifests >= 10


def test_encrypted_files_policies_and_statements(tmp_path):
    """An encrypted file shows its public header, a policy its fields, a statement its subject."""
    from glasscase.core.stream import encrypt_file
    from glasscase.statements.dsse import sign_dsse
    from glasscase.statements.intoto import LEDGER_HEAD, Statement

    (tmp_path / "plain").write_bytes(b"x" * 1000)
    encrypt_file(tmp_path / "plain", tmp_path / "sealed", key=b"k" * 32)
    value = inspect_bytes((tmp_path / "sealed").read_bytes())
    assert ("encrypted-file", "file", 1000) == (value["kind"], value["content"], value["plaintext_size"])
    policy = inspect_bytes(b'version = 1\n[measurement]\nmrenclave = "' + b"ab" * 32 + b'"\n')
    assert ("policy", ["ab" * 32]) == (policy["kind"], policy["mrenclave"])
    head = Statement(None, None, LEDGER_HEAD, {"n": 1, "head": "00" * 32, "at": 1})
    assert ("statement", True) == tuple(
        inspect_bytes(sign_dsse(head.to_bytes(), seed=b"s" * 32))[k] for k in ("kind", "signed")
    )
    assert ("statement", False) == tuple(inspect_bytes(head.to_bytes())[k] for k in ("kind", "signed"))


def test_envelopes_and_receipts():
    """An envelope shows its context, a receipt what it says and by which key; nothing sealed is shown."""
    import nacl.bindings

    from glasscase.codec import cbor
    from glasscase.seal import cose
    from glasscase.seal.envelope import FORM, Context
    from glasscase.seal.receipt import Receipt

    owner = cose.public_key(b"o" * 32)
    context = Context(id=b"e" * 16, mrenclave=b"m" * 32, instance=b"i" * 32, package=bytes(32), secrets=b"s" * 32,
                      owners=(owner,), isv_svn=3, issued_at=5, not_after=9)  # fmt: skip
    payload = cbor.encode({"v": 1, "ctx": context.to_map(), "ct": bytes(1200)})
    envelope = inspect_bytes(cose.encode_sign(payload, (cose.sign(payload, form=FORM, seed=b"o" * 32),), form=FORM))
    receipt = inspect_bytes(
        Receipt(instance=b"i" * 32, envelope=b"v" * 32, owners=(owner,), secrets=b"s" * 32, package=bytes(32),
                mrenclave=b"m" * 32, host_time=7).sign(b"r" * 32)
    )  # fmt: skip

    assert ("envelope", (b"m" * 32).hex(), [owner.hex()]) == (
        envelope["kind"],
        envelope["mrenclave"],
        envelope["owners"],
    )
    assert ("receipt", (b"v" * 32).hex(), 7) == (receipt["kind"], receipt["envelope"], receipt["host_time"])
    assert nacl.bindings.crypto_sign_seed_keypair(b"r" * 32)[0].hex() == receipt["receipt_key"]


@pytest.mark.parametrize("content", [
    b"", b"\0", b"hello world\n", b"\x7fELF" + bytes(100), b"{}", b"[]", b'{"a": {"b": 1}}', b"\x30\x00", b"\x30" * 100,
    b"\xa0", b"\xa1\x61\x61\x01", b"\xd2\x84\x40\xa0\x40\x40", b"\xd8\x62\x84\x40\xa0\x40\x80", b"\xd8", b"\xbf" * 9,
    b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"-----BEGIN NOTHING-----\n", b"x = 1\n",
    b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\x89GLASS\r\n", b"\x89GLASS\r\n\x02" + bytes(200),
    b"\x03\x00\x02\x00" + bytes(100), b"\x06\x00\x00\x00\xe1" + bytes(1803), b"version = 2\n[measurement]\n",
    b'{"type": "glasscase-bundle"}', b'{"type": "glasscase-evidence"}', b'{"payloadType": 1}', b'{"tcbInfo": 1}',
    b'{"bomFormat": "CycloneDX", "components": 5}', b"glasscase-imports 1", b'[app]\nversion = 1\nname = 5\n', b"app = 5\nversion = 1\n",
    b'{"type": "glasscase-opening"}', b"loader = 5\n", b"[sgx]\ntrusted_files = 5\n", b"\xd2\x84\x43\xa1\x04\x05\xa0\x40\x40",
])  # fmt: skip
def test_other_files_are_an_error_or_a_plain_answer(content):
    """Bytes of no known kind, and broken ones of a known kind, raise FormatError and nothing else."""
    try:
        value = inspect_bytes(content)
    except FormatError as error:
        assert error.reason and 2 == error.exit_code
    else:
        assert value["kind"] in ("imports", "project", "opening", "bom", "tcb-info", "manifest")


@pytest.mark.parametrize(
    "content", [b"{}", b'{"url": "https://127.0.0.1:1/", "name": "x"}', b'{"threshold": "70"}', b'{"type": "x"}']
)
def test_json_of_nobody_is_no_kind(content):
    """An object that has nothing of collateral is not called a wrong collateral."""
    with pytest.raises(FormatError) as caught:
        inspect_bytes(content)

    assert "inspect.kind.unknown" == caught.value.reason


def test_every_changed_byte_of_certificates_crls_and_keys_is_survived(shared, made):
    """What a library reads only when it is asked, names, dates and keys, is as hostile as the rest: an answer or a FormatError."""
    collateral = json.loads((shared / "corpus" / "sgx3-00707f000000-8cc428-1909v2" / "collateral.json").read_bytes())
    owner = ed25519.Ed25519PrivateKey.generate()
    pem = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content, values in (
        (load_root(shared), (0x00, 0x0C, 0x13, 0x1B, 0x80, 0xFF)), (bytes.fromhex(collateral["pck_crl"]), (0x00, 0x11, 0xFF)),
        (made.certificate[:900] + made.certificate[-300:], (0x80,)), (owner.public_key().public_bytes(*pem), b"AQz"),
        (owner.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), b"AQz"),
    ):  # fmt: skip
        for place in range(len(content)):
            for value in values:
                with contextlib.suppress(FormatError):
                    inspect_bytes(content[:place] + bytes([value]) + content[place + 1 :])


def test_a_certificate_with_a_strange_name_says_nothing_on_stderr(shared, recwarn):
    """A country of eleven letters and a negative serial number are oddities of the file, not of this program."""
    root = load_root(shared)
    changed = root.replace(bytes.fromhex("06035504030c"), bytes.fromhex("06035504060c"))  # common name -> country
    changed = changed.replace(bytes.fromhex("02142265"), bytes.fromhex("0214a265"))

    assert root != changed
    assert "certificate" == inspect_bytes(changed)["kind"]
    assert [] == [str(warning.message) for warning in recwarn]


def load_root(shared):
    from cryptography import x509

    pem = (shared / "corpus" / "roots" / "intel-2049.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_random_bytes_never_crash():
    """A thousand short random files give an answer or a FormatError."""
    import random

    source = random.Random(7)
    heads = [b"", b"{", b"\x30", b"\xa3", b"\x03\x00", b"\xd2", b"\xd8\x62", b"-----BEGIN ", b"[sgx]\n"]
    for number in range(1000):
        content = heads[number % len(heads)] + source.randbytes(source.randrange(200))
        with contextlib.suppress(FormatError):
            inspect_bytes(content)


def test_a_private_document_is_counted_and_not_shown():
    """What `build --private` wrote is named with what is public of it: no path and no digest of a secret file."""
    entry = {"path": "app/main.py", "mode": 420, "size": 1, "digest": "aa" * 32, "blob": "bb" * 16}
    names = ("bundle_id", "mrenclave", "commitment", "package_digest")
    document = {"v": 1, "type": "glasscase-private", **dict.fromkeys(names, "cc" * 32), "entries": [entry]}

    assert {"kind": "private", **dict.fromkeys(names, "cc" * 32), "entries": 1} == inspect_bytes(
        json.dumps(document).encode()
    )


def test_a_ledger_shows_its_head():
    """The ledger of releases is a file of ours, its chain is looked at; one that is broken says so."""
    first = next_line(
        (), public_key=NO_KEY, kind="release", bundle_id=bytes(32), mrenclave=bytes(32), isv_svn=1, time=AT
    )
    last = next_line(
        (first,), public_key=NO_KEY, kind="retire", bundle_id=bytes(32), mrenclave=bytes(32), isv_svn=1, time=AT
    )
    content = first.to_bytes() + last.to_bytes()
    assert {"kind": "ledger", "lines": 2, "retired": 1, "head": last.digest.hex()} == inspect_bytes(content)
    for broken in (last.to_bytes(), content[:-1]):
        with pytest.raises(FormatError, match="ledger"):
            inspect_bytes(broken)


def test_no_file_names_its_own_kind():
    """A key of the file cannot stand in the place of what the tool has found the file to be."""
    value = inspect_bytes(b'{"type": "glasscase-opening", "kind": "quote", "package_digest": "00"}')

    assert {"kind": "opening", "package_digest": "00"} == value
