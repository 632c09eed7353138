"""Whatever is changed in a bundle, checking it says so, by id."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from glasscase.bundle import derive
from glasscase.bundle.check import check_bundle
from glasscase.bundle.index import BundleIndex, FileEntry
from glasscase.codec import stricttoml
from glasscase.config.enclave import EnclaveConfig
from glasscase.errors import Error, FormatError

CONFIG = "rootfs/opt/glasscase/enclave.cbor"


def ids(path, **options):
    """Return the ids of the problems, or the reason of the error that stopped the check."""
    try:
        return [problem.id for problem in check_bundle(path, **options).problems]
    except Error as error:
        return [error.reason]


def rewrite(bundle, path, content, *, relist=True):
    """Change a file and, if asked, the index with it, as somebody who edits bundles would."""
    target = Path(bundle) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if relist:
        index = BundleIndex.from_bytes((Path(bundle) / "bundle.json").read_bytes())
        entry = FileEntry(path, len(content), "0644", hashlib.sha256(content).digest())
        files = sorted([f for f in index.files if f.path != path] + [entry], key=lambda f: f.path.encode())
        (Path(bundle) / "bundle.json").write_bytes(replace(index, files=tuple(files)).to_bytes())


def edit_index(bundle, **changes):
    """Change fields of the index."""
    path = Path(bundle) / "bundle.json"
    path.write_bytes(replace(BundleIndex.from_bytes(path.read_bytes()), **changes).to_bytes())


@pytest.fixture
def bundle(workshop):
    """Give the path of a sound bundle."""
    return workshop.build().path


def test_changed_file(bundle):
    """One changed byte of any file shows, also where size and name stay."""
    for path in ("rootfs/app/app/main.py", "runtime/loader", "rootfs/opt/glasscase/main.py"):
        before = (Path(bundle) / path).read_bytes()
        (Path(bundle) / path).write_bytes(bytes([before[0] ^ 1]) + before[1:])
        assert ["bundle.file.changed"] == ids(bundle), path
        (Path(bundle) / path).write_bytes(before)
    assert [] == ids(bundle)


@pytest.mark.parametrize("path", [CONFIG, "app.manifest.sgx", "runtime/libpal.so", "bom.cdx.json", "provenance.json"])
def test_changed_file_that_is_parsed(bundle, path):
    """A file that the check itself reads is never parsed with other bytes than the index lists."""
    content = (Path(bundle) / path).read_bytes()
    (Path(bundle) / path).write_bytes(content + b"\n")

    assert ["bundle.file.changed"] == ids(bundle)


def test_missing_extra_and_mode(bundle):
    """A file that is not there, one too many, an empty directory and another mode each have their id."""
    os.chmod(os.path.join(bundle, "runtime/loader"), 0o644)
    assert ["bundle.file.mode"] == ids(bundle)
    os.chmod(os.path.join(bundle, "runtime/loader"), 0o755)
    (Path(bundle) / "rootfs" / "extra.so").write_bytes(b"x")
    assert ["bundle.file.extra"] == ids(bundle)
    (Path(bundle) / "rootfs" / "extra.so").unlink()
    (Path(bundle) / "rootfs" / "empty").mkdir()
    assert ["bundle.file.extra"] == ids(bundle)
    (Path(bundle) / "rootfs" / "empty").rmdir()
    (Path(bundle) / "rootfs/app/app/__init__.py").unlink()
    assert ["bundle.file.missing"] == ids(bundle)


def test_link_in_a_bundle(bundle):
    """A symbolic link in place of a file is refused, wherever it leads."""
    path = Path(bundle) / "rootfs/app/app/main.py"
    path.rename(Path(bundle).parent / "moved.py")
    path.symlink_to(Path(bundle).parent / "moved.py")

    assert "fs.entry.refused" in ids(bundle)


def test_consistently_edited_bundle(bundle):
    """Someone who edits a file and the index with it is caught by the manifest and the SBOM, which follow from both."""
    rewrite(bundle, "rootfs/app/app/main.py", b"evil = 1\n")

    assert ["bundle.file.underived"] * 2 == ids(bundle)


def test_added_module(bundle):
    """An added module shows in the manifest, in the import table and in the SBOM."""
    rewrite(bundle, "rootfs/opt/site/evil.py", b"")

    assert ["bundle.file.underived"] * 3 == ids(bundle)


def test_edited_manifest(bundle):
    """Another manifest text than the writer's is refused even if the index and MRENCLAVE are made to fit."""
    text = (Path(bundle) / "app.manifest.sgx").read_bytes()
    rewrite(bundle, "app.manifest.sgx", text.replace(b'enclave_size = "64M"', b'enclave_size = "128M"'))
    mrenclave = check_bundle(bundle).measurement.mrenclave
    edit_index(bundle, mrenclave=mrenclave, enclave_size=128 << 20)

    assert "bundle.file.underived" in ids(bundle)


