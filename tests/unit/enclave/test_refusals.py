"""The table of refusals: every wrong envelope gets the same answer from a running enclave, and nothing changes.

Each row is posted to one enclave before and after it has accepted the right envelope; docs/provisioning.md shows the table.
"""

import contextlib
import dataclasses
import os
import sys
import time
from pathlib import Path

import cbor2
import pytest
from h2.events import StreamEnded

from glasscase.codec import cbor
from glasscase.enclave.keys import InstanceKeys
from glasscase.enclave.provision import Provisioner
from glasscase.errors import Error, FormatError
from glasscase.seal import cose, hpke
from glasscase.seal.envelope import FORM, NO_PACKAGE, Contents, Context, make_payload, sign_payload
from glasscase.seal.receipt import FORM as RECEIPT_FORM
from glasscase.seal.receipt import read_receipt
from glasscase.sgx.report import ReportBody

from .conftest import HTTP2_PACKAGES, MRENCLAVE, OWNER, OWNER_SEED, PACKAGES, make_config, wheel_files
from .test_http2 import Client

STRANGER_SEED = b"\x08" * 32
SECOND_SEED = b"\x09" * 32
SECOND = cose.public_key(SECOND_SEED)
SMALL_ORDER = b"\x01" + bytes(31)
CONTENTS = Contents(b"r" * 32, secrets={"token": "s3cret-canary"})


class Owner:
    """Makes envelopes for one instance, right ones and wrong ones."""

    def __init__(self, instance, seal_key, now):
        self.base = Context(
            b"e" * 16, MRENCLAVE, instance, NO_PACKAGE, CONTENTS.commitment, (OWNER,), 3, now, now + 3600
        )
        self.seal_key = seal_key
        self.now = now

    def payload(self, contents=CONTENTS, *, seal_key=None, **changes):
        context = dataclasses.replace(self.base, **{"secrets": contents.commitment, **changes})
        return make_payload(contents, context, seal_key=seal_key or self.seal_key)

    def signed(self, payload, *seeds):
        return cose.encode_sign(
            payload, tuple(sign_payload(payload, owner_seed=s) for s in seeds or (OWNER_SEED,)), form=FORM
        )

    def make(self, contents=CONTENTS, *, seeds=(OWNER_SEED,), **changes):
        owners = tuple(sorted(cose.public_key(seed) for seed in seeds))
        return self.signed(self.payload(contents, **{"owners": owners, **changes}), *seeds)

    def edited(self, *, sign=True, **changes):
        """Return an envelope whose payload map was changed after sealing, signed again or not."""
        payload = self.payload()
        value = cbor2.loads(payload)
        context = dict(value["ctx"])
        for name, item in changes.items():
            target = value if name in ("ct", "extra", "payload_v") else context
            target[name.removeprefix("payload_")] = item
        changed = cbor2.dumps({**value, "ctx": context}, canonical=True)
        if sign:
            return self.signed(changed)
        return cose.encode_sign(changed, (sign_payload(payload, owner_seed=OWNER_SEED),), form=FORM)

    def plain(self, plaintext, **changes):
        """Return an envelope around any plaintext."""
        context = dataclasses.replace(self.base, **changes)
        ciphertext = hpke.seal_to(self.seal_key, plaintext, info=context.info)
        return self.signed(cbor.encode({"v": 1, "ctx": context.to_map(), "ct": ciphertext}))

    def around(self, change):
        """Return the right envelope with its COSE parts changed."""
        value = cbor.decode(self.make(), max_bytes=1 << 20, what="x", tags=frozenset({98}), cose=True).value
        change(value)
        return cbor2.dumps(cbor2.CBORTag(98, value), canonical=True)


def contents_of(**changes):
    value = cbor2.loads(CONTENTS.to_bytes())
    return cbor2.dumps({**value, **changes}, canonical=True)


def set_part(index, item):
    return lambda o: o.around(lambda value: value.__setitem__(index, item))


def set_signer(index, item):
    return lambda o: o.around(lambda value: value[3][0].__setitem__(index, item))


