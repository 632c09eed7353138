"""core.dcap on what the simulator makes: honest, faulty, hostile."""

import os
import pickle
import struct
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from glasscase.core import dcap
from glasscase.errors import FormatError, UsageError
from glasscase.reasons import dcap as table
from glasscase.sim import pki
from glasscase.verify.roots import INTEL_KNOWN, INTEL_ROOT_KEY, INTEL_ROOTS


def intel():
    return dcap.Anchor([dcap.certificate_der(pem) for pem in INTEL_ROOTS], key=INTEL_ROOT_KEY, insecure=False)


def test_the_table_is_the_enum():
    """The ids of the table are those of the C enum, in its order."""
    assert dcap.CHECKS == tuple(reason.id for reason in table.REASONS)


def test_intels_roots_have_the_pinned_key():
    """Both root certificates that are shipped carry the key that is pinned."""
    assert {dcap.certificate_key(dcap.certificate_der(pem)) for pem in INTEL_ROOTS} == {INTEL_ROOT_KEY}


def test_known_certificates_only_save_time(kit):
    """What is known is checked when the anchor is made: an unsigned one is refused, and a known CA is revoked as any other."""
    scene = kit.scene()
    scene.crl("root_crl", revoked=(scene.certificates["ca"].serial,))
    exhibit = scene.render()
    key, ca = dcap.certificate_key(exhibit.root), scene.certificate_der("ca")
    anchor = dcap.Anchor([exhibit.root], key=key, insecure=True, known=[ca])
    verdict = dcap.verify(exhibit.quote, collateral=dcap.PreparedCollateral(exhibit.collateral, anchor), at=kit.at)

    assert {"pck.ca.revoked", "crl.ca.revoked"} == set(verdict.failed)
    for wrong in (
        scene.certificate_der("pck"),
        ca[:-1] + bytes([ca[-1] ^ 1]),
        b"",
        *map(dcap.certificate_der, INTEL_KNOWN),
    ):
        with pytest.raises(FormatError) as caught:
            dcap.Anchor([exhibit.root], key=key, insecure=True, known=[wrong])
        assert caught.value.reason == "core.root.malformed"
    roots = [dcap.certificate_der(pem) for pem in INTEL_ROOTS]
    dcap.Anchor(roots, key=INTEL_ROOT_KEY, insecure=False, known=[dcap.certificate_der(pem) for pem in INTEL_KNOWN])


def test_an_honest_platform_is_genuine(kit, judge):
    """Without a fault every check passes or does not apply, and the facts are those of the platform."""
    verdict = judge(kit.exhibit())

    assert verdict.genuine
    assert verdict.failed == ()
    assert {check.outcome for check in verdict.checks} == {"pass", "not_applicable"}
    assert verdict.tcb_status == "UpToDate"
    assert verdict.shortfall == ()
    assert verdict.pck.fmspc == bytes.fromhex("53494d554c41")
    assert set(verdict.windows) == set(dcap.DATED)


