"""Interruption, a full disk and company leave nothing half-made; every flipped bit of a bundle shows."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glasscase.bundle.check import check_bundle
from glasscase.bundle.index import open_bundle
from glasscase.errors import Error
from glasscase.sgx.sigstruct import SigstructBody, sign_sigstruct

HERE = Path(__file__).resolve().parent
BUILD = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("workshop", {conftest!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
workshop = module.Workshop.__new__(module.Workshop)
workshop.root = pathlib.Path({root!r})
workshop.project = workshop.root / "project"
workshop.cache = module.InputCache(workshop.root / "cache" / "inputs")
workshop.runtime = module.simulator_files()
print("ready", flush=True)
{before}
from glasscase.errors import Error
try:
    print(workshop.build("out.bundle", overwrite=True).bundle_id.hex())
except Error as error:
    print(error.reason)
"""


def start(workshop, before="", **options):
    """Start a build in a process of its own."""
    code = BUILD.format(conftest=str(HERE / "conftest.py"), root=str(workshop.root), before=before)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **options)


def test_killed_build_leaves_no_bundle_and_the_next_one_cleans_up(workshop):
    """kill -9 in the middle: no bundle under its name; the same command again removes the rest and gives the same bytes."""
    expected = workshop.build("other.bundle").bundle_id
    hang = "import time, glasscase.bundle.tree as tree; tree.TreeWriter.finish = lambda self: time.sleep(600)"
    process = start(workshop, before=hang)
    assert "ready\n" == process.stdout.readline()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(workshop.root.glob(".part-out.bundle-*/bundle.json")):
        time.sleep(0.01)
    assert list(workshop.root.glob(".part-out.bundle-*/bundle.json"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (workshop.root / "out.bundle").exists()
    again = workshop.build("out.bundle", overwrite=True)

    assert expected == again.bundle_id
    assert not [name for name in os.listdir(workshop.root) if name.startswith(".part-")]


def test_full_disk(workshop):
    """A file that cannot be written ends the build with an I/O error, and nothing is left."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    with start(workshop, preexec_fn=limit) as process:
        output, _ = process.communicate()

    assert ["ready", "fs.file.full"] == output.split()
    assert not [name for name in os.listdir(workshop.root) if "out.bundle" in name]


def test_two_builds_of_one_name_at_once(workshop):
    """Of two builds of one name at the same time one wins; the other wins too, later, or says that the name is taken."""
    builds = [start(workshop), start(workshop)]
    results = [process.communicate()[0].split()[-1] for process in builds]
    made = check_bundle(workshop.root / "out.bundle").require_sound().bundle.id.hex()

    assert made in results
    assert set(results) <= {made, "fs.output.exists"}
    assert not [name for name in os.listdir(workshop.root) if name.startswith(".part-")]


def test_every_flipped_bit_shows(workshop):
    """One flipped bit in any file of an encrypted bundle is found by a full check, wherever it is."""
    workshop.edit("encrypt = false", "encrypt = true")
    bundle = workshop.build().path
    paths = sorted(path for path in Path(bundle).rglob("*") if path.is_file())
    for path in paths:
        before = path.read_bytes()
        for place in sorted({0, len(before) // 2, len(before) - 1}) if before else ():
            path.write_bytes(before[:place] + bytes([before[place] ^ 4]) + before[place + 1 :])
            try:
                problems = check_bundle(bundle, full=True).problems
            except Error:
                continue
            assert problems, f"{path}: byte {place}"
        path.write_bytes(before)
        for content in (before + b"\n", before[:-1]) if before else (b"x",):
            path.write_bytes(content)
            try:
                problems = check_bundle(bundle, full=True).problems
            except Error:
                continue
            assert problems, f"{path}: length"
        path.write_bytes(before)
    assert () == check_bundle(bundle, full=True).problems


def test_signed_bundle(workshop):
    """A bundle that is signed for what it is passes with its signer; signing does not change its id."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    bundle = workshop.build().path
    before = check_bundle(bundle)
    measurement = before.measurement
    key = generate_private_key(3, 3072)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(**changes):
        fields = {
            "mrenclave": measurement.mrenclave, "attributes_flags": measurement.attributes_flags, "xfrm": measurement.xfrm,
            "xfrm_mask": measurement.xfrm_mask, "misc_select": measurement.misc_select, "isv_prod_id": measurement.isv_prod_id,
            "isv_svn": measurement.isv_svn,
        }  # fmt: skip
        signed = sign_sigstruct(SigstructBody(**(fields | changes)), pem)
        Path(bundle, "app.sig").write_bytes(signed.to_bytes())
        return signed

    signed = sign(date="2026-11-24")
    after = check_bundle(bundle).require_sound()
    assert (before.bundle.id, signed.mrsigner) == (after.bundle.id, after.sigstruct.mrsigner)
    wrong = (
        {"mrenclave": bytes(32)},
        {"isv_svn": 2},
        {"attributes_flags": 6},
        {"misc_mask": 0},
        {"flags_mask": 0},
        {"xfrm_mask": 0},
    )
    for changes in wrong:
        sign(**changes)
        checked = check_bundle(bundle)
        assert ["bundle.signature.mismatch"] == [problem.id for problem in checked.problems], changes
        assert checked.sigstruct is None


@pytest.mark.parametrize("path", ["/dev/null", "/nonexistent", "/etc/passwd"])
def test_what_is_no_bundle(path):
    """A device, a missing path and a file are errors."""
    with pytest.raises(Error):
        open_bundle(path)