def swap_signature(o):
    other = cbor.decode(o.make(), max_bytes=1 << 20, what="x", tags=frozenset({98}), cose=True).value[3]
    return o.around(lambda value: value.__setitem__(3, other))


def receipt_signed(o):
    payload = o.payload()
    return cose.encode_sign(payload, (cose.sign(payload, form=RECEIPT_FORM, seed=OWNER_SEED),), form=FORM)


# name: (reason inside, how to make it)
REFUSALS = {
    "nothing": ("seal.envelope.malformed", lambda o: b""),
    "text": ("seal.envelope.malformed", lambda o: b"let me in"),
    "JSON": ("seal.envelope.malformed", lambda o: b"{}"),
    "random bytes": ("seal.envelope.malformed", lambda o: os.urandom(4096)),
    "more than 1 MiB": ("seal.envelope.oversize", lambda o: bytes((1 << 20) + 1)),
    "a truncated envelope": ("seal.envelope.malformed", lambda o: o.make()[:-1]),
    "a trailing byte": ("seal.envelope.malformed", lambda o: o.make() + b"\0"),
    "COSE_Sign1's tag": ("seal.envelope.malformed", lambda o: b"\xd2" + o.make()[2:]),
    "no tag": ("seal.envelope.malformed", lambda o: o.make()[2:]),
    "another content type": ("seal.envelope.malformed", set_part(0, cbor2.dumps({3: "text/plain"}))),
    "an unprotected header": ("seal.envelope.malformed", set_part(1, {4: b"x"})),
    "a detached payload": ("seal.envelope.malformed", set_part(2, b"")),
    "no signature": ("seal.envelope.malformed", set_part(3, [])),
    "a signature twice": ("seal.envelope.malformed", lambda o: o.around(lambda v: v[3].append(v[3][0]))),
    "17 signatures": ("seal.envelope.malformed", lambda o: o.around(lambda v: v.__setitem__(3, v[3] * 17))),
    "ES256": ("seal.envelope.malformed", set_signer(0, cbor2.dumps({1: -7, 4: OWNER}, canonical=True))),
    "a signature of 63 bytes": ("seal.envelope.malformed", set_signer(2, bytes(63))),
    "an unknown field": ("seal.envelope.malformed", lambda o: o.edited(extra=1)),
    "an unknown context field": ("seal.envelope.malformed", lambda o: o.edited(more=1)),
    "another type of context": ("seal.envelope.malformed", lambda o: o.edited(type="key-share")),
    "no owners": ("seal.envelope.malformed", lambda o: o.edited(owners=[])),
    "a short ciphertext": ("seal.envelope.malformed", lambda o: o.edited(ct=bytes(100))),
    "a newer payload": ("format.newer", lambda o: o.edited(payload_v=2)),
    "a newer context": ("format.newer", lambda o: o.edited(v=2)),
    "a stranger's signature": ("seal.signature.stranger", lambda o: o.make(seeds=(STRANGER_SEED,))),
    "a stranger beside the owner": ("seal.signature.stranger", lambda o: o.make(seeds=(OWNER_SEED, STRANGER_SEED))),
    "a signer whom the context lacks": (
        "seal.signature.mismatch", lambda o: o.signed(o.payload(), OWNER_SEED, STRANGER_SEED),
    ),
    "an owner who did not sign": (
        "seal.signature.mismatch", lambda o: o.signed(o.payload(owners=tuple(sorted((OWNER, SECOND)))), OWNER_SEED),
    ),
    "signed by another than the context says": ("seal.signature.mismatch", lambda o: o.make(owners=(SECOND,))),
    "a small-order key": (
        "seal.signature.stranger",
        lambda o: cose.encode_sign(o.payload(owners=(SMALL_ORDER,)), (cose.Signature(SMALL_ORDER, bytes(64)),), form=FORM),
    ),
    "a zero signature": ("seal.signature.invalid", set_signer(2, bytes(64))),
    "another envelope's signature": ("seal.signature.invalid", swap_signature),
    "a receipt's signature": ("seal.signature.invalid", receipt_signed),
    "a payload changed after signing": ("seal.signature.invalid", lambda o: o.edited(sign=False, not_after=o.now + 9999)),
    "for another enclave": ("seal.context.mrenclave", lambda o: o.make(mrenclave=b"x" * 32)),
    "for another instance": ("seal.context.instance", lambda o: o.make(instance=b"x" * 32)),
    "for a package": ("seal.context.package", lambda o: o.make(package=b"x" * 32)),
    "for an older release": ("seal.context.isv_svn", lambda o: o.make(isv_svn=2)),
    "for a newer release": ("seal.context.isv_svn", lambda o: o.make(isv_svn=4)),
    "made in the future": ("seal.time.early", lambda o: o.make(issued_at=o.now + 1000)),
    "expired": ("seal.time.expired", lambda o: o.make(issued_at=o.now - 100, not_after=o.now - 50)),
    "sealed to another key": ("seal.ciphertext.unauthentic", lambda o: o.make(seal_key=hpke.SealKey().public)),
    "a changed ciphertext": ("seal.ciphertext.unauthentic", lambda o: o.edited(ct=os.urandom(1300))),
    "a context changed after sealing": ("seal.ciphertext.unauthentic", lambda o: o.edited(not_after=o.now + 9999)),
    "an envelope id changed after sealing": ("seal.ciphertext.unauthentic", lambda o: o.edited(id=b"x" * 16)),
    "contents that were not committed to": (
        "seal.secrets.mismatch", lambda o: o.plain(contents_of(), secrets=b"x" * 32),
    ),
    "contents with an unknown key": ("seal.contents.malformed", lambda o: o.plain(contents_of(extra=1))),
    "contents that are no map": ("seal.contents.malformed", lambda o: o.plain(b"\x80")),
    "contents that are not canonical": ("seal.contents.malformed", lambda o: o.plain(contents_of() + b"\0")),
    "a secret that is a number": ("seal.contents.malformed", lambda o: o.plain(contents_of(secrets={"n": 1}))),
    "a secret without a name": ("seal.contents.malformed", lambda o: o.plain(contents_of(secrets={"": "x"}))),
    "257 secrets": (
        "seal.contents.malformed", lambda o: o.plain(contents_of(secrets={f"n{i}": "x" for i in range(257)})),
    ),
    "secrets of 300 KiB": ("seal.contents.malformed", lambda o: o.plain(contents_of(secrets={"n": "x" * 300 * 1024}))),
    "a package key without a package": (
        "seal.package_key.unexpected", lambda o: o.make(dataclasses.replace(CONTENTS, package_key=b"p" * 32)),
    ),
    "model keys without a package": (
        "seal.package_key.unexpected",
        lambda o: o.make(dataclasses.replace(CONTENTS, model_keys={b"i" * 16: b"k" * 32})),
    ),
    "a certificate chain in mode ra-tls": (
        "seal.chain.wrong", lambda o: o.make(dataclasses.replace(CONTENTS, chain=(b"der",))),
    ),
}  # fmt: skip
REPORT = ReportBody(
    cpu_svn=bytes(16), misc_select=0, isv_ext_prod_id=bytes(16), attributes_flags=5, xfrm=3, mrenclave=MRENCLAVE,
    mrsigner=bytes(32), config_id=bytes(64), isv_prod_id=1, isv_svn=3, config_svn=0, isv_family_id=bytes(16),
    report_data=bytes(64),
)  # fmt: skip
NOW = 1_800_000_000


