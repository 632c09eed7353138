"""docs/why.md holds what `glasscase why` really prints for six causes.

`python -m tests.unit.bundle.test_transcripts > docs/why.md` writes it again.
"""

import dataclasses
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from glasscase.bundle.runtime import RuntimeFiles
from glasscase.gramine.pins import RuntimeFile
from tests.unit.bundle.conftest import Workshop, add_wheel

DOCUMENT = Path(__file__).parents[3] / "docs" / "why.md"
HEAD = """# Why two bundles differ

What `why` does not do: it does not say whether a bundle is sound, or which of two is the right one. It names what differs, causes first,
and keeps what is measured apart from what is not. Below is what it prints for six causes (a byte of the application both in
clear and encrypted), in a small project (that of the tests: the simulator's runtime, two wheels made there); a test builds them
again and compares this page. Exit status 6, because they differ.
"""


def wheel_version(shop):
    """One dependency has another version."""
    shop.wheels[0] = add_wheel(shop.cache, "demo", "2.0", {"demo/__init__.py": b"x = 2\n", "demo/new.py": b"\n"})
    shop.lock()


def thread_count(shop):
    """`max_threads` is 6 instead of 4."""
    shop.edit("max_threads = 4", "max_threads = 6")


def one_byte(shop):
    """One byte of the application, which is in clear."""
    path = shop.project / "src/app/main.py"
    path.write_bytes(path.read_bytes().replace(b"= 1", b"= 2"))


def one_secret_byte(shop):
    """The same byte where the application is encrypted: nothing tells which file it is in."""
    one_byte(shop)


def manifest_option(shop):
    """`dns` is on."""
    shop.edit("[enclave]", "[enclave]\ndns = true")


def runtime(shop):
    """Another Gramine: one byte of its libpal.so."""
    files = dict(shop.runtime.files)
    files["libpal.so"] = files["libpal.so"][:-1] + b"\1"
    rows = tuple(RuntimeFile(path, len(data), hashlib.sha256(data).digest()) for path, data in sorted(files.items()))
    shop.runtime = RuntimeFiles(dataclasses.replace(shop.runtime.pin, version="2", files=rows), files)
    shop.lock()


def size(shop):
    """The enclave has 128 MiB instead of 64."""
    shop.edit('size = "64M"', 'size = "128M"')


CASES = {  # change: how the line of the first cause must begin
    wheel_version: "package     wheel demo  1.0 -> 2.0",
    thread_count: "threads     sgx.max_threads  4 -> 6",
    one_byte: "file        trusted file changed: app/app/main.py",
    one_secret_byte: "application enclave.cbor package: encrypted code or models",
    manifest_option: "option      sys.enable_extra_runtime_domain_names_conf  false -> true",
    runtime: "runtime     Gramine runtime  simulator 1 -> simulator 2",
    size: "size        sgx.enclave_size  64M -> 128M",
}


def transcript(change, root):
    """Return what `why` prints for a change."""
    shop = Workshop(root)
    if change is one_secret_byte:
        shop.edit("encrypt = false", "encrypt = true")
    shop.build("a.bundle")
    change(shop)
    shop.build("b.bundle")
    command = [sys.executable, "-m", "glasscase", "why", "a.bundle", "b.bundle", "--color", "never"]
    environment = os.environ | {"GLASSCASE_DATA": str(root / "data"), "GLASSCASE_CACHE": str(root / "cache")}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 6:
        raise SystemExit(done.stderr)
    return done.stdout


def section(change, text):
    return f"## {change.__name__.replace('_', ' ').capitalize()}\n\n{change.__doc__}\n\n```\n$ glasscase why a.bundle b.bundle\n{text}```\n"


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_transcript(change, tmp_path):
    """The right cause comes first, and the page holds these very lines."""
    text = transcript(change, tmp_path)

    assert CASES[change] in text.splitlines()[1]
    assert section(change, text) in DOCUMENT.read_text(encoding="utf-8")


def page():
    """Return the whole document."""
    parts = [HEAD]
    for change in CASES:
        with tempfile.TemporaryDirectory() as work:
            parts.append(section(change, transcript(change, Path(work))))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
