"""Evidence is verified only if the quote binds its claims, its certificate, its age and its owners."""

import hashlib
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import nacl.bindings
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase import auditor
from glasscase.core import dcap
from glasscase.errors import UsageError, VerificationError
from glasscase.evidence.attestation import Provision, instance_digest
from glasscase.ratls.cert import make_certificate, make_request
from glasscase.sgx.reportdata import claims_report_data
from glasscase.verify.quote import prepare

VERIFIED = auditor.VerdictStatus.VERIFIED
FAILED = auditor.VerdictStatus.FAILED
UNDETERMINED = auditor.VerdictStatus.UNDETERMINED


def test_good_evidence_is_verified(lab):
    """Honest evidence passes every check and yields the enclave with the keys of its claims."""
    verdict = lab.judge()
    enclave = verdict.require()

    assert (VERIFIED, []) == (verdict.status, lab.failed(verdict))
    assert {"pass", "not_applicable"} == {check.outcome for check in verdict.checks}
    assert lab.mrenclave == enclave.mrenclave
    assert b"s" * 1216 == enclave.seal_key
    assert enclave.simulated and "anchor" in verdict.insecure
    assert verdict.valid_until == lab.time_at(lab.at + 24 * 3600)


def test_intel_never_accepts_the_simulator(lab):
    """Under Intel's anchor the same evidence fails at the root."""
    verdict = lab.judge(anchor=auditor.TrustAnchor.intel())

    assert FAILED is verdict.status
    assert "root.certificate.unknown" in lab.failed(verdict)
    with pytest.raises(VerificationError):
        verdict.require()


def test_report_data_must_be_the_hash_of_the_claims(lab):
    """Claims that the quote does not bind are not believed, not even for their nonce."""
    good = lab.evidence()
    other = lab.claims(nonce=b"n" * 32).to_bytes()
    swapped = replace(good, attestation=replace(good.attestation, claims=other, certificate=None))
    verdict = lab.judge(swapped, nonce=b"n" * 32)

    assert FAILED is verdict.status
    assert {"binding.report_data.mismatch", "freshness.nonce.mismatch", "freshness.unproven"} == set(
        lab.failed(verdict)
    )


def test_second_half_of_the_report_data_must_be_zero(lab):
    """An application's own quote is never mistaken for claims."""
    claims = lab.claims()
    digest = claims_report_data(claims.to_bytes())[:32]
    good = lab.evidence(claims=claims, certificate=False)
    quote = lab.quote(digest + b"\1" + bytes(31))
    verdict = lab.judge(replace(good, attestation=replace(good.attestation, quote=quote)))

    assert "binding.report_data.mismatch" in lab.failed(verdict)


def test_malformed_claims_fail_and_nothing_raises(lab):
    """Claims that are not of the one form fail their check even if the quote binds their bytes."""
    good = lab.evidence(certificate=False)
    garbage = b"\xa1\x61x\x01"
    quote = lab.quote(claims_report_data(garbage))
    verdict = lab.judge(replace(good, attestation=replace(good.attestation, quote=quote, claims=garbage)))

    assert FAILED is verdict.status
    assert "binding.claims.malformed" in lab.failed(verdict)


def test_the_certificate_must_carry_this_quote_and_these_claims(lab):
    """A certificate over another quote, by another key or without the extension fails its check."""
    good = lab.evidence()
    session = lab.claims().session_facts()
    dates = {"not_before": session.nbf, "not_after": session.exp, "san": session.san}
    other_quote = lab.quote(claims_report_data(good.claims), isv_svn=9)
    wrong = {
        "another quote": make_certificate(lab.key, good.claims, other_quote, name="app", **dates),
        "another key": make_certificate(
            ec.generate_private_key(ec.SECP256R1()), good.claims, good.quote, name="app", **dates
        ),
        "garbage": b"\x30\x03\x02\x01\x01",
        "one bit": good.attestation.certificate[:-1] + bytes([good.attestation.certificate[-1] ^ 1]),
    }
    for der in wrong.values():
        verdict = lab.judge(replace(good, attestation=replace(good.attestation, certificate=der)))

        assert ["binding.certificate.mismatch"] == lab.failed(verdict)


def test_the_request_must_be_by_the_key_of_the_claims(lab):
    """A certificate request by the live key passes, one by another key or garbage fails."""
    good = lab.evidence()
    mine = make_request(lab.key, name="app", san=("localhost",))
    other = make_request(ec.generate_private_key(ec.SECP256R1()), name="app", san=("localhost",))
    for request, expected in (
        (mine, []),
        (other, ["binding.request.mismatch"]),
        (b"\x30", ["binding.request.mismatch"]),
    ):
        verdict = lab.judge(replace(good, attestation=replace(good.attestation, request=request)))

        assert expected == lab.failed(verdict)


