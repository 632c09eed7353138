"""The example of docs/stream-format.md is what the code makes and what the independent reader reads."""

import hashlib
import re
from pathlib import Path

from glasscase.core.chunks import BlobSeal, Key, content_digest
from glasscase.seal.package import Source, build_package
from tests.oracle import stream_oracle

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "stream-format.md"
KEY = bytes(range(32))
CONTENT = b"glass" * 4000


def test_example(tmp_path):
    """Every value of the example, the bytes of blob and manifest included."""
    stated = dict(re.findall(r"^    ([a-z ]+?) += ([0-9a-f]+)$", DOCUMENT.read_text(), re.MULTILINE))
    package = build_package([Source("app/glass.txt", CONTENT)], key=KEY, out_dir=tmp_path)
    digest = content_digest(CONTENT)
    seal = BlobSeal(Key(KEY), digest, len(CONTENT))
    blob, manifest = seal.encrypt(CONTENT), (tmp_path / "manifest").read_bytes()

    assert {
        "key id": Key(KEY).id.hex(), "digest": digest.hex(), "blob key": seal.names.key.hex(),
        "blob id": seal.names.id.hex(), "blob header": bytes(blob[:128]).hex(),
        "blob file hash": hashlib.sha256(blob).hexdigest(), "package digest": package.digest.hex(),
        "package id": package.header[16:32].hex(), "opening": package.opening.hex(),
        "code commitment": package.commitment.hex(), "manifest header": package.header.hex(),
        "manifest file hash": hashlib.sha256(manifest).hexdigest(),
    } == stated  # fmt: skip
    assert ({"app/glass.txt": CONTENT}, package.commitment) == stream_oracle.package(tmp_path, KEY)
