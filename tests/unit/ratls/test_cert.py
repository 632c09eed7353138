"""RA-TLS certificates: what make_certificate writes is read, and nothing else."""

import datetime
import warnings

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from glasscase.codec import cbor
from glasscase.errors import FormatError
from glasscase.evidence.attestation import Claims, Instance, Session
from glasscase.ratls.cert import (
    EVIDENCE_OID,
    LEGACY_OID,
    make_certificate,
    make_request,
    spki_digest,
    subject_alternative_name,
)
from glasscase.ratls.reading import encoded_names, legacy_quote, read_certificate

NBF, EXP = 1_700_000_000, 1_700_003_600
SAN = ("localhost", "127.0.0.1", "::1")
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
INSTANCE = Instance(b"i" * 16, 1, b"s" * 1216, b"r" * 32).to_bytes()
CLAIMS = Claims(spki_digest(KEY.public_key()), INSTANCE, Session(1, NBF, EXP, SAN).to_bytes()).to_bytes()
QUOTE = b"q" * 4000


def make(**changes):
    options = {"name": "fraud-api", "not_before": NBF, "not_after": EXP, "san": SAN}
    key = changes.pop("key", KEY)
    return make_certificate(key, changes.pop("claims", CLAIMS), changes.pop("quote", QUOTE), **{**options, **changes})


def test_a_certificate_comes_back():
    """Quote, claims, key hash, names and dates are read from what was made."""
    found = read_certificate(make())

    assert (QUOTE, CLAIMS) == (found.quote, found.claims)
    assert spki_digest(KEY.public_key()) == found.spki_sha256
    assert ("fraud-api", SAN, NBF, EXP) == (found.name, found.san, found.not_before, found.not_after)


def test_the_extension_is_the_interoperable_one():
    """The extension is not critical and holds tag 60000 with quote and claims."""
    certificate = x509.load_der_x509_certificate(make())
    extension = certificate.extensions.get_extension_for_oid(EVIDENCE_OID)

    assert not extension.critical
    assert cbor.encode(cbor2.CBORTag(60000, [QUOTE, CLAIMS])) == extension.value.value


@pytest.mark.parametrize(
    "changes",
    [
        {"key": OTHER},
        {"san": ("localhost",)},
        {"not_before": NBF - 1},
        {"not_after": EXP + 1},
    ],
)
def test_what_differs_from_the_claims_is_unbound(changes):
    """A certificate of another key, with other names or dates than the claims say, is refused."""
    with pytest.raises(FormatError) as caught:
        read_certificate(make(**changes))

    assert "evidence.certificate.unbound" == caught.value.reason