def test_a_nonce_must_match_when_it_is_given_or_asked_for(lab):
    """The verifier's nonce passes if the claims hold it; missing or other nonces fail."""
    nonce = b"n" * 32
    answered = lab.evidence(claims=lab.claims(nonce=nonce, beacon_at=None))
    asks = lab.named(nonce=True)

    assert [] == lab.failed(lab.judge(answered, nonce=nonce, policy=asks))
    assert ["freshness.nonce.missing", "freshness.unproven"] == lab.failed(lab.judge(answered, policy=asks))
    assert ["freshness.nonce.mismatch", "freshness.unproven"] == lab.failed(lab.judge(answered, nonce=b"m" * 32))
    assert "freshness.nonce.mismatch" in lab.failed(lab.judge(nonce=nonce))


def test_age_counts_from_the_beacon(lab):
    """Evidence is as old as the signed TCB info that its claims name; without one nothing proves its age."""
    day = 24 * 3600
    assert [] == lab.failed(lab.judge(at=lab.at + day))
    assert ["freshness.evidence.old"] == lab.failed(lab.judge(at=lab.at + day + 1))
    assert [] == lab.failed(lab.judge(at=lab.at + day + 1, policy=lab.named(evidence_max_age_s=None)))
    without = lab.evidence(claims=lab.claims(beacon_at=None))
    assert ["freshness.unproven"] == lab.failed(lab.judge(without))


def test_a_beacon_may_be_another_document_but_must_be_signed(lab):
    """The beacon document counts by its own signature and date; a forged or missing one proves nothing."""
    earlier = lab.at - 10 * 24 * 3600
    later = lab.at + 2 * 24 * 3600
    claims = lab.claims(beacon_at=later, nbf=lab.at, exp=lab.at + 3600)
    document = lab.platform.collateral(at=later)["tcb_info"]
    carried = lab.evidence(claims=claims, beacon=document)
    forged = document[:-10] + ("0" if document[-10] != "0" else "1") + document[-9:]

    assert [] == lab.failed(lab.judge(carried, at=later + 60))
    assert ["freshness.unproven"] == lab.failed(lab.judge(carried, at=later - 1))
    assert ["freshness.unproven"] == lab.failed(lab.judge(replace(carried, beacon=forged), at=later + 60))
    assert ["freshness.unproven"] == lab.failed(lab.judge(replace(carried, beacon=None), at=later + 60))
    old = lab.evidence(claims=lab.claims(beacon_at=earlier), beacon=lab.platform.collateral(at=earlier)["tcb_info"])
    assert ["freshness.evidence.old"] == lab.failed(lab.judge(old))


def test_a_live_session_must_be_valid_now_and_needs_no_age(lab):
    """Inside a handshake the session's own dates are enforced and the evidence's age does not apply."""
    without_beacon = lab.evidence(claims=lab.claims(beacon_at=None))
    verdict = lab.judge(without_beacon, live=True)

    assert [] == lab.failed(verdict)
    assert {"freshness.unproven": "not_applicable", "freshness.session.outside": "pass"}.items() <= {
        check.id: check.outcome for check in verdict.checks
    }.items()
    assert ["freshness.session.outside"] == lab.failed(lab.judge(without_beacon, live=True, at=lab.at + 10 * 3600))
    assert lab.time_at(lab.at + 10 * 3600) == verdict.valid_until


def test_evidence_without_collateral_is_undetermined(lab):
    """Missing collateral is a failed basis: no verdict, not a failure; the verifier's own collateral helps."""
    bare = lab.evidence(collateral=False)
    verdict = lab.judge(bare)

    assert UNDETERMINED is verdict.status
    assert all(name.endswith(".missing") for name in lab.failed(verdict))
    assert "crl.root.missing" in lab.failed(verdict)
    assert [] == lab.failed(lab.judge(bare, collateral=lab.collateral()))


def test_the_hosts_copies_are_not_believed(lab):
    """bundle_id, created_at, nonce and insecure of the evidence change nothing."""
    good = lab.evidence()
    changed = replace(good, bundle_id=b"x" * 32, created_at=1, nonce=b"q" * 32, insecure=())

    assert lab.judge(good).to_json() == lab.judge(changed).to_json()


def cosign(lab, prov_seed, *, tamper=""):
    """Return evidence of an enclave that was provisioned by the owner with this seed."""
    from glasscase.seal import cose
    from glasscase.seal.envelope import FORM, Context
    from glasscase.seal.receipt import Receipt

    receipt_public, _ = nacl.bindings.crypto_sign_seed_keypair(b"r" * 32)
    plain = lab.claims(receipt_key=receipt_public)
    owner = cose.public_key(prov_seed)
    context = Context(
        id=bytes(16), mrenclave=lab.mrenclave, instance=instance_digest(plain.instance), package=bytes(32),
        secrets=bytes(32), owners=(owner,), isv_svn=3, issued_at=lab.at, not_after=lab.at + 3600,
    )  # fmt: skip
    from glasscase.codec import cbor

    payload = cbor.encode({"v": 1, "ctx": context.to_map(), "ct": bytes(1200)})
    digest = hashlib.sha256(payload).digest()
    envelope = cose.encode_sign(payload, (cose.sign(payload, form=FORM, seed=prov_seed),), form=FORM)
    receipt = Receipt(
        instance=instance_digest(plain.instance), envelope=b"z" * 32 if tamper == "receipt" else digest, owners=(owner,),
        secrets=bytes(32), package=bytes(32), mrenclave=lab.mrenclave, host_time=lab.at,
    )  # fmt: skip
    claims = lab.claims(receipt_key=receipt_public, prov=b"y" * 32 if tamper == "prov" else digest)
    encoded = receipt.sign(b"r" * 32)
    if tamper == "envelope":
        envelope = envelope[:-1] + bytes([envelope[-1] ^ 1])
    return lab.evidence(claims=claims, attestation={"provision": Provision(envelope, encoded)}), digest, owner