def later_quote(kit, version, *, tee=0, body_type=1, size=None, nested=6, nested_size=None, body=None):
    """Return a quote of version 4 or 5 with the parts of an honest version 3 one, signed again."""
    scene = kit.scene()
    old = dcap.parse_quote(scene.render().quote)
    body = old.body if body is None else body
    descriptor = struct.pack("<HI", body_type, len(body) if size is None else size) if version == 5 else b""
    signed = struct.pack("<HHIHH", version, 2, tee, 0, 0) + old.vendor_id + old.user_data + descriptor + body
    inner = old.qe_report + old.qe_report_signature + struct.pack("<H", len(old.qe_auth)) + old.qe_auth
    inner += struct.pack("<HI", 5, len(old.certification)) + old.certification
    auth = scene.signers["quote"].sign_raw(signed) + old.attestation_key
    auth += struct.pack("<HI", nested, len(inner) if nested_size is None else nested_size) + inner
    return signed + struct.pack("<I", len(auth)) + auth


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"version": 4}, ()),
        ({"version": 5}, ()),
        ({"version": 5, "body_type": 2}, ("quote.body.mismatch",)),
        ({"version": 5, "body_type": 4}, ("quote.body.mismatch",)),
        ({"version": 5, "size": 383}, ("quote.body.mismatch",)),
        ({"version": 4, "nested": 5}, ("quote.auth.nested",)),
        ({"version": 4, "nested_size": 100}, ("quote.bytes.truncated", "quote.auth.nested")),
        ({"version": 4, "nested_size": 0xFFFFFFFF}, ("quote.bytes.truncated", "quote.auth.nested")),
        ({"version": 4, "tee": 2}, ("quote.tee.unknown",)),
        ({"version": 4, "tee": 0x81, "body": bytes(584)}, ("quote.tee.unsupported",)),
        ({"version": 5, "tee": 0x81, "body": bytes(648), "body_type": 3}, ("quote.tee.unsupported",)),
        ({"version": 5, "tee": 0x81, "body": bytes(648), "body_type": 2}, ("quote.tee.unsupported", "quote.body.mismatch")),
    ],
)  # fmt: skip
def test_quotes_of_version_4_and_5(kit, change, failed):
    """The later layouts are read to the byte; SGX ones are judged, TDX ones end with quote.tee.unsupported."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    quote = later_quote(kit, **change)
    verdict = dcap.verify(quote, collateral=dcap.PreparedCollateral(exhibit.collateral, anchor), at=kit.at)

    assert failed == verdict.failed
    assert verdict.genuine == (failed == ())


def test_simulated_evidence_is_not_intels(kit):
    """Under Intel's roots a simulated quote fails at the root, with and without its own collateral."""
    exhibit = kit.exhibit()
    for items in (exhibit.collateral, {}):
        verdict = dcap.verify(exhibit.quote, collateral=dcap.PreparedCollateral(items, intel()), at=exhibit.at)

        assert not verdict.genuine
        assert {"root.certificate.unknown", "root.key.mismatch", "pck.ca.bad_signature"} <= set(verdict.failed)


def test_a_second_verification_looks_again(kit, judge):
    """The cache keeps signatures only: revocation and time are judged in every call."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    collateral = dcap.PreparedCollateral(exhibit.collateral, anchor)
    assert dcap.verify(exhibit.quote, collateral=collateral, at=exhibit.at).genuine

    late = dcap.verify(exhibit.quote, collateral=collateral, at=exhibit.at + 400 * 86400)
    early = dcap.verify(exhibit.quote, collateral=collateral, at=exhibit.at - 1)
    revoking = kit.scene()
    revoking.crl("pck_crl", revoked=(revoking.certificates["pck"].serial,))
    revoked = judge(revoking.render())

    assert {"crl.root.expired", "crl.pck.expired", "tcbinfo.document.expired", "qe.document.expired"} == set(
        late.failed
    )
    assert all(name.endswith(".not_yet_valid") for name in early.failed)
    assert early.failed
    assert revoked.failed == ("pck.leaf.revoked",)


def test_what_is_no_quote_is_said_in_words(kit):
    """The message of a quote that cannot be read says what is wrong with it, the id stands beside it only once."""
    quote = kit.exhibit().quote
    for wrong, name, words in (
        (quote + b"\0", "quote.bytes.trailing", "bytes follow the signature data"),
        (quote[:100], "quote.bytes.truncated", "the quote ends inside a field"),
    ):
        with pytest.raises(FormatError) as caught:
            dcap.parse_quote(wrong)

        assert name == caught.value.reason
        assert f"not a quote: {words} (of {len(wrong)} bytes) [{name}]" == str(caught.value)


def test_remembered_signatures_are_of_exact_bytes(kit):
    """After a good quote has been seen, a changed QE report, QE signature or PCK chain is refused, each time anew."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    collateral = dcap.PreparedCollateral(exhibit.collateral, anchor)
    parsed = dcap.parse_quote(exhibit.quote)
    places = {
        "qe.report.bad_signature": exhibit.quote.index(parsed.qe_report_signature) + 40,
        "qe.report.bad_binding": exhibit.quote.index(parsed.qe_report) + 330,
        "pck.chain.malformed": exhibit.quote.index(b"-----BEGIN") + 5,
    }
    for _ in range(3):
        assert dcap.verify(exhibit.quote, collateral=collateral, at=kit.at).genuine
        for check, place in places.items():
            changed = bytearray(exhibit.quote)
            changed[place] ^= 1
            verdict = dcap.verify(bytes(changed), collateral=collateral, at=kit.at)

            assert check in verdict.failed
            assert check != "qe.report.bad_binding" or "qe.report.bad_signature" in verdict.failed