def make_provisioner(now=NOW, **changes):
    keys = InstanceKeys()
    clock = [now]
    config = make_config(**{"owners": tuple(sorted((OWNER, SECOND))), **changes})
    provisioner = Provisioner(
        config,
        REPORT,
        keys,
        clock=lambda: clock[0],
        open_package=None,
        live_spki_sha256=lambda: b"s" * 32,
        can_serve=lambda _: True,
    )
    return provisioner, Owner(keys.digest, keys.seal.public, now), keys, clock


@pytest.fixture(scope="module")
def decision():
    """Return one provisioner for all rows: a refusal must leave it as it was."""
    return make_provisioner()


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_has_its_reason(name, decision):
    """Inside, each row is refused by the check that it was made for, and the seal key stays."""
    provisioner, owner, keys, _ = decision
    reason, make = REFUSALS[name]

    with pytest.raises(FormatError) as caught:
        provisioner.accept(make(owner))
    assert reason == caught.value.reason
    assert keys.seal.alive


def test_at_least_forty_rows():
    """The table has the size that the contract asks for, and the document says how many there are."""
    text = (Path(__file__).parents[3] / "docs" / "provisioning.md").read_text("utf-8")

    assert len(REFUSALS) >= 40
    assert f"{len(REFUSALS) + 2} rows" in text  # besides: a second envelope, one of another instance


