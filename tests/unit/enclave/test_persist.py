"""Persistence: a restart needs no new secrets, another enclave, a changed record or an expired envelope does."""

import dataclasses
import os
import time

import pytest

from glasscase.config.enclave import GramineOptions
from glasscase.enclave.persist import Record, Store
from glasscase.errors import StorageError
from glasscase.evidence.attestation import Claims
from glasscase.seal.envelope import read_envelope
from glasscase.seal.receipt import read_receipt

from .conftest import make_config

GRAMINE = GramineOptions("simulator", "512M", 32, 1, 3, persist="mrenclave")


@pytest.fixture
def kept(enclave):
    """Return an enclave that has kept what it was provisioned with, and was stopped."""
    one = enclave(config=make_config(gramine=GRAMINE))
    (one.instance / "persist").mkdir()
    one.start()
    one.envelope_used = one.envelope()
    one.serve(one.envelope_used)
    one.before = one.claims()
    assert 0 == one.stop()
    (one.instance / "status.json").unlink()
    return one


def test_a_restart_needs_no_secrets(kept):
    """It serves again, with new keys, the same prov, and a receipt by the new receipt key."""
    kept.start(wait="serving")
    assert (200, b"s3cret-canary") == kept.ask("GET", "/secret")
    attestation = kept.attestation()
    claims = Claims.from_bytes(attestation.claims)
    facts = claims.instance_facts()
    receipt = read_receipt(attestation.provision.receipt, receipt_key=facts.receipt_key)

    assert kept.before.instance != claims.instance
    assert read_envelope(kept.envelope_used).digest == claims.session_facts().prov == receipt.envelope
    assert kept.before.instance_facts().receipt_key != facts.receipt_key
    assert (200, attestation.provision.receipt) == kept.provision(kept.envelope_used)
    assert (403, b"refused") == kept.provision(kept.envelope(not_after=int(time.time()) + 99))


def test_the_record_is_not_readable(kept):
    """Nothing on the disk holds a secret in clear."""
    for path in kept.folder.rglob("*"):
        if path.is_file() and "site" not in path.parts and not path.is_symlink():
            assert b"s3cret-canary" not in path.read_bytes(), path


def test_a_changed_record_counts_as_absent(kept):
    """A record that does not open is as good as none: the enclave waits, and new secrets take its place."""
    record = kept.instance / "persist/record"
    data = bytearray(record.read_bytes())
    data[len(data) // 2] ^= 1
    record.write_bytes(data)
    kept.start()

    assert (503, b"not serving\n") == kept.ask("GET", "/secret")
    kept.serve()
    assert bytes(data) != record.read_bytes()


def test_without_a_sealing_key_there_is_no_start(kept):
    """A backend without keys/_sgx_mrenclave ends the program: there is no other way to keep secrets."""
    (kept.folder / "sim/keys/_sgx_mrenclave").unlink()
    kept.start(wait=None)

    assert 1 == kept.process.wait(15)
    assert "enclave.persist.keyless" in kept.text()


def test_an_expired_envelope_is_not_restored(enclave):
    """What has expired while the enclave was down needs new secrets."""
    one = enclave(config=make_config(gramine=GRAMINE))
    (one.instance / "persist").mkdir()
    one.start()
    not_after = int(time.time()) + 4
    one.serve(one.envelope(not_after=not_after))
    assert 0 == one.stop()
    (one.instance / "status.json").unlink()
    time.sleep(max(0.0, not_after + 1.1 - time.time()))  # the last second of an envelope is a whole one

    one.start()
    assert "not valid any more" in one.text()


def make_store(folder, *, key=b"k" * 16, package=bytes(32)):
    (folder / "keys").mkdir(exist_ok=True)
    if key is not None:
        (folder / "keys/_sgx_mrenclave").write_bytes(key)
    return Store(str(folder), str(folder), package=package)


RECORD = Record(b"envelope", b"contents")


def test_another_measurement_or_package_reads_nothing(tmp_path):
    """The keys depend on the sealing key, so on MRENCLAVE, and on the package."""
    make_store(tmp_path).save(RECORD)

    assert dataclasses.asdict(RECORD) == dataclasses.asdict(make_store(tmp_path).load())
    assert make_store(tmp_path, key=b"x" * 16).load() is None
    assert make_store(tmp_path, package=b"p" * 32).load() is None
    assert 16 == len((tmp_path / "keys/persist").read_bytes())
    assert (tmp_path / "keys/persist").read_bytes() not in (tmp_path / "record").read_bytes()


@pytest.mark.parametrize("change", ["flip", "truncate", "empty", "remove", "oversize"])
def test_a_record_that_does_not_open_is_none(tmp_path, change):
    """However the host damages the file, there is no record, and a new one can be written."""
    store = make_store(tmp_path)
    store.save(RECORD)
    record = tmp_path / "record"
    data = bytearray(record.read_bytes())
    data[-1] ^= 1
    damaged = {"flip": bytes(data), "truncate": bytes(data[:20]), "empty": b"", "oversize": bytes(5_000_000)}
    record.unlink() if change == "remove" else record.write_bytes(damaged[change])

    assert store.load() is None
    store.save(RECORD)
    assert b"contents" == store.load().contents


def refuse_what_is_there(monkeypatch, path):
    """Let os.open behave as Gramine's encrypted mounts do with a file that does not decrypt: denied, but removable."""
    genuine = os.open

    def guarded(name, *arguments, **keywords):
        if name == str(path) and path.exists() and path.read_bytes() == b"rubbish":
            raise PermissionError(13, "Permission denied")
        return genuine(name, *arguments, **keywords)

    monkeypatch.setattr(os, "open", guarded)


def test_a_file_that_gramine_refuses_is_replaced(tmp_path, monkeypatch):
    """A record that was cut short by a crash must not stand in the way of all later ones."""
    store = make_store(tmp_path)
    (tmp_path / "record").write_bytes(b"rubbish")
    refuse_what_is_there(monkeypatch, tmp_path / "record")

    assert store.load() is None
    store.save(RECORD)
    assert b"contents" == store.load().contents


def test_what_stays_denied_is_an_error(tmp_path, monkeypatch):
    """Only a file is removed and tried again, and only once."""
    store = make_store(tmp_path)
    refuse_what_is_there(monkeypatch, tmp_path / "record")
    (tmp_path / "record").write_bytes(b"rubbish")
    monkeypatch.setattr(os, "unlink", lambda _path: None)
    with pytest.raises(StorageError) as caught:
        store.save(RECORD)

    assert "fs.file.denied" == caught.value.reason
    assert b"rubbish" == (tmp_path / "record").read_bytes()


@pytest.mark.parametrize("key", [None, b"", bytes(16), b"k" * 15, b"k" * 17])
def test_an_unusable_sealing_key_is_refused(tmp_path, key):
    """An absent, empty, zero or odd sealing key is refused."""
    with pytest.raises(StorageError) as caught:
        make_store(tmp_path, key=key)
    assert "enclave.persist.keyless" == caught.value.reason