def test_the_window_is_half_open(kit):
    """start <= at < end: the first second is in, the last is out."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    collateral = dcap.PreparedCollateral(exhibit.collateral, anchor)
    end = dcap.verify(exhibit.quote, collateral=collateral, at=exhibit.at).earliest_expiration

    assert dcap.verify(exhibit.quote, collateral=collateral, at=end - 1).genuine
    assert not dcap.verify(exhibit.quote, collateral=collateral, at=end).genuine


@pytest.mark.parametrize("at", [2147483648, 2524694400, 4102444799])
def test_far_times_are_plain_numbers(kit, at):
    """After 2038, after 2050 and up to the end of the certificates the same platform is judged the same."""
    scene = kit.platform.scene(body=kit.body, at=at)
    exhibit = scene.render()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    verdict = dcap.verify(exhibit.quote, collateral=dcap.PreparedCollateral(exhibit.collateral, anchor), at=at)

    assert verdict.genuine == (at < 4102444799)


def test_many_equal_one_by_one(kit):
    """verify_many gives the verdicts of verify, in order, with any number of threads."""
    exhibits = [kit.exhibit(), *(kit.exhibit(name) for name in list(kit.faults)[:40:5])]
    root = kit.exhibit().root
    anchor = dcap.Anchor([root], key=dcap.certificate_key(root), insecure=True)
    jobs = [(e.quote, dcap.PreparedCollateral(e.collateral, anchor)) for e in exhibits] * 3
    wanted = [dcap.verify(quote, collateral=collateral, at=kit.at).outcomes for quote, collateral in jobs]

    for threads in (1, 2, 7):
        assert wanted == [verdict.outcomes for verdict in dcap.verify_many(jobs, at=kit.at, threads=threads)]
    assert dcap.verify_many([], at=kit.at, threads=2) == ()


def test_hostile_input_never_raises(kit, judge):
    """Empty, random, huge and wrongly typed bytes in every place give a verdict that is not genuine."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    good = dcap.PreparedCollateral(exhibit.collateral, anchor)
    for junk in (b"", b"\0", b"\xff" * 20, b"A" * 70000, b"\x03\0\x02\0" + b"\xff" * 2000, b"-----BEGIN", b"{" * 5000):
        assert not dcap.verify(junk, collateral=good, at=kit.at).genuine
        for item in dcap.ITEMS:
            bad = dcap.PreparedCollateral({**exhibit.collateral, item: junk}, anchor)
            assert not dcap.verify(exhibit.quote, collateral=bad, at=kit.at).genuine
    for text in ("\ud800", "\0", "é" * 10):
        bad = dcap.PreparedCollateral({**exhibit.collateral, "tcb_info": text}, anchor)
        assert dcap.verify(exhibit.quote, collateral=bad, at=kit.at).failed == ("tcbinfo.document.malformed",)


def test_each_missing_item_is_a_failed_check(kit):
    """Without one of the seven objects nothing is genuine, and the check says which is missing."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    for item in dcap.ITEMS:
        items = {key: value for key, value in exhibit.collateral.items() if key != item}
        verdict = dcap.verify(exhibit.quote, collateral=dcap.PreparedCollateral(items, anchor), at=kit.at)

        assert not verdict.genuine
        assert len(verdict.failed) == 1
        assert verdict.failed[0].endswith(".missing")


def test_crls_come_as_hex_der_or_pem(kit):
    """The three spellings of a CRL are the same CRL."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    for item in ("root_ca_crl", "pck_crl"):
        der = bytes.fromhex(exhibit.collateral[item])
        pem = pki.pem(der).replace("CERTIFICATE", "X509 CRL")
        for spelling in (der, der.hex(), der.hex().upper(), der.hex() + "\n", pem):
            collateral = dcap.PreparedCollateral({**exhibit.collateral, item: spelling}, anchor)
            assert dcap.verify(exhibit.quote, collateral=collateral, at=kit.at).genuine


