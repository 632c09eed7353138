"""What the operator's side makes of an enclave's answers, and of what it has kept."""

from types import SimpleNamespace

import pytest

from glasscase.errors import FormatError, StorageError
from glasscase.hosting import address, collect, provision, state

NOW = 1_800_000_000


@pytest.fixture
def answers(monkeypatch):
    """Return the answers that an enclave gives one after the other, as status and body; its place is a name alone."""
    given = []
    for module in (collect, provision):
        monkeypatch.setattr(module, "require_running", lambda _place: (None, 4321))
        monkeypatch.setattr(module.link, "ask", lambda *_words, **_options: SimpleNamespace(**given.pop(0)))
    return given


PLACE = SimpleNamespace(name="one", log="log.txt", facts=lambda: SimpleNamespace(host="127.0.0.1"))


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", []), ("::", []), ("127.0.0.1", []), ("192.0.2.7", ["192.0.2.7"])]
)
def test_the_names_of_a_certificate(host, shown):
    """A wildcard is no name; the loopback names are there where the enclave is reachable by them."""
    names = address.certificate_names(host, ("api.example",))

    local = [] if shown else ["localhost", "127.0.0.1", "::1"]
    assert {"api.example", *shown, *local} == set(names)


def test_collateral_ages(tmp_path):
    """What was fetched is used again for twelve hours, and not if it is from the future."""
    place = state.place_of(tmp_path, "one")
    place.instance.mkdir(parents=True)
    collect.keep_collateral(place, collect.simulated_collateral(tmp_path, now=NOW))

    assert NOW == collect.kept_collateral(place, now=NOW + collect.FRESH_S - 1).fetched_at
    assert collect.kept_collateral(place, now=NOW + collect.FRESH_S) is None
    assert collect.kept_collateral(place, now=NOW - 1) is None


def test_an_enclave_that_is_busy_is_asked_again(answers, monkeypatch):
    """429 is no end until the deadline; then the answer is that it is busy."""
    monkeypatch.setattr(collect, "BUSY_RETRY_S", 0)
    monkeypatch.setattr(collect, "Attestation", SimpleNamespace(from_bytes=bytes))
    answers += [{"status": 429, "body": b""}, {"status": 429, "body": b""}, {"status": 200, "body": b"quote"}]
    assert b"quote" == collect.fetch_attestation(PLACE)
    monkeypatch.setattr(collect, "BUSY_DEADLINE_S", -1)
    answers += [{"status": 429, "body": b""}]
    with pytest.raises(StorageError) as caught:
        collect.fetch_attestation(PLACE)

    assert "hosting.evidence.busy" == caught.value.reason


def test_an_enclave_that_gets_no_quote_says_so(answers):
    """503 comes from the enclave itself, as where aesmd is down: nothing that is not authentic, and to be asked for again."""
    answers += [{"status": 503, "body": b"no quote\n"}]
    with pytest.raises(StorageError) as caught:
        collect.fetch_attestation(PLACE, nonce=bytes(32))

    assert "hosting.evidence.unavailable" == caught.value.reason
    assert 4 == caught.value.exit_code
    assert "glasscase doctor" in caught.value.hint


def test_a_receipt_for_another_envelope_is_no_acceptance(answers, monkeypatch):
    """A receipt counts for the envelope that it names."""
    keys = SimpleNamespace(instance_facts=lambda: SimpleNamespace(receipt_key=b"k" * 32))
    monkeypatch.setattr(provision, "fetch_attestation", lambda _place: SimpleNamespace(claims=b""))
    monkeypatch.setattr(provision, "Claims", SimpleNamespace(from_bytes=lambda _claims: keys))
    monkeypatch.setattr(provision, "read_envelope", lambda data: SimpleNamespace(digest=data))
    monkeypatch.setattr(provision, "read_receipt", lambda data, receipt_key: SimpleNamespace(envelope=data))
    answers += [{"status": 200, "body": b"mine"}, {"status": 200, "body": b"another"}]
    assert b"mine" == provision.provision(PLACE, b"mine", timeout_s=1).receipt
    with pytest.raises(FormatError) as caught:
        provision.provision(PLACE, b"mine", timeout_s=1)

    assert "hosting.answer.unexpected" == caught.value.reason


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (b"", "it is empty"),
        (b'{"v": 1}', "it ends too early"),
        (b"\xff" * 9, "it is not in deterministic"),
        (b"\xd2\x80", "it holds a tag that is not allowed: 18"),
        (b"\xf9\x00\x00", "it holds a CBOR type that is not allowed: float"),
    ],
)
def test_another_file_is_said_not_to_be_an_envelope(given, found):
    """What is no envelope is refused before anything is asked of the enclave; the reason is in words."""
    with pytest.raises(FormatError) as caught:
        provision.provision(PLACE, given, timeout_s=1)

    assert "hosting.provision.malformed" == caught.value.reason
    assert f"this is not a sealed envelope ({found}" in caught.value.message
