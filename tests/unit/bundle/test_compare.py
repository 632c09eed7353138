"""`sign BUNDLE`, `measure --explain`, `map` and `why` on bundles that were really built."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from glasscase.measure.drawing import draw_text
from glasscase.measure.mrenclave import measure
from tests.unit.bundle.conftest import add_wheel, simulator_files
from tests.unit.bundle.test_check import rewrite
from tests.unit.gramine.pal import manifest
from tests.unit.sgx.test_sigstruct import key, pem

APP = "rootfs/app/app/main.py"


def glasscase(*arguments, cwd, code=0):
    command = [sys.executable, "-m", "glasscase", *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert code == result.returncode, result.stderr
    return result


def why(workshop, *more, code=6):
    workshop.build("b.bundle")
    result = glasscase("why", "out.bundle", "b.bundle", "--json", *more, cwd=workshop.root, code=code)
    return json.loads(result.stdout)


def first(answer):
    cause = answer["causes"][0]
    return cause["layer"], cause["what"], cause["before"], cause["after"], cause["measured"]


@pytest.fixture
def built(workshop):
    workshop.build("out.bundle")
    return workshop


def test_equal_bundles_have_no_cause(built):
    """The same inputs: exit 0 and nothing to say."""
    answer = why(built, code=0)

    assert (True, []) == (answer["same"], answer["causes"])


def test_a_wheel_version_is_named_first(built):
    """The package, not its hundred files."""
    built.wheels[0] = add_wheel(built.cache, "demo", "2.0", {"demo/__init__.py": b"x = 2\n", "demo/new.py": b"\n"})
    built.lock()
    answer = why(built)

    assert ("package", "wheel demo", "1.0", "2.0", True) == first(answer)
    assert not [cause for cause in answer["causes"] if cause["layer"] == "file"]
    assert answer["mrenclave"][0] != answer["mrenclave"][1]


def test_the_thread_count_is_named_first(built):
    """max_threads, with the pages that it adds."""
    built.edit("max_threads = 4", "max_threads = 6")
    answer = why(built)

    assert ("threads", "sgx.max_threads", "4", "6", True) == first(answer)
    assert "adds 180 measured pages" == answer["causes"][0]["note"]


def test_one_byte_of_the_application_is_named_first(built):
    """The file that was changed, by its path."""
    (built.project / "src/app/main.py").write_bytes(b"SECRET_OF_THE_APP = 2\napp = None\n")
    answer = why(built)

    assert ("file", "trusted file changed: app/app/main.py") == first(answer)[:2]
    assert 1 == len(answer["causes"])
    assert "manifest" == answer["first_page"]["area"]


def test_one_byte_of_an_encrypted_application_is_named_first(workshop):
    """The commitment, and no path or digest of a secret file."""
    workshop.edit("encrypt = false", "encrypt = true")
    workshop.build("out.bundle")
    (workshop.project / "src/app/main.py").write_bytes(b"SECRET_OF_THE_APP = 2\napp = None\n")
    answer = why(workshop)

    assert "application" == first(answer)[0]
    assert {"application"} == {cause["layer"] for cause in answer["causes"]}
    assert answer["causes"][0]["security"]
    assert "main.py" not in json.dumps(answer)


def test_a_manifest_option_is_named_first(built):
    """The key of the manifest, marked as security-relevant."""
    built.edit("[enclave]", "[enclave]\ndns = true")
    answer = why(built)

    assert ("option", "sys.enable_extra_runtime_domain_names_conf", "false", "true", True) == first(answer)
    assert answer["causes"][0]["security"]


def test_the_runtime_is_named_first(built):
    """Another libpal.so is another runtime, whatever else follows."""
    import dataclasses
    import hashlib

    from glasscase.bundle.runtime import RuntimeFiles
    from glasscase.gramine.pins import RuntimeFile

    files = dict(built.runtime.files)
    files["libpal.so"] = files["libpal.so"][:-1] + b"\1"
    rows = tuple(RuntimeFile(path, len(data), hashlib.sha256(data).digest()) for path, data in sorted(files.items()))
    built.runtime = RuntimeFiles(dataclasses.replace(built.runtime.pin, version="2", files=rows), files)
    built.lock()
    answer = why(built)

    assert ("runtime", "Gramine runtime", "simulator 1", "simulator 2", True) == first(answer)
    assert "files that differ: libpal.so" == answer["causes"][0]["note"]


def test_the_size_is_named_first(built):
    """enclave_size before anything that follows from it."""
    built.edit('size = "64M"', 'size = "128M"')
    answer = why(built)

    assert ("size", "sgx.enclave_size", "64M", "128M", True) == first(answer)


def test_what_is_not_measured_is_no_cause_of_mrenclave(built):
    """Two signatures of one enclave: MRENCLAVE is the same, the date and the key differ and are not measured."""
    (built.root / "key.pem").write_bytes(pem(key()))
    built.build("b.bundle")
    glasscase("sign", "out.bundle", "--key", "key.pem", cwd=built.root)
    glasscase("sign", "b.bundle", "--key", "key.pem", "--date", "2026-01-02", cwd=built.root)
    result = glasscase("why", "out.bundle", "b.bundle", "--json", cwd=built.root, code=6)
    answer = json.loads(result.stdout)

    assert answer["mrenclave"][0] == answer["mrenclave"][1]
    assert ("signature", "SIGSTRUCT date", "0000-00-00", "2026-01-02", False) == first(answer)
    assert "MRENCLAVE is the same" in glasscase("why", "out.bundle", "b.bundle", cwd=built.root, code=6).stdout


def test_manifests_and_measurements_are_compared_too(built):
    """Two manifests, a bundle and a memory map, a bundle and 64 digits; a bare manifest and a map cannot be compared."""
    built.edit("max_threads = 4", "max_threads = 5")
    built.build("b.bundle")
    a, b = "out.bundle/app.manifest.sgx", "b.bundle/app.manifest.sgx"
    pal = "out.bundle/runtime/libpal.so"
    causes = json.loads(glasscase("why", a, b, "--json", cwd=built.root, code=6).stdout)["causes"]
    assert ["threads", "file"] == [cause["layer"] for cause in causes]
    answer = json.loads(glasscase("why", a, b, "--libpal", pal, "--json", cwd=built.root, code=6).stdout)
    assert answer["mrenclave"][0] != answer["mrenclave"][1]

    measured = glasscase("measure", "b.bundle", "--json", cwd=built.root).stdout
    (built.root / "map.json").write_text(measured)
    answer = json.loads(glasscase("why", "out.bundle", "map.json", "--json", cwd=built.root, code=6).stdout)
    assert ["threads"] == [cause["layer"] for cause in answer["causes"]]
    glasscase("why", "b.bundle", "map.json", cwd=built.root)
    digits = json.loads(measured)["mrenclave"]
    glasscase("why", "b.bundle", digits, cwd=built.root)
    glasscase("why", "out.bundle", digits, cwd=built.root, code=6)
    glasscase("why", a, "map.json", cwd=built.root, code=1)
    glasscase("why", a, "out.bundle", "--libpal", pal, cwd=built.root)


def test_a_libpal_that_nothing_would_use_is_refused(built):
    """--libpal beside what is no manifest is refused, and the picture is not written; digits have no memory to draw."""
    measured = glasscase("measure", "out.bundle", "--json", cwd=built.root).stdout
    (built.root / "map.json").write_text(measured)
    digits = json.loads(measured)["mrenclave"]
    pal = ("--libpal", "out.bundle/runtime/libpal.so")
    for command in (
        ("why", "out.bundle", "out.bundle", "--html", "new"), ("why", "out.bundle", "map.json"), ("why", digits, "map.json"),
        ("map", "out.bundle", "--svg", "new"), ("map", "map.json"), ("map", "--diff", "out.bundle", "map.json"),
    ):  # fmt: skip
        refused = glasscase(*command, *pal, cwd=built.root, code=1)
        assert "--libpal is for a manifest" in refused.stderr and "Traceback" not in refused.stderr

    assert not (built.root / "new").exists()
    assert "the digits of an MRENCLAVE" in glasscase("map", digits, cwd=built.root, code=1).stderr
    assert "give --libpal PAL too" in glasscase("map", "out.bundle/app.manifest.sgx", cwd=built.root, code=1).stderr
    glasscase("map", "--diff", "out.bundle/app.manifest.sgx", "out.bundle", *pal, cwd=built.root)


def test_why_as_a_page(built):
    """The page holds the causes, escapes everything and has no script."""
    built.edit("[enclave]", '[env]\nX = "<script>alert(1)</script>"\n[enclave]')
    why(built, "--html", "why.html")
    page = (built.root / "why.html").read_text()

    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "<svg" in page


def test_explain_names_every_file(built):
    """Each trusted file has an origin with package and version; all of them are covered."""
    value = json.loads(glasscase("measure", "out.bundle", "--explain", "--json", cwd=built.root).stdout)["explain"]
    origins = {row["path"]: (row["origin"], row["package"], row["version"]) for row in value["files"]}

    assert ("wheel", "demo", "1.0") == origins["rootfs/opt/site/demo/data/text.txt"]
    assert ("app", "", "") == origins[APP]
    assert ("generated", "", "") == origins["rootfs/opt/glasscase/enclave.cbor"]
    assert ("wheel", "glasscase", "0.1") == origins["rootfs/opt/glasscase/main.py"]
    assert ("gramine", "simulator", "1") == origins["runtime/libpal.so"]
    assert ({"files_percent": 100.0, "bytes_percent": 100.0}, []) == (value["coverage"], value["unexplained"])
    assert "100.0 %" in glasscase("measure", "out.bundle", "--explain", cwd=built.root).stdout


def test_a_changed_file_of_a_wheel_is_unexplained(built):
    """A file that RECORD lists with another digest is not put down to its wheel."""
    shutil.copytree(built.root / "out.bundle", built.root / "odd.bundle")
    rewrite(built.root / "odd.bundle", "rootfs/opt/site/demo/data/text.txt", b"other")
    value = json.loads(glasscase("measure", "odd.bundle", "--explain", "--json", cwd=built.root).stdout)["explain"]

    assert ["rootfs/opt/site/demo/data/text.txt"] == value["unexplained"]
    assert value["coverage"]["files_percent"] < 100


def test_map_covers_the_enclave(built):
    """Regions follow each other from top to bottom; the SVG is XML without script."""
    result = glasscase("map", "out.bundle", "--json", "--svg", "map.svg", cwd=built.root)
    value = json.loads(result.stdout)
    regions, need = value["regions"], value["forecast"]
    top = 64 << 20
    for region in regions:
        assert top == region["start"] + region["size"]
        top = region["start"]

    assert 0 == top
    assert need["epc_at_start"] == 4096 + sum(row["size"] for row in regions if row["state"] != "reserved")
    assert need["heap"] == next(row["size"] for row in regions if row["name"] == "free")
    assert {"measured", "added", "reserved"} == {region["state"] for region in regions}
    root = ET.fromstring((built.root / "map.svg").read_bytes())
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    again = glasscase("map", "out.bundle", "--svg", "two.svg", cwd=built.root).stdout
    assert (built.root / "map.svg").read_bytes() == (built.root / "two.svg").read_bytes()
    assert "stack x4" in again


@pytest.mark.parametrize(
    ("size", "edmm", "words"),
    [
        ("64M", False, "up to several seconds"), ("512M", False, "up to several seconds"),
        ("8G", False, "several seconds for each of 8 GiB"), ("64G", True, "less than a second"),
    ],
)  # fmt: skip
def test_start_time_is_an_estimate_with_its_source(size, edmm, words):
    """One line, which follows from the pages that are filled at start, says that it is an estimate and whose."""
    libpal = simulator_files().files["libpal.so"]
    line = draw_text(measure(manifest(enclave_size=size, edmm_enable=edmm), libpal))[-1]

    assert f"estimate, not measured: {words}" in line
    assert "Intel support article 000089477" in line


def test_map_of_two(built):
    """`--diff` marks the regions that differ."""
    built.edit("max_threads = 4", "max_threads = 5")
    built.build("b.bundle")
    text = glasscase("map", "--diff", "out.bundle", "b.bundle", "--svg", "d.svg", cwd=built.root).stdout

    assert [line for line in text.splitlines() if line.startswith("!")]
    assert b"#c0392b" in (built.root / "d.svg").read_bytes()
    glasscase("map", "out.bundle", "b.bundle", cwd=built.root, code=1)
    glasscase("map", "--diff", "out.bundle", cwd=built.root, code=1)


def test_bundles_are_signed_in_place(built):
    """`sign BUNDLE` writes app.sig with mode 0644, leaves the index as it is, and replaces an old signature."""
    (built.root / "key.pem").write_bytes(pem(key()))
    folder = built.root / "out.bundle"
    index = (folder / "bundle.json").read_bytes()
    (folder / "app.sig").write_bytes(b"old")
    result = glasscase("sign", "out.bundle", "--key", "key.pem", "--json", cwd=built.root)

    assert json.loads(index)["mrenclave"] == json.loads(result.stdout)["mrenclave"]
    assert 0o644 == (folder / "app.sig").stat().st_mode & 0o777
    assert 1808 == (folder / "app.sig").stat().st_size
    assert index == (folder / "bundle.json").read_bytes()


@pytest.mark.parametrize("path", [APP, "app.manifest.sgx", "runtime/libpal.so", "bom.cdx.json"])
def test_changed_bundles_are_not_signed(built, path):
    """A bundle with one changed byte is refused, and no app.sig appears."""
    (built.root / "key.pem").write_bytes(pem(key()))
    target = built.root / "out.bundle" / path
    target.write_bytes(target.read_bytes() + b"\n")
    result = glasscase("sign", "out.bundle", "--key", "key.pem", cwd=built.root, code=2)

    assert "bundle.file.changed" in result.stderr
    assert not (built.root / "out.bundle/app.sig").exists()


def test_no_difference_hides_behind_false_claims(built):
    """A manifest, or a libpal.so, that is not what index and lock claim is found and said, whatever the bundle says."""
    built.build("b.bundle")
    manifest = built.root / "b.bundle/app.manifest.sgx"
    text = manifest.read_text()
    start = text.index("sha256", text.index("rootfs/app/app/main.py")) + 10
    manifest.write_text(text[:start] + "00" * 32 + text[start + 64 :])
    result = glasscase("why", "out.bundle", "b.bundle", "--json", cwd=built.root, code=6)
    assert ("file", "trusted file changed: app/app/main.py") == first(json.loads(result.stdout))[:2]
    assert "is not sound" in glasscase("why", "out.bundle", "b.bundle", cwd=built.root, code=6).stderr

    manifest.write_text(text)
    pal = built.root / "b.bundle/runtime/libpal.so"
    pal.write_bytes(pal.read_bytes()[:-1] + b"\1")
    answer = json.loads(glasscase("why", "out.bundle", "b.bundle", "--json", cwd=built.root, code=6).stdout)
    assert "runtime" == answer["causes"][0]["layer"]
    pal.write_bytes((built.root / "out.bundle/runtime/libpal.so").read_bytes())
    manifest.write_text("# a comment\n" + text)
    answer = json.loads(glasscase("why", "out.bundle", "b.bundle", "--json", cwd=built.root, code=6).stdout)
    assert ("content", False) == (answer["causes"][0]["layer"], answer["same"])


def test_manifests_that_only_look_equal_differ(built):
    """A comment is measured: two texts that parse alike are not the same."""
    text = (built.root / "out.bundle/app.manifest.sgx").read_text()
    (built.root / "a").write_text(text)
    (built.root / "b").write_text(text + "# x\n")
    causes = json.loads(glasscase("why", "a", "b", "--json", cwd=built.root, code=6).stdout)["causes"]

    assert ["content"] == [cause["layer"] for cause in causes]
    glasscase("why", "a", "a", cwd=built.root)
