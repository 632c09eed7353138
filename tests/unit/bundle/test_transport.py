"""Bundles travel as tar and OCI layout and arrive the same; nothing wrong becomes visible."""

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from glasscase.bundle.transport import export_oci, export_tar, import_oci, import_tar
from glasscase.errors import FormatError, UsageError
from glasscase.fs.tar import pack, tree_entries
from glasscase.gramine.pins import known_pins

PINS = known_pins()


def tree(root):
    """Return everything below a directory: path -> (mode, mtime, bytes)."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            found[os.path.relpath(path, root)] = (
                facts.st_mode,
                facts.st_mtime_ns,
                Path(path).read_bytes() if name in files else None,
            )
    return found


@pytest.fixture
def bundle(workshop):
    """Give the path of an encrypted bundle."""
    workshop.edit("encrypt = false", "encrypt = true")
    return workshop.build().path


def test_the_longest_paths_travel(workshop, tmp_path):
    """A path of 1,024 bytes and one of 64 parts, which a bundle may hold, come through the tar with its top directory."""
    inside, part = "rootfs/app/", "a" * 255
    long = f"{part}/{part}/{part}/{'b' * (1024 - len(inside) - 768)}"
    deep = "/".join(["d"] * 62)
    for path in (long, deep):
        file = workshop.project / "src" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    result = workshop.build()
    assert {inside + long, inside + deep} <= {entry.path for entry in result.index.files}
    export_tar(result.path, str(tmp_path / "x.tar"))
    with open(tmp_path / "x.tar", "rb") as file:
        import_tar(file, str(tmp_path / "back.bundle"), runtimes=PINS)

    assert tree(result.path) == tree(tmp_path / "back.bundle")


def test_tar_round_trip(bundle, tmp_path):
    """The tar is the same bytes from any directory, and importing it under another umask gives the same tree."""
    first = export_tar(bundle, str(tmp_path / "one.tar"))
    moved = shutil.move(bundle, tmp_path / "elsewhere")
    second = export_tar(str(moved), str(tmp_path / "two.tar"))
    assert first == second
    assert hashlib.sha256((tmp_path / "one.tar").read_bytes()).digest() == first.digest
    previous = os.umask(0o077)
    try:
        checked = import_tar(
            io.BytesIO((tmp_path / "one.tar").read_bytes()), str(tmp_path / "back.bundle"), runtimes=PINS
        )
    finally:
        os.umask(previous)

    assert first.bundle_id == checked.bundle.id
    assert tree(moved) == tree(tmp_path / "back.bundle")


def test_tar_of_a_changed_bundle_never_appears(bundle, tmp_path):
    """Any changed byte of the content, also of a blob, is refused at import and at export, and no bundle is left."""
    export_tar(bundle, str(tmp_path / "one.tar"))
    data = (tmp_path / "one.tar").read_bytes()
    for needle in (b"# bootstrap", b"glasscase-imports 1", b"\x89GLASS"):
        at = data.rindex(needle) + len(needle) + 200
        at = data.rindex(needle) if data[at : at + 1] == b"\0" else at
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(FormatError):
            import_tar(io.BytesIO(changed), str(tmp_path / "bad.bundle"), runtimes=PINS)
        assert not [name for name in os.listdir(tmp_path) if "bad.bundle" in name]
    (Path(bundle) / "runtime" / "loader").write_bytes(b"x")
    with pytest.raises(FormatError):
        export_tar(bundle, str(tmp_path / "two.tar"))

    assert not (tmp_path / "two.tar").exists()


def test_tar_with_another_name_is_refused(bundle, tmp_path):
    """The top directory carries the bundle's own name."""
    export_tar(bundle, str(tmp_path / "one.tar"))
    data = (tmp_path / "one.tar").read_bytes()
    with pytest.raises(FormatError):
        import_tar(
            io.BytesIO(data.replace(b"shop.bundle/", b"shap.bundle/")), str(tmp_path / "bad.bundle"), runtimes=PINS
        )