def test_a_large_crl_is_read_in_linear_time(kit, judge):
    """20,000 entries: read once, the one that matters is found at the end, and ten times the entries cost about ten times."""
    took = {}
    for count in (2000, 20000):
        scene = kit.scene()
        scene.crl("pck_crl", revoked=(*range(1, count), scene.certificates["pck"].serial))
        exhibit = scene.render()
        start = time.perf_counter()
        assert judge(exhibit).failed == ("pck.leaf.revoked",)
        took[count] = time.perf_counter() - start

    assert took[20000] < 30 * took[2000] + 0.05


def test_texts_from_outside_are_printable_ascii(kit, judge):
    """What a hostile document says reaches the texts of a check escaped and cut."""
    scene = kit.scene()
    scene.tcb_info["id"] = "TDX' ~" + "x" * 500
    texts = [text for check in judge(scene.render()).checks for text in (check.observed, check.expected)]

    assert all(text.isascii() and text.isprintable() and len(text) < 1024 for text in texts)


@pytest.mark.parametrize(
    ("fault", "texts"),
    [
        ("quote-version-2", ("2", "3, 4 or 5")),
        ("quote-qe-auth-1025", ("1025", "at most 1024")),
        ("quote-5-body-type-unknown", ("4", "body type 1")),
        ("quote-5-body-size-less", ("383", "384")),
        ("quote-4-nested-type", ("5", "6")),
        ("pck-crl-chain-without-root", ("Intel SGX PCK Platform CA", "one root, one PCK CA")),
        ("pck-crl-chain-with-pck", ("Intel SGX PCK Certificate", "one root, one PCK CA")),
        ("qe-identity-chain-without-root", ("Intel SGX TCB Signing", "one root, one TCB signing certificate")),
        ("pck-expired-this-second", ("2025-11-24T16:00:00Z", "before 2025-11-24T16:00:00Z")),
        ("pck-not-yet-valid", ("2025-11-24T16:00:00Z", "2025-11-24T16:00:01Z or later")),
    ],
)
def test_what_was_expected_is_what_would_pass(kit, judge, fault, texts):
    """A failed check never says that it expected what it saw, or less than what would pass."""
    check = kit.faults[fault].check
    found = next(found for found in judge(kit.exhibit(fault)).checks if found.id == check)

    assert texts == (found.observed, found.expected)


def test_no_fault_was_expected(kit, judge):
    """No text of a failed check is the same on both sides, and a limit is said to be one."""
    (oversize,) = (found for found in judge(kit.exhibit("quote-oversize")).checks if found.outcome == "fail")
    assert ("quote.bytes.oversize", "at most 65536") == (oversize.id, oversize.expected)
    same = {
        (name, found.id)
        for name, fault in kit.faults.items()
        for found in judge(kit.exhibit(name)).checks
        if found.id == fault.check and found.observed == found.expected
    }
    assert set() == same


@pytest.mark.parametrize("at", [0, -1, 1 << 62, 253402300800])
def test_times_that_are_none_are_refused(kit, at):
    """A time outside 1970 to 9999 is a fault of the caller."""
    exhibit = kit.exhibit()
    anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    with pytest.raises(UsageError) as caught:
        dcap.verify(exhibit.quote, collateral=dcap.PreparedCollateral(exhibit.collateral, anchor), at=at)
    assert caught.value.reason == "core.time.invalid"