def test_provisioning_is_judged_by_claims_envelope_and_receipt(lab):
    """Policies about provisioning hold only for the envelope that the claims name, signed by the owners."""
    seed = b"o" * 32
    evidence, digest, owner = cosign(lab, seed)
    stranger = nacl.bindings.crypto_sign_seed_keypair(b"p" * 32)[0]

    assert [] == lab.failed(lab.judge(evidence, policy=lab.named(provisioned=True, owners=(owner,))))
    assert [] == lab.failed(lab.judge(evidence, policy=lab.named(provisioned=(digest,))))
    assert ["instance.envelope.unlisted"] == lab.failed(lab.judge(evidence, policy=lab.named(provisioned=(bytes(32),))))
    assert ["instance.owner.missing"] == lab.failed(lab.judge(evidence, policy=lab.named(owners=(stranger,))))
    assert ["instance.provision.missing"] == lab.failed(lab.judge(policy=lab.named(provisioned=True)))


@pytest.mark.parametrize("tamper", ["prov", "receipt", "envelope"])
def test_a_wrong_envelope_or_receipt_fails(lab, tamper):
    """Evidence that carries an envelope or receipt which is not the enclave's fails, and its signers count for nothing."""
    evidence, _, owner = cosign(lab, b"o" * 32, tamper=tamper)
    verdict = lab.judge(evidence, policy=lab.named(owners=(owner,)))

    assert ["instance.envelope.mismatch", "instance.owner.missing"] == lab.failed(verdict)


def test_threads_share_one_handle_of_an_anchor(lab, monkeypatch):
    """Threads that ask an anchor for its handle first all get the same: what is prepared in one is of use in the others."""
    anchor, start, found = lab.anchor, threading.Barrier(4), []

    class Slow(dcap.Anchor):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            time.sleep(0.05)

    def ask():
        start.wait()
        found.append(anchor.core)

    monkeypatch.setattr(dcap, "Anchor", Slow)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 == len(found)
    assert {id(anchor.core)} == {id(handle) for handle in found}


def test_wrong_use_raises(lab):
    """Arguments of the wrong type are the caller's fault, not a verdict."""
    evidence = lab.evidence()
    good = {"anchor": lab.anchor, "policy": lab.named(), "at": lab.time_at(lab.at)}
    wrong = [
        {"anchor": None}, {"policy": "policy.toml"}, {"at": lab.time_at(lab.at).replace(tzinfo=None)}, {"at": lab.at},
        {"engine": "fast"}, {"nonce": b"short"}, {"nonce": "00" * 32}, {"measurement": 7}, {"collateral": {}},
        {"statements": 7}, {"statements": ["text"]}, {"statements": b"bytes"}, {"statements": [b""] * 257},
        {"at": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(UsageError) as caught:
            auditor.verify_evidence(evidence, **{**good, **change})
        assert "policy.argument.wrong" == caught.value.reason
    for other in (b"{}", None, {}):
        with pytest.raises(UsageError, match="load_evidence"):
            auditor.verify_evidence(other, **good)
    with pytest.raises(TypeError):
        auditor.verify_evidence(evidence, lab.anchor, lab.named(), lab.time_at(lab.at))


def test_wrong_use_of_a_verifier_raises(lab):
    """Pairs and collateral of another type are the caller's fault too: an Error, and never another exception."""
    verifier = auditor.Verifier(anchor=lab.anchor, policy=lab.named())
    at = lab.time_at(lab.at)
    uses = [
        lambda: verifier.verify_quote(b"", collateral={}, at=at), lambda: verifier.verify_quote(b"", collateral=[], at=at),
        *(lambda pairs=pairs: verifier.verify_many(pairs, at=at)
          for pairs in (None, 7, [7], b"abc", [(b"",)], [(b"", None, None)], [(b"", {})], [("", None)])),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(UsageError) as caught:
            use()
        assert "policy.argument.wrong" == caught.value.reason


def test_collateral_prepared_under_another_anchor_is_refused(lab):
    """What was prepared under the simulator's root can never be judged in the name of Intel's, nor of another own root."""
    evidence, own = lab.evidence(), lab.anchor
    prepared = prepare(evidence.collateral, own)

    assert [] == lab.failed(lab.judge(evidence, anchor=own, prepared=prepared))
    for anchor in (auditor.TrustAnchor.intel(), lab.anchor):
        with pytest.raises(UsageError) as caught:
            lab.judge(evidence, anchor=anchor, prepared=prepared)
        assert "policy.argument.wrong" == caught.value.reason