def test_insecure_manifest_options(bundle):
    """An option that weakens the enclave is named by the lint, beside the text being another one."""
    text = (Path(bundle) / "app.manifest.sgx").read_bytes()
    rewrite(bundle, "app.manifest.sgx", text.replace(b"[loader]\n", b"[loader]\ninsecure__use_host_env = true\n", 1))
    found = ids(bundle)

    assert "bundle.file.underived" in found
    assert any(problem.startswith("gramine.lint.") for problem in found)


def test_false_claims_of_the_index(bundle):
    """MRENCLAVE, size, name, profile and insecure list of the index are compared with what the bytes give."""
    sound = (Path(bundle) / "bundle.json").read_bytes()
    for change in ({"mrenclave": bytes(32)}, {"enclave_size": 1}, {"name": "other"}, {"insecure": ()}, {"tool": "9"}):
        (Path(bundle) / "bundle.json").write_bytes(sound)
        edit_index(bundle, **change)
        assert "bundle.index.mismatch" in ids(bundle), change
    (Path(bundle) / "bundle.json").write_bytes(sound)
    assert [] == ids(bundle)


def test_hidden_weakening(bundle):
    """An enclave.cbor that does not own up to the simulator and the host's Python is refused."""
    config = EnclaveConfig.from_bytes((Path(bundle) / CONFIG).read_bytes())
    rewrite(bundle, CONFIG, replace(config, insecure=()).to_bytes())

    assert "bundle.insecure.hidden" in ids(bundle)
    assert ("dev-enclave", "host-python", "simulated") == check_bundle(bundle).insecure


def test_the_manifest_is_parsed_once(bundle, monkeypatch):
    """Measuring and looking for weak options read one and the same document; it is most of the text that a check parses."""
    text = (Path(bundle) / "app.manifest.sgx").read_text()
    parsed, loads = [], stricttoml.loads
    monkeypatch.setattr(stricttoml, "loads", lambda given: parsed.append(given) or loads(given))

    assert [] == ids(bundle)
    assert 1 == parsed.count(text)


def test_unknown_runtime(bundle):
    """A libpal.so that no trusted pin has fails, with a reason that names it."""
    assert ["bundle.runtime.unpinned"] == [i for i in ids(bundle, runtimes=()) if i.startswith("bundle.runtime")]
    rewrite(bundle, "runtime/extra", b"x")
    assert "bundle.runtime.unpinned" in ids(bundle)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "path", ["bundle.json", "glasscase.lock", "app.sig", "app.manifest.sgx", CONFIG, "bom.cdx.json"]
)
def test_a_fifo_is_not_waited_for(bundle, path):
    """A FIFO in the place of any file of a bundle is refused at once, with a reason."""
    target = Path(bundle) / path
    target.unlink(missing_ok=True)
    os.mkfifo(target)

    assert "fs.entry.refused" in ids(bundle)


@pytest.mark.parametrize(
    "path",
    [
        "rootfs/etc/ld.so.preload", "rootfs/etc/ld.so.cache", "rootfs/etc/gai.conf", "rootfs/usr/bin/sh", "rootfs/opt/x",
        "rootfs/usr/lib/x86_64-linux-gnu/gconv/gconv-modules", "rootfs/usr/lib/x86_64-linux-gnu/glibc-hwcaps/v3/libz.so.1",
        "rootfs/opt/glasscase/more.py", "rootfs/usr/local/lib/x.so", "instance/instance.json", "x",
    ],
)  # fmt: skip
def test_files_that_have_no_place(bundle, path):
    """A file that the dynamic loader, glibc or Gramine would read, or any other beside the layout, is named."""
    assert "bundle.file.foreign" not in ids(bundle)
    rewrite(bundle, path, b"/opt/site/x.so\n")

    assert "bundle.file.foreign" in ids(bundle)