def test_existing_bundle_is_not_replaced(bundle, tmp_path):
    """Import does not overwrite."""
    export_tar(bundle, str(tmp_path / "one.tar"))
    with pytest.raises(UsageError) as caught:
        import_tar(io.BytesIO((tmp_path / "one.tar").read_bytes()), bundle, runtimes=PINS)

    assert "fs.output.exists" == caught.value.reason


def test_oci_round_trip(bundle, tmp_path):
    """The config digest of the OCI manifest is the bundle id, there is a layer for each blob, and it all comes back."""
    made = export_oci(bundle, str(tmp_path / "layout"), tag="v1")
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    digest = index["manifests"][0]["digest"]
    manifest = json.loads((tmp_path / "layout" / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text())
    assert f"sha256:{made.digest.hex()}" == digest
    assert f"sha256:{made.bundle_id.hex()}" == manifest["config"]["digest"]
    assert len(manifest["layers"]) == 1 + len(os.listdir(os.path.join(bundle, "blobs")))
    for reference in (None, "v1", digest):
        checked, found = import_oci(
            str(tmp_path / "layout"), str(tmp_path / f"{reference}.bundle"[-40:]), reference=reference, runtimes=PINS
        )
        assert (digest, made.bundle_id) == (found, checked.bundle.id)
        assert tree(bundle) == tree(checked.bundle.path)
    with pytest.raises(UsageError):
        import_oci(str(tmp_path / "layout"), str(tmp_path / "x.bundle"), reference="v2", runtimes=PINS)


def test_a_tag_does_not_pass_for_a_digest(bundle, tmp_path):
    """Who names a digest gets that manifest or nothing, whatever the layout calls another one."""
    export_oci(bundle, str(tmp_path / "layout"), tag="v1")
    path = tmp_path / "layout" / "index.json"
    index = json.loads(path.read_text())
    wanted = "sha256:" + "ab" * 32
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = wanted
    path.write_text(json.dumps(index))
    with pytest.raises(UsageError) as caught:
        import_oci(str(tmp_path / "layout"), str(tmp_path / "x.bundle"), reference=wanted, runtimes=PINS)

    assert "bundle.oci.reference" == caught.value.reason
    assert not (tmp_path / "x.bundle").exists()


def edited(layout, change):
    """Rewrite the manifest of a layout after `change`, with right digests all the way up."""
    index = json.loads((layout / "index.json").read_text())
    row = index["manifests"][0]
    path = layout / "blobs" / "sha256" / row["digest"].removeprefix("sha256:")
    manifest = json.loads(path.read_text())
    change(manifest)
    data = json.dumps(manifest).encode()
    row["digest"], row["size"] = f"sha256:{hashlib.sha256(data).hexdigest()}", len(data)
    (path.parent / row["digest"].removeprefix("sha256:")).write_bytes(data)
    (layout / "index.json").write_text(json.dumps(index))


def below(layer):
    """Return a layer whose file would lie below that of another one."""
    title = "org.opencontainers.image.title"
    return layer | {"annotations": {title: layer["annotations"][title] + "/x"}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m["layers"][1].update(urls=["https://example.org/x"]), "bundle.oci.elsewhere"),
        (lambda m: m["config"].update(urls=["https://example.org/x"]), "bundle.oci.elsewhere"),
        (lambda m: m["layers"][1]["annotations"].update({"org.opencontainers.image.title": "blobs/../../evil"}), "fs.path.refused"),
        (lambda m: m["layers"][1]["annotations"].update({"org.opencontainers.image.title": "rootfs/evil"}), "bundle.oci.malformed"),
        (lambda m: m["layers"].reverse(), "bundle.oci.malformed"),
        (lambda m: m["layers"].pop(), "bundle.file.missing"),
        (lambda m: m["layers"].append(m["layers"][1]), "bundle.oci.malformed"),
        (lambda m: m.update(artifactType="application/other"), "bundle.oci.malformed"),
        (lambda m: m["config"].update(mediaType="application/other"), "bundle.oci.malformed"),
        (lambda m: m["config"].update(m["layers"][1] | {"mediaType": m["config"]["mediaType"]}), "codec.json.malformed"),
        (lambda m: m["layers"][1].update(size=3), "bundle.oci.malformed"),
        (lambda m: m["layers"][1].update(digest="sha256:../../../../etc/passwd"), "bundle.oci.malformed"),
        (lambda m: m["layers"][1].update(digest="sha512:" + "0" * 128), "bundle.oci.malformed"),
        (lambda m: m.update(subject={}), "bundle.oci.malformed"),
        (lambda m: m["layers"].insert(2, below(m["layers"][1])), "bundle.oci.malformed"),
    ],
)  # fmt: skip
def test_wrong_oci_layouts_are_refused(bundle, tmp_path, change, reason):
    """Foreign descriptors, wrong types, order, sizes and paths are refused, and nothing appears."""
    export_oci(bundle, str(tmp_path / "layout"), tag="v1")
    edited(tmp_path / "layout", change)
    with pytest.raises(FormatError) as caught:
        import_oci(str(tmp_path / "layout"), str(tmp_path / "bad.bundle"), reference=None, runtimes=PINS)

    assert reason == caught.value.reason
    assert not [name for name in os.listdir(tmp_path) if "bad.bundle" in name or name == "evil"]