def test_an_anchor_is_a_root_or_an_error(kit):
    """No root, a certificate that is no root, a wrong key: refused; a simulated root never goes as Intel's."""
    exhibit = kit.exhibit()
    key = dcap.certificate_key(exhibit.root)
    ca = kit.scene().certificate_der("ca")
    for certificates, pinned, insecure, reason in (
        ([], key, True, "core.root.missing"),
        ([b""], key, True, "core.root.missing"),
        ([exhibit.root], key[:64], True, "core.root.missing"),
        ([b"\x30\x00"], key, True, "core.root.malformed"),
        ([ca], dcap.certificate_key(ca), True, "core.root.malformed"),
        ([exhibit.root], INTEL_ROOT_KEY, True, "core.root.malformed"),
        ([exhibit.root], key, False, "core.root.malformed"),
        ([exhibit.root, dcap.certificate_der(INTEL_ROOTS[0])], key, True, "core.root.malformed"),
        ([exhibit.root + b"\0"], key, True, "core.root.malformed"),
    ):
        with pytest.raises((UsageError, FormatError)) as caught:
            dcap.Anchor(certificates, key=pinned, insecure=insecure)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("oid", "content"),
    [
        (pki.OID_BASIC_CONSTRAINTS, "3000"), (pki.OID_BASIC_CONSTRAINTS, "30060101ff020100"), (pki.OID_KEY_USAGE, "03020186"),
        (pki.OID_KEY_USAGE, "030206c0"), (pki.OID_AUTHORITY_KEY, "30168014" + "00" * 20), (pki.OID_CRL_POINTS, None),
        (None, {"issuer": pki.name("Intel SGX Root CB")}), (None, {"subject": pki.name("Intel SGX PCK Platform CA")}),
    ],
)  # fmt: skip
def test_a_root_that_may_not_be_one_is_no_anchor(kit, oid, content):
    """Own name, own key id, no path length of 0, the two usages of an authority and nothing else; signed by itself."""
    scene = kit.scene()
    root = scene.certificates["root"]
    if oid is None:
        changed = replace(root, **content)
    elif content is None:
        changed = pki.without_extension(root, oid)
    else:
        changed = pki.with_extension(root, oid, content=bytes.fromhex(content))
    scene.certificates["root"] = changed
    scene.trust_changed_root()
    der = scene.render().root

    with pytest.raises(FormatError) as caught:
        dcap.Anchor([der], key=root.point, insecure=True)
    assert "core.root.malformed" == caught.value.reason


def test_items_and_batches_are_checked(kit):
    """An unknown item, mixed anchors and silly thread counts are faults of the caller."""
    exhibit = kit.exhibit()
    anchors = [dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True) for _ in range(2)]
    jobs = [(exhibit.quote, dcap.PreparedCollateral(exhibit.collateral, anchor)) for anchor in anchors]
    for call, reason in (
        (lambda: dcap.PreparedCollateral({"pck_certificate_chain": b""}, anchors[0]), "core.item.unknown"),
        (lambda: dcap.verify_many(jobs, at=kit.at, threads=1), "core.root.mixed"),
        (lambda: dcap.verify_many(jobs[:1], at=kit.at, threads=0), "core.threads.invalid"),
        (lambda: dcap.verify_many(jobs[:1], at=kit.at, threads=65), "core.threads.invalid"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.reason == reason


SCRIPT = """
import sys, pickle
from glasscase.core import dcap
quote, items, root, at = pickle.load(open(sys.argv[1], "rb"))
anchor = dcap.Anchor([root], key=dcap.certificate_key(root), insecure=True)
verdict = dcap.verify(quote, collateral=dcap.PreparedCollateral(items, anchor), at=at)
print(verdict.genuine, verdict.tcb_status, verdict.outcomes.hex(), verdict.windows)
"""


@pytest.fixture(scope="module")
def said(kit, tmp_path_factory):
    """Return a function that judges the honest exhibit in a new process with other flags and environment."""
    exhibit = kit.exhibit()
    path = tmp_path_factory.mktemp("exhibit") / "exhibit.pickle"
    path.write_bytes(pickle.dumps((exhibit.quote, exhibit.collateral, exhibit.root, exhibit.at)))

    def run(*flags, **environment):
        done = subprocess.run(
            [sys.executable, *flags, "-c", SCRIPT, str(path)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    return run


def test_neither_flags_nor_environment_change_a_verdict(said, tmp_path):
    """python -O, another time zone and locale, and a hostile openssl.cnf leave every outcome as it is."""
    config = tmp_path / "openssl.cnf"
    config.write_text("openssl_conf = o\n[o]\nproviders = p\n[p]\nnull = n\n[n]\nactivate = 1\n")
    plain = said()

    assert plain.startswith("True UpToDate")
    assert plain == said("-O")
    assert plain == said("-W", "error", TZ="Pacific/Kiritimati", LC_ALL="C")
    assert plain == said(OPENSSL_CONF=str(config))