def build(*, extensions, key=KEY, signer=None, issuer="fraud-api", subject="fraud-api", algorithm=None):
    """Return a certificate with the given (value, critical) extensions."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime.fromtimestamp(NBF, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(EXP, datetime.UTC))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(signer or key, algorithm or hashes.SHA256()).public_bytes(Encoding.DER)


BASIC = (x509.BasicConstraints(ca=False, path_length=None), True)
NAMES = (
    x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(__import__("ipaddress").ip_address("127.0.0.1")),
            x509.IPAddress(__import__("ipaddress").ip_address("::1")),
        ]
    ),
    False,
)


def evidence(value, critical=False, oid=EVIDENCE_OID):
    return (x509.UnrecognizedExtension(oid, value), critical)


GOOD = cbor.encode(cbor2.CBORTag(60000, [QUOTE, CLAIMS]))
LEGACY = evidence(QUOTE, oid=LEGACY_OID)
P384 = ec.generate_private_key(ec.SECP384R1())
CLIENT = (x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)


def test_the_builder_of_these_tests_makes_what_is_accepted():
    """The hand-built certificate is read too, so the refusals below are for their one change."""
    assert QUOTE == read_certificate(build(extensions=[BASIC, NAMES, evidence(GOOD)])).quote


REFUSED = {
    "no evidence": build(extensions=[BASIC, NAMES]),
    "critical evidence": build(extensions=[BASIC, NAMES, evidence(GOOD, critical=True)]),
    "legacy beside it": build(extensions=[BASIC, NAMES, evidence(GOOD), LEGACY]),
    "a further extension": build(extensions=[BASIC, NAMES, evidence(GOOD), CLIENT]),
    "a CA": build(extensions=[(x509.BasicConstraints(ca=True, path_length=0), True), NAMES, evidence(GOOD)]),
    "basic constraints not critical": build(extensions=[(BASIC[0], False), NAMES, evidence(GOOD)]),
    "no basic constraints": build(extensions=[NAMES, evidence(GOOD)]),
    "no names": build(extensions=[BASIC, evidence(GOOD)]),
    "a mail address as name": build(
        extensions=[BASIC, (x509.SubjectAlternativeName([x509.RFC822Name("a@b")]), False), evidence(GOOD)]
    ),
    "another issuer": build(extensions=[BASIC, NAMES, evidence(GOOD)], issuer="x"),
    "a subject outside the form": build(extensions=[BASIC, NAMES, evidence(GOOD)], subject="X y", issuer="X y"),
    "P-384": build(extensions=[BASIC, NAMES, evidence(GOOD)], key=P384),
    "SHA-384": build(extensions=[BASIC, NAMES, evidence(GOOD)], algorithm=hashes.SHA384()),
    "signed by another key": build(extensions=[BASIC, NAMES, evidence(GOOD)], signer=OTHER),
    "no tag": build(extensions=[BASIC, NAMES, evidence(cbor.encode([QUOTE, CLAIMS]))]),
    "another tag": build(extensions=[BASIC, NAMES, evidence(cbor.encode(cbor2.CBORTag(60001, [QUOTE, CLAIMS])))]),
    "three items": build(extensions=[BASIC, NAMES, evidence(cbor.encode(cbor2.CBORTag(60000, [QUOTE, CLAIMS, b""])))]),
    "text for the quote": build(extensions=[BASIC, NAMES, evidence(cbor.encode(cbor2.CBORTag(60000, ["q", CLAIMS])))]),
    "claims without a key hash": build(
        extensions=[
            BASIC,
            NAMES,
            evidence(cbor.encode(cbor2.CBORTag(60000, [QUOTE, cbor.encode({"nonce": b"n" * 32})]))),
        ]
    ),
    "trailing byte in the extension": build(extensions=[BASIC, NAMES, evidence(GOOD + b"\0")]),
    "trailing byte": make() + b"\0",
    "truncated": make()[:-1],
    "empty": b"",
    "a request": make_request(KEY, name="fraud-api", san=SAN),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_forms_are_refused(name):
    """Every other form raises FormatError."""
    with pytest.raises(FormatError):
        read_certificate(REFUSED[name])


def test_every_flipped_bit_of_the_signed_part_is_refused():
    """No bit of the certificate can be changed without a refusal (a bit in every byte; all bits of head and tail)."""
    der = make()
    while not der.endswith(b"\0"):  # a signature that ends in zero bits lets the count of unused bits vary
        der = make()
    for index in range(len(der)):
        for bit in range(8) if index < 64 or index > len(der) - 80 else (index % 8,):
            changed = bytearray(der)
            changed[index] ^= 1 << bit
            with pytest.raises(FormatError):
                read_certificate(bytes(changed))


def test_a_legacy_certificate_is_named():
    """Gramine's older form is told apart, its quote can be shown, and it is not accepted."""
    der = build(extensions=[BASIC, NAMES, LEGACY])

    with pytest.raises(FormatError) as caught:
        read_certificate(der)
    assert "evidence.certificate.legacy" == caught.value.reason
    assert QUOTE == legacy_quote(der)
    assert legacy_quote(make()) is None


def test_reading_leaves_the_warnings_of_the_process_alone(monkeypatch):
    """Handshakes of many threads come here: warnings.catch_warnings is for one, and would leave all of them switched off."""
    seen = []
    load = x509.load_der_x509_certificate
    monkeypatch.setattr(x509, "load_der_x509_certificate", lambda der: seen.append(list(warnings.filters)) or load(der))

    legacy_quote(make())

    assert [list(warnings.filters)] == seen


@pytest.mark.parametrize(
    "san",
    [
        SAN, ("a",), ("a.example", "b.example"), ("10.0.0.1",), ("2001:db8::1", "fe80::"), ("x" * 127,), ("x" * 253,),
        tuple(f"{number}.{'y' * 240}.example" for number in range(32)), ("300.1.1.1", "1", "a1"),
    ],
)  # fmt: skip
def test_names_are_compared_in_the_form_that_is_written(san):
    """The reader expects the very bytes that the writer of certificates makes of the same names."""
    assert subject_alternative_name(san).public_bytes() == encoded_names(san)


@pytest.mark.parametrize("name", ["2001:DB8::1", "0:0::1", "fe80::1%eth0"])
def test_an_address_in_another_spelling_is_unbound(name):
    """Claims that spell an address another way than X.509 readers show it are not met by the address."""
    claims = Claims(spki_digest(KEY.public_key()), INSTANCE, Session(1, NBF, EXP, (name,)).to_bytes()).to_bytes()
    with pytest.raises(FormatError) as caught:
        read_certificate(make(claims=claims, san=(name,)))

    assert "evidence.certificate.unbound" == caught.value.reason


def test_gramines_own_older_certificate_is_named_too():
    """Another subject, key and no names: still told apart as the older form, whatever else is wrong with it."""
    with pytest.raises(FormatError) as caught:
        read_certificate(build(extensions=[LEGACY], key=P384, subject="RATLS", issuer="RATLS"))

    assert "evidence.certificate.legacy" == caught.value.reason


def test_a_request_is_by_the_key():
    """The PKCS#10 request of mode `own` is signed by the TLS key and names the hosts."""
    request = x509.load_der_x509_csr(make_request(KEY, name="fraud-api", san=SAN))

    assert request.is_signature_valid
    assert spki_digest(KEY.public_key()) == spki_digest(request.public_key())