@pytest.mark.parametrize("path", ["blobs", "bundle.json"])
def test_a_layer_that_holds_what_has_a_place_of_its_own_is_refused(bundle, tmp_path, path):
    """Index and blobs come from their own descriptors; a tar that brings them too is no layout of a bundle."""
    layout = tmp_path / "layout"
    export_oci(bundle, str(layout), tag="v1")

    def change(manifest):
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / path).write_bytes(b"x")
        data = b"".join(pack(tree_entries([(path, 0o644, 1)]), str(tmp_path / "tree")))
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(data)
        manifest["layers"][0].update(digest=f"sha256:{digest}", size=len(data))

    edited(layout, change)
    with pytest.raises(FormatError) as caught:
        import_oci(str(layout), str(tmp_path / "bad.bundle"), reference=None, runtimes=PINS)

    assert "bundle.oci.malformed" == caught.value.reason
    assert not (tmp_path / "bad.bundle").exists()


def test_changed_oci_blob_is_refused(bundle, tmp_path):
    """A blob, layer or config with one other byte does not have its digest."""
    export_oci(bundle, str(tmp_path / "layout"), tag="v1")
    for path in sorted((tmp_path / "layout" / "blobs" / "sha256").iterdir()):
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(FormatError):
            import_oci(str(tmp_path / "layout"), str(tmp_path / "bad.bundle"), reference=None, runtimes=PINS)
        path.write_bytes(before)
    assert not (tmp_path / "bad.bundle").exists()


REGISTRY = shutil.which("docker-registry")
SKOPEO = shutil.which("skopeo")


@pytest.mark.skipif(
    not (REGISTRY and SKOPEO), reason="no skopeo or docker-registry here (Debian packages of these names)"
)
def test_round_trip_through_a_registry(bundle, tmp_path):
    """skopeo pushes the layout to a real registry on 127.0.0.1, pulls it elsewhere, and the bundle is the same."""
    made = export_oci(bundle, str(tmp_path / "layout"), tag="v1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {tmp_path / 'store'}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n"
    )
    policy = tmp_path / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    server = subprocess.Popen([REGISTRY, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        name = f"docker://127.0.0.1:{port}/shop:v1"
        base = [SKOPEO, "--policy", str(policy), "copy", "--quiet"]
        subprocess.run(
            [*base, "--dest-tls-verify=false", f"oci:{tmp_path / 'layout'}:v1", name], check=True, timeout=120
        )
        subprocess.run(
            [*base, "--src-tls-verify=false", name, f"oci:{tmp_path / 'pulled'}:v1"], check=True, timeout=120
        )
    finally:
        server.terminate()
        server.wait(timeout=20)
    checked, digest = import_oci(str(tmp_path / "pulled"), str(tmp_path / "back.bundle"), reference="v1", runtimes=PINS)

    assert (made.bundle_id, f"sha256:{made.digest.hex()}") == (checked.bundle.id, digest)
    assert tree(bundle) == tree(tmp_path / "back.bundle")