def test_code_in_clear_has_no_place_in_an_encrypted_bundle(workshop):
    """Without encryption app/ holds the application; with it nothing may be there."""
    workshop.edit("encrypt = false", "encrypt = true")
    bundle = workshop.build().path
    rewrite(bundle, "rootfs/app/x.py", b"")

    assert "bundle.file.foreign" in ids(bundle)


@pytest.mark.parametrize(
    "path", ["glasscase/enclave/bootstrap.py", "glasscase/more.py", "glasscase-0.1.dist-info/METADATA"]
)
def test_a_known_wheel_is_known_by_its_bytes(workshop, monkeypatch, path):
    """That the lock names a published wheel is not enough: the files in rootfs must be those that it gives."""
    own = next(wheel.sha256 for wheel in workshop.wheels if wheel.name == "glasscase")
    bundle = workshop.build().path
    index = BundleIndex.from_bytes((Path(bundle) / "bundle.json").read_bytes())
    monkeypatch.setattr(derive, "KNOWN_OWN_WHEELS", {own: derive.enclave_part(index.files)})
    bundle = workshop.build("known.bundle").path
    assert ("simulated" in check_bundle(bundle).insecure, "dev-enclave" in check_bundle(bundle).insecure) == (
        True,
        False,
    )
    assert [] == ids(bundle)
    rewrite(bundle, f"rootfs/opt/site/{path}", b"# other\n")

    assert "dev-enclave" in check_bundle(bundle).insecure
    assert "bundle.insecure.hidden" in ids(bundle)
    main = workshop.build("main.bundle").path
    rewrite(main, "rootfs/opt/glasscase/main.py", b"# other\n")
    assert "dev-enclave" in check_bundle(main).insecure


def test_a_forged_origin_in_the_sbom(bundle):
    """The bill of materials is written again from the bytes: an origin of nobody's, or of a package not locked, shows."""
    path = Path(bundle) / "bom.cdx.json"
    text = path.read_text()
    moved = text.replace('"bom-ref":"pkg:pypi/demo@1.0"', '"bom-ref":"pkg:deb/debian/demo@1.0"')
    assert moved != text
    rewrite(bundle, "bom.cdx.json", moved.encode())

    assert ["bundle.file.underived"] == ids(bundle)


def test_problems_stop_those_who_require(bundle):
    """require_sound raises the first problem and says how many there are."""
    (Path(bundle) / "x").write_bytes(b"")
    (Path(bundle) / "y").write_bytes(b"")
    with pytest.raises(FormatError) as caught:
        check_bundle(bundle).require_sound()

    assert "bundle.file.extra" == caught.value.reason
    assert "1 more" in caught.value.message


def test_signature_of_another_enclave(bundle, workshop):
    """app.sig must sign this very enclave; the signature itself is checked by SIGSTRUCT's own rules."""
    (Path(bundle) / "app.sig").write_bytes(bytes(1808))
    assert ids(bundle)[0].startswith("sgx.sigstruct.")


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[1]\n", b'{"v":2}\n', os.urandom(64)], ids=range(5))
def test_garbage_index(bundle, content):
    """An index that is none is refused with a reason of its format."""
    (Path(bundle) / "bundle.json").write_bytes(content)
    (reason,) = ids(bundle)

    assert reason in ("codec.json.malformed", "codec.json.noncanonical", "bundle.index.malformed", "format.newer",
                      "codec.version.malformed")  # fmt: skip


def test_index_rules(bundle):
    """Unsorted, repeated, folding or escaping paths and wrong modes cannot stand in an index."""
    index = BundleIndex.from_bytes((Path(bundle) / "bundle.json").read_bytes())
    a, b = FileEntry("a", 0, "0644", bytes(32)), FileEntry("b", 0, "0644", bytes(32))
    wrong = [
        (b, a), (a, a), (replace(a, path="A"), a), (replace(a, path="../a"),), (replace(a, path="/a"),),
        (replace(a, mode="0777"),), (a, replace(a, path="a/b")), (replace(a, path="bundle.json"),),
    ]  # fmt: skip
    for files in wrong:
        with pytest.raises(FormatError):
            replace(index, files=files)
    assert index == BundleIndex.from_bytes(index.to_bytes())
