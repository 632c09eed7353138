"""The life of an enclave: boot, wait, secrets, serving, renewal, stop."""

import hashlib

from glasscase.evidence.attestation import Claims, instance_digest
from glasscase.ratls.cert import read_certificate
from glasscase.seal.envelope import read_envelope
from glasscase.seal.receipt import read_receipt
from glasscase.sgx.reportdata import app_report_data, claims_report_data

from .conftest import MRENCLAVE, OWNER


def test_from_boot_to_stop(enclave):
    """An enclave boots, attests itself, takes secrets, serves the application and stops with exit code 0."""
    one = enclave().start()
    assert (503, b"not serving\n") == one.ask("GET", "/secret")

    before = one.attestation()
    claims = Claims.from_bytes(before.claims)
    facts = claims.instance_facts()
    assert claims_report_data(before.claims) == before.quote[368:432]
    assert MRENCLAVE == before.quote[112:144]
    assert read_certificate(before.certificate).claims == before.claims
    assert claims.session_facts().prov is None
    assert 1 == claims.session_facts().seq

    envelope = one.envelope()
    receipt = read_receipt(one.serve(envelope), receipt_key=facts.receipt_key)
    digest = hashlib.sha256(read_envelope(envelope).payload).digest()
    assert (digest, instance_digest(claims.instance), (OWNER,)) == (receipt.envelope, receipt.instance, receipt.owners)

    after = one.attestation()
    session = Claims.from_bytes(after.claims).session_facts()
    assert digest == session.prov
    assert hashlib.sha256(before.claims).digest() == session.prev
    assert 2 == session.seq
    assert Claims.from_bytes(after.claims).instance == claims.instance
    assert Claims.from_bytes(after.claims).spki_sha256 != claims.spki_sha256
    assert envelope == after.provision.envelope

    assert (200, b"s3cret-canary") == one.ask("GET", "/secret")
    assert (200, b"yes") == one.ask("GET", "/state")
    assert (200, b"hi<secrets of the enclave>") == one.ask("GET", "/env")
    status, quote = one.ask("POST", "/quote", b"said")
    assert 200 == status
    assert app_report_data(instance_digest(claims.instance), b"said") == bytes.fromhex(quote.decode())[368:432]

    assert 0 == one.stop()
    assert "stopped" == one.status_file()["state"]
    assert "app: shut down" in one.text()
    assert "s3cret-canary" not in one.text()
