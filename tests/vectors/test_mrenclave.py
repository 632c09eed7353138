"""The 17 cases of vectors/mrenclave, through the command line and through the library."""

import base64
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from glasscase.gramine.expand import sgx_manifest
from glasscase.measure.mrenclave import measure
from glasscase.sgx.sigstruct import Sigstruct, SigstructBody, sign_sigstruct
from tests.conftest import shared_directory

GLASSCASE = [sys.executable, "-m", "glasscase"]
REFUSED = {  # case: why; Gramine's signer answers 11 and 14, its loader would build something else
    "11-size-spellings": "gramine.manifest.unloadable",
    "13-too-small": "gramine.enclave.too_small",
    "14-fixed-base": "gramine.pal.unloadable",
}


def case_names():
    shared = shared_directory()
    return sorted(path.parent.name for path in (shared / "vectors/mrenclave").glob("*/vector.json")) if shared else []


class Case:
    """One vector in a directory of its own, with its inputs laid out as README.md of the vectors says."""

    def __init__(self, vectors: Path, name: str, work: Path) -> None:
        self.source = vectors / name
        self.name = name
        self.facts = json.loads((self.source / "vector.json").read_text())
        self.work = work
        self.pal = vectors / self.facts["pal"]
        self.key = vectors / "test-key.pem"
        inputs = self.facts.get("inputs", {"files_base64": {}, "symlinks": {}})
        for path, content in inputs["files_base64"].items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(base64.b64decode(content))
        for path, target in inputs["symlinks"].items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).symlink_to(target)
        shutil.copyfile(self.source / "manifest", work / "manifest")

    def sign(self, *more: str) -> subprocess.CompletedProcess[str]:
        command = [*GLASSCASE, "sign", "--manifest", "manifest", "--libpal", str(self.pal), "--key", str(self.key)]
        command += ["--output", "out.manifest.sgx", "--date", self.facts["date"], "--json"]
        if self.facts["chroot"]:
            command += ["--chroot", self.facts["chroot"]]
        return subprocess.run([*command, *more], cwd=self.work, capture_output=True, text=True, check=False)

    def expected(self, name: str) -> bytes:
        return (self.source / name).read_bytes()


@pytest.fixture
def case(request, shared, tmp_path):
    return Case(shared / "vectors/mrenclave", request.param, tmp_path)


def test_there_are_seventeen_cases(shared):
    """No case of the vectors is left out."""
    names = case_names()

    assert 17 == len(names)
    assert set(names) > set(REFUSED)


@pytest.mark.parametrize("case", [name for name in case_names() if name not in REFUSED], indirect=True)
def test_sign_and_measure_write_the_same_bytes(case):
    """`sign` writes Gramine's bytes, mode 0644 under any umask, and `measure` agrees with it."""
    os.umask(0o077)
    try:
        result = case.sign()
    finally:
        os.umask(0o022)

    assert (0, "") == (result.returncode, result.stderr if case.name != "03-debug-one-thread" else "")
    assert case.expected("manifest.sgx") == (case.work / "out.manifest.sgx").read_bytes()
    assert case.expected("manifest.sig") == (case.work / "out.sig").read_bytes()
    assert 0o644 == stat.S_IMODE((case.work / "out.manifest.sgx").stat().st_mode)
    assert 0o644 == stat.S_IMODE((case.work / "out.sig").stat().st_mode)
    signed = json.loads(result.stdout)
    fields = case.facts["sigstruct"]
    assert case.facts["mrenclave"] == signed["mrenclave"]
    assert case.facts["mrsigner"] == signed["mrsigner"]
    assert (fields["isv_prod_id"], fields["isv_svn"]) == (signed["isv_prod_id"], signed["isv_svn"])
    assert (fields["attribute_flags"], fields["attribute_xfrms"]) == (signed["attributes"], signed["xfrm"])
    assert case.facts["date"] == signed["date"]

    command = [*GLASSCASE, "measure", "--manifest", "out.manifest.sgx", "--libpal", str(case.pal), "--json"]
    measured = subprocess.run(command, cwd=case.work, capture_output=True, text=True, check=True)
    assert case.facts["mrenclave"] == json.loads(measured.stdout)["mrenclave"]


@pytest.mark.parametrize("case", list(REFUSED), indirect=True)
def test_cases_that_cannot_run_are_refused(case):
    """What Gramine's loader would not run is refused with a reason, and nothing is written."""
    before = sorted(case.work.iterdir())
    result = case.sign()

    assert 2 == result.returncode
    assert REFUSED[case.name] in result.stderr
    assert "Traceback" not in result.stderr
    assert before == sorted(case.work.iterdir())
    command = [*GLASSCASE, "measure", "--manifest", str(case.source / "manifest.sgx"), "--libpal", str(case.pal)]
    measured = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (2, "") == (measured.returncode, measured.stdout)
    assert REFUSED[case.name] in measured.stderr


@pytest.mark.parametrize("case", [name for name in case_names() if name not in REFUSED], indirect=True)
def test_library_gives_the_same(case):
    """The functions below the command line give the bytes of the vectors, from manifest and from manifest.sgx."""
    chroot = case.work / case.facts["chroot"] if case.facts["chroot"] else None
    text = sgx_manifest(case.expected("manifest"), directory=case.work, chroot=chroot)
    measurement = measure(text, case.pal.read_bytes())
    body = SigstructBody(
        mrenclave=measurement.mrenclave,
        attributes_flags=measurement.attributes_flags,
        xfrm=measurement.xfrm,
        xfrm_mask=measurement.xfrm_mask,
        misc_select=measurement.misc_select,
        isv_prod_id=measurement.isv_prod_id,
        isv_svn=measurement.isv_svn,
        date=case.facts["date"],
    )
    sigstruct = sign_sigstruct(body, case.key.read_bytes())

    assert case.expected("manifest.sgx") == text
    assert text == sgx_manifest(text, directory=case.work, chroot=chroot)
    assert case.facts["sha256"]["manifest.sgx"] == hashlib.sha256(text).hexdigest()
    assert case.facts["mrenclave"] == measurement.mrenclave.hex()
    assert case.expected("manifest.sig") == sigstruct.to_bytes()
    assert sigstruct == Sigstruct.from_bytes(case.expected("manifest.sig"))
    assert case.facts["sigstruct"]["attribute_xfrm_mask"] == sigstruct.xfrm_mask
    assert case.facts["sigstruct"]["misc_select"] == sigstruct.misc_select
    assert case.facts["sigstruct"]["misc_mask"] == sigstruct.misc_mask


def test_the_date_is_0000_00_00_unless_given(shared, tmp_path):
    """Two signatures on different days are the same bytes."""
    case = Case(shared / "vectors/mrenclave", "16-entrypoint-hashed", tmp_path)
    command = [*GLASSCASE, "sign", "-m", "manifest", "-l", str(case.pal), "-k", str(case.key), "-o", "manifest.sgx"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)

    assert case.expected("manifest.sig") == (tmp_path / "manifest.sig").read_bytes()