def test_the_right_envelope_is_accepted_once():
    """After all refusals the right envelope is accepted; then only its own payload gets the stored receipt."""
    provisioner, owner, keys, clock = make_provisioner()
    for _, make in REFUSALS.values():
        with pytest.raises(Error):
            provisioner.accept(make(owner))
    data = owner.make()
    first = provisioner.accept(data)
    clock[0] += 10**6
    again = provisioner.accept(data)

    assert (True, False) == (first.fresh, again.fresh)
    assert first.receipt == again.receipt
    assert CONTENTS == first.contents
    assert not keys.seal.alive
    with pytest.raises(FormatError) as caught:
        provisioner.accept(owner.make())
    assert "seal.envelope.second" == caught.value.reason


def test_the_clock_may_not_be_before_the_build():
    """A clock before the build epoch refuses even an envelope that claims to be older."""
    provisioner, owner, _, clock = make_provisioner()
    clock[0] = 1_600_000_000

    with pytest.raises(FormatError) as caught:
        provisioner.accept(owner.make(issued_at=0))
    assert "seal.time.unbuilt" == caught.value.reason


def test_m_of_n():
    """With a threshold of two, one signature is refused and two are accepted."""
    provisioner, owner, keys, _ = make_provisioner(threshold=2)

    with pytest.raises(FormatError) as caught:
        provisioner.accept(owner.make())
    assert "seal.signature.missing" == caught.value.reason
    receipt = provisioner.accept(owner.make(seeds=(SECOND_SEED, OWNER_SEED))).receipt
    facts = cose.public_key(keys.receipt_seed)
    assert tuple(sorted((OWNER, SECOND))) == read_receipt(receipt, receipt_key=facts).owners


def test_what_was_kept_is_judged_again():
    """An envelope that an earlier instance kept is held against every rule that does not name that instance."""
    _, owner, _, _ = make_provisioner()
    data = owner.make()
    kept, _, _, clock = make_provisioner()
    other = dataclasses.replace(CONTENTS, secrets={"token": "another"})
    chained = dataclasses.replace(CONTENTS, chain=(b"der",))
    stranger = owner.make(seeds=(bytes(32),))

    for envelope, contents, reason in (
        (stranger, CONTENTS, "seal.signature.stranger"),
        (owner.make(mrenclave=b"x" * 32), CONTENTS, "seal.context.mrenclave"),
        (owner.make(package=b"x" * 32), CONTENTS, "seal.context.package"),
        (owner.make(issued_at=NOW - 100, not_after=NOW - 50), CONTENTS, "seal.time.expired"),
        (data, other, "seal.secrets.mismatch"),
        (owner.make(chained), chained, "seal.chain.wrong"),
    ):
        with pytest.raises(FormatError) as caught:
            kept.restore(envelope, contents)
        assert reason == caught.value.reason
    clock[0] += 1
    assert CONTENTS == kept.restore(data, CONTENTS).contents
    with pytest.raises(FormatError) as caught:
        kept.restore(data, CONTENTS)
    assert "seal.envelope.second" == caught.value.reason


def steps(call):
    """Return the functions of glasscase and of Python's C modules that a call comes through, and the reason of its Error."""
    found = []

    def note(frame, event, argument):
        if event == "call" and "glasscase" in frame.f_code.co_filename:
            found.append(frame.f_code.co_qualname)
        elif event == "c_call" and "glasscase" in frame.f_code.co_filename:
            found.append(argument.__qualname__)

    sys.setprofile(note)
    try:
        call()
    except Error as error:
        return found, error.reason
    finally:
        sys.setprofile(None)
    raise AssertionError("it was accepted")


def test_a_wrong_key_takes_the_steps_of_a_changed_ciphertext():
    """Neither answer nor time can tell another seal key from a corrupt envelope: the same functions run, in the same order."""
    provisioner, owner, _, _ = make_provisioner()
    ciphertext = cbor2.loads(owner.payload())["ct"]
    changed = [
        owner.edited(ct=ciphertext[:at] + bytes([ciphertext[at] ^ 1]) + ciphertext[at + 1 :])
        for at in (0, 1100, hpke.OVERHEAD - 16, len(ciphertext) - 1)  # ML-KEM-768, X25519, the plaintext, the tag
    ]
    wrong = owner.make(seal_key=hpke.SealKey().public)
    assert {len(wrong)} == {len(data) for data in changed}
    found = [steps(lambda data=data: provisioner.accept(data)) for data in (wrong, *changed)]

    assert [found[0]] * 4 == found[1:]
    assert "seal.ciphertext.unauthentic" == found[0][1]
    assert found[0] != steps(lambda: provisioner.accept(owner.make(mrenclave=b"x" * 32)))


def test_half_an_envelope_changes_nothing(enclave):
    """An envelope whose sender goes away half-way is none: still waiting, and the whole one is accepted."""
    one = enclave().start()
    right = one.envelope()
    head = "POST /.well-known/glasscase/provision HTTP/1.1\r\nHost: x\r\nContent-Type: application/cose\r\n"
    head += f"Content-Length: {len(right)}\r\n\r\n"
    for sent in (0, 1, len(right) // 2, len(right) - 1):
        with contextlib.closing(one.connection()) as connection:
            connection.connect()
            connection.sock.sendall(head.encode() + right[:sent])
    assert "waiting" == one.status_file()["state"]
    assert one.claims().session_facts().prov is None

    one.serve(right)


def over_http2(one, data, kind="application/cose"):
    """Return everything of the answer to an envelope over HTTP/2 but its date: headers in order, body, how it ended."""
    with Client(one) as client:
        assert "h2" == client.protocol
        headers, body, end = client.exchange("POST", "/.well-known/glasscase/provision", data, kind)
    return tuple(item for item in headers if item[0] != b"date"), body, end


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_running_enclave_refuses_all_alike(enclave, http2):
    """Over the wire every row gets one answer, byte for byte but for its date, before and after acceptance; nothing changes."""
    paths = [f"rootfs/opt/site/{path}" for path in wheel_files((*PACKAGES, *HTTP2_PACKAGES))]
    one = enclave(config=make_config(owners=tuple(sorted((OWNER, SECOND)))), site_paths=paths).start()

    def refusal(data, kind="application/cose", at=one):
        return over_http2(at, data, kind) if http2 else at.refusal(data, kind)

    claims = one.claims()
    facts = claims.instance_facts()
    owner = Owner(one.context(CONTENTS).instance, facts.seal_key, int(time.time()))
    envelopes = {name: make(owner) for name, (_, make) in REFUSALS.items()}
    right = owner.make()
    before = (one.attestation(), sorted(one.run.rglob("*")))
    uniform = refusal(b"let me in")

    if http2:
        assert (b"403", b"refused", StreamEnded) == (dict(uniform[0])[b":status"], *uniform[1:])
    else:
        assert (403, b"refused") == (uniform[1], uniform[-1])
    for name, data in envelopes.items():
        assert uniform == refusal(data), name
    for kind in ("application/cbor", "text/plain", "application/cose; x=y"):
        assert uniform == refusal(right, kind)
    assert before == (one.attestation(), sorted(one.run.rglob("*")))
    assert "waiting" == one.status_file()["state"]

    receipt = one.serve(right)
    seq = one.claims().session_facts().seq
    for name, data in {**envelopes, "a second envelope": owner.make()}.items():
        assert uniform == refusal(data), name
    assert (200, receipt) == one.provision(right)
    assert seq == one.claims().session_facts().seq
    assert (200, b"s3cret-canary") == one.ask("GET", "/secret")

    other = enclave(site_paths=paths).start()
    assert uniform == refusal(right, at=other)
    assert "s3cret-canary" not in one.text() + other.text()
    assert "seal." not in one.text()
