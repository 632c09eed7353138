"""Packages: the same bytes for the same content; and a holder of the key cannot pass off other content."""

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import cbor2
import pytest

from glasscase.codec import cbor
from glasscase.core import chunks
from glasscase.core.chunks import CHUNK_SIZE, HEADER_SIZE, Key
from glasscase.errors import Error, FormatError, UsageError
from glasscase.seal import manifest as form
from glasscase.seal.files import open_package
from glasscase.seal.package import Source, build_package, digest_sources, source_of, sources_of
from tests.oracle import stream_oracle

KEY = bytes(range(32))
MODEL_KEY = bytes(range(100, 132))
FILES = {
    "app/main.py": b"print('hello')\n", "app/empty.txt": b"", "app/lib/util.py": b"x = 1\n" * 4000,
    "app/lib-extra/same.py": b"print('hello')\n", "models/llm/weights.bin": bytes(range(256)) * 9000,
    "models/llm/config.json": b"{}",
}  # fmt: skip


def sources(files=None, *, model_key=None):
    found = []
    for path, data in (FILES if files is None else files).items():
        lazy = path.startswith("models/")
        found.append(
            Source(path, data, 0o755 if path.endswith("main.py") else 0o644, lazy, model_key if lazy else None)
        )
    return found


def build(folder, items=None, **options):
    Path(folder).mkdir(parents=True)
    return build_package(sources() if items is None else items, key=KEY, out_dir=folder, **options)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "package"
    return folder, build(folder)


@pytest.fixture
def copy(built, tmp_path):
    """Return a copy of the package that a test may damage, and what it is."""
    shutil.copytree(built[0], tmp_path / "package")
    return tmp_path / "package", built[1]


def reason_of(call, *args, **kwargs):
    with pytest.raises(Error) as caught:
        call(*args, **kwargs)
    return caught.value.reason


def opened(folder, package, **options):
    return open_package(folder, key=KEY, header=package.header, commitment=package.commitment, **options)


def blob_of(package, path):
    return next(entry for entry in package.entries if entry.path == path)


def test_round_trip(built, tmp_path):
    """Everything that went in comes out, read whole, lazily and unpacked, with modes and empty directories."""
    folder, package = built
    box = opened(folder, package)
    box.verify(threads=2)
    count = box.unpack(tmp_path, threads=2)

    assert tree(tmp_path) == FILES
    assert len(FILES) == count
    assert FILES["app/lib/util.py"] == box.read("app/lib/util.py")
    assert 0o755 == (tmp_path / "app/main.py").stat().st_mode & 0o777
    assert 0o644 == (tmp_path / "app/empty.txt").stat().st_mode & 0o777
    with box.open("models/llm/weights.bin") as reader:
        assert FILES["models/llm/weights.bin"] == reader.readall()
    assert "package.entry.eager" == reason_of(box.open, "app/main.py")
    assert "package.path.unknown" == reason_of(box.open, "app/nothing")
    assert package.digest == digest_sources(sources())


def test_the_oracle_agrees(tmp_path):
    """An independent reader, which derives everything itself, gets the same files and commitment."""
    package = build(tmp_path / "p", sources(model_key=Key(MODEL_KEY)))
    files, commitment = stream_oracle.package(tmp_path / "p", KEY, (MODEL_KEY,))

    assert FILES == files
    assert package.commitment == commitment


def test_same_bytes(tmp_path, monkeypatch):
    """Order, place, time, threads and way of the input change no byte; one byte of content changes the commitment."""
    first = build(tmp_path / "a")
    second = build(tmp_path / "b" / "deep", list(reversed(sources())), threads=1, durable=False)
    for path, data in FILES.items():
        target = tmp_path / "src" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o700 if path.endswith("main.py") else 0o600)
        os.utime(target, (1, 1))
    walked = [
        dataclasses.replace(
            source, lazy=source.lazy or (source.path.startswith("models/") and source.content is not None)
        )
        for source in sources_of(tmp_path / "src")
    ]
    third = build(tmp_path / "c", walked)

    assert first.header == second.header == third.header
    assert tree(tmp_path / "a") == tree(tmp_path / "b" / "deep") == tree(tmp_path / "c")
    assert first.commitment != build(tmp_path / "d", sources({**FILES, "app/main.py": b"print('hellO')\n"})).commitment


def test_large_file_same_bytes(tmp_path):
    """A file above 8 MiB, which is read twice by all threads, gives the same blob and leaves as the same bytes at once."""
    data = os.urandom(1 << 20) * 9 + b"tail"
    (tmp_path / "big").write_bytes(data)
    once = build(tmp_path / "a", [Source("big", data, lazy=True)])
    twice = build(tmp_path / "b", [source_of(tmp_path / "big", "big", lazy=True)], threads=3)

    assert once == twice
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    for threads in (1, 2, 4, 5, 6, 7, 8):
        again = build(tmp_path / str(threads), [source_of(tmp_path / "big", "big", lazy=True)], threads=threads)
        assert (once, tree(tmp_path / "a")) == (again, tree(tmp_path / str(threads)))
    with opened(tmp_path / "b", twice).open("big", threads=2) as reader:
        assert data == reader.readall()


def test_one_content_is_one_blob(built):
    """The same content under two paths is stored once, and a model's blob is the same file in another release."""
    folder, package = built
    assert blob_of(package, "app/main.py").blob == blob_of(package, "app/lib-extra/same.py").blob
    assert len(package.blobs) + 1 == len(list(folder.iterdir()))


def test_model_key_of_its_own(tmp_path):
    """A model with an own key has the same blob in packages of other keys, and needs its key to open."""
    package = build(tmp_path / "a", sources(model_key=Key(MODEL_KEY)))
    (tmp_path / "b").mkdir()
    other = build_package(sources(model_key=Key(MODEL_KEY)), key=b"o" * 32, out_dir=tmp_path / "b")

    assert blob_of(package, "models/llm/weights.bin") == blob_of(other, "models/llm/weights.bin")
    assert blob_of(package, "app/main.py").blob != blob_of(other, "app/main.py").blob
    assert "package.key.missing" == reason_of(opened, tmp_path / "a", package)
    assert "package.key.missing" == reason_of(opened, tmp_path / "a", package, model_keys=[b"w" * 32])
    assert "package.key.missing" == reason_of(
        opened, tmp_path / "a", package, model_keys={Key(MODEL_KEY).id: b"w" * 32}
    )
    with opened(tmp_path / "a", package, model_keys=[MODEL_KEY]).open("models/llm/weights.bin") as reader:
        assert FILES["models/llm/weights.bin"] == reader.readall()


def test_the_package_key_named_for_a_model_is_no_key_of_its_own(tmp_path):
    """The package is the same as without it: nobody has to hand over one key under two names."""
    named = build(tmp_path / "a", sources(model_key=Key(KEY)))

    assert (build(tmp_path / "b"), tree(tmp_path / "b")) == (named, tree(tmp_path / "a"))
    assert {None} == {entry.root for entry in named.entries}


def test_no_digest_and_no_path_in_clear(built):
    """Nothing that the operator gets holds a path, a digest or a leaf of the plaintext."""
    folder, package = built
    seen = b"".join(path.read_bytes() + path.name.encode() for path in folder.iterdir())
    for entry in package.entries:
        assert entry.path.encode() not in seen
        if not entry.directory:
            plain = FILES[entry.path]
            for digest in (entry.digest, hashlib.sha256(plain).digest(), hashlib.sha256(plain[:CHUNK_SIZE]).digest()):
                assert digest not in seen
                assert digest.hex().encode() not in seen
    for secret in (KEY, package.opening, package.digest):
        assert secret not in seen


@pytest.mark.rule("package.key")
def test_wrong_key(built):
    """Another key is named as such, before anything is decrypted."""
    folder, package = built
    assert "stream.key.wrong" == reason_of(
        open_package, folder, key=b"w" * 32, header=package.header, commitment=package.commitment
    )


@pytest.mark.rule("package.commitment.mismatch")
def test_another_release(built, tmp_path):
    """A true package of the same key, but not the measured one, is refused: rollback and roll forward."""
    _, package = built
    build(tmp_path / "old", sources({"app/main.py": b"old"}))

    assert "stream.header.differs" == reason_of(opened, tmp_path / "old", package)
    assert "package.commitment.mismatch" == reason_of(
        open_package, tmp_path / "old", key=KEY, commitment=package.commitment
    )


class TestHost:
    """The host, without the key, changes files."""

    def test_swap(self, copy):
        """Two blobs that change places are refused at use."""
        folder, package = copy
        first = folder / blob_of(package, "app/main.py").blob.hex()
        second = folder / blob_of(package, "app/lib/util.py").blob.hex()
        data = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(data)
        box = opened(folder, package)
        assert "package.blob.swapped" == reason_of(box.read, "app/main.py")
        assert "package.blob.swapped" == reason_of(box.verify)

    def test_delete_rename_add(self, copy):
        """A missing blob, a renamed one and a file too many have their own reasons."""
        folder, package = copy
        blob = folder / blob_of(package, "app/main.py").blob.hex()
        data = blob.read_bytes()
        blob.unlink()
        assert "package.blob.missing" == reason_of(opened, folder, package)
        (folder / ("0" * 32)).write_bytes(data)
        assert "package.blob.renamed" == reason_of(opened, folder, package)
        (folder / ("0" * 32)).write_bytes(data[:100])
        assert "package.blob.extra" == reason_of(opened, folder, package)
        (folder / ("0" * 32)).unlink()
        leaves = folder / blob_of(package, "models/llm/weights.bin").leaves.blob.hex()
        leaves.rename(folder / "l")
        assert "package.blob.renamed" == reason_of(opened, folder, package)
        (folder / "l").rename(leaves)
        os.mkfifo(folder / "fifo")
        assert "package.blob.extra" == reason_of(opened, folder, package)
        (folder / "fifo").unlink()
        blob.write_bytes(data)
        (folder / ".hidden").touch()
        assert "package.blob.extra" == reason_of(opened, folder, package)
        (folder / ".hidden").unlink()
        (folder / "manifest").unlink()
        assert "package.manifest.missing" == reason_of(opened, folder, package)

    def test_deleted_after_open(self, copy):
        """A blob that goes away later is missing, not empty."""
        folder, package = copy
        box = opened(folder, package)
        (folder / blob_of(package, "app/main.py").blob.hex()).unlink()
        assert "package.blob.missing" == reason_of(box.read, "app/main.py")

    @pytest.mark.parametrize("part", ["body", "header", "cut", "longer"])
    @pytest.mark.parametrize("path", ["app/lib/util.py", "models/llm/weights.bin"])
    def test_damage(self, copy, part, path, tmp_path):
        """A damaged blob gives no file, whatever is damaged, and what was unpacked before stays whole."""
        folder, package = copy
        blob = folder / blob_of(package, path).blob.hex()
        data = bytearray(blob.read_bytes())
        if part == "body":
            data[-20] ^= 1
        elif part == "header":
            data[100] ^= 1
        elif part == "cut":
            del data[-1:]
        else:
            data += b"x"
        blob.write_bytes(data)
        target = tmp_path / "t"
        target.mkdir()
        reason = reason_of(opened(folder, package).unpack, target)
        assert reason in ("stream.chunk.unauthentic", "package.blob.swapped", "stream.length.truncated",
                          "stream.length.trailing")  # fmt: skip
        assert not (target / path).exists()
        assert all(FILES[name] == content for name, content in tree(target).items())

    def test_a_blob_as_manifest(self, copy):
        """A blob in place of the manifest is of the wrong kind."""
        folder, package = copy
        entry = blob_of(package, "app/main.py")
        data = (folder / entry.blob.hex()).read_bytes()
        (folder / "manifest").write_bytes(data)
        assert "stream.header.differs" == reason_of(opened, folder, package)
        assert "stream.kind.wrong" == reason_of(open_package, folder, key=entry.key)

    def test_a_manifest_without_end(self, copy):
        """A manifest longer than the largest one is refused by its length."""
        folder, package = copy
        os.truncate(folder / "manifest", chunks.sealed_size(form.MANIFEST_MAX) + 1)
        assert "package.manifest.oversize" == reason_of(opened, folder, package)

    def test_a_manifest_as_blob(self, copy):
        """The manifest in place of a blob, and the header of a blob before the chunks of another, give nothing."""
        folder, package = copy
        entry, other = blob_of(package, "app/main.py"), blob_of(package, "app/lib/util.py")
        path = folder / entry.blob.hex()
        path.write_bytes((folder / "manifest").read_bytes())
        assert "package.blob.swapped" == reason_of(opened(folder, package).read, "app/main.py")
        path.write_bytes(entry.header + (folder / other.blob.hex()).read_bytes()[HEADER_SIZE:][: entry.size + 16])
        assert "stream.chunk.unauthentic" == reason_of(opened(folder, package).read, "app/main.py")

    def test_a_link_to_another_blob(self, copy):
        """A symbolic link is followed, and what it leads to is judged like a file: another blob is refused."""
        folder, package = copy
        path = folder / blob_of(package, "app/main.py").blob.hex()
        path.rename(folder.parent / "kept")
        path.symlink_to(folder / blob_of(package, "app/lib/util.py").blob.hex())
        assert "package.blob.swapped" == reason_of(opened(folder, package).read, "app/main.py")
        path.unlink()
        path.symlink_to(folder.parent / "kept")
        assert FILES["app/main.py"] == opened(folder, package).read("app/main.py")
        path.unlink()
        path.symlink_to("/dev/zero")
        assert "package.blob.missing" == reason_of(opened(folder, package).read, "app/main.py")

    def test_parts_are_no_files(self, copy, tmp_path):
        """Blobs and manifests are not decrypted as single files."""
        from glasscase.core import stream

        folder, package = copy
        entry = blob_of(package, "app/main.py")
        blob = folder / entry.blob.hex()
        assert "stream.kind.wrong" == reason_of(stream.decrypt_file, folder / "manifest", tmp_path / "x", key=KEY)
        assert "stream.kind.wrong" == reason_of(stream.decrypt_file, blob, tmp_path / "x", key=entry.key)
        assert "stream.kind.wrong" == reason_of(stream.open_encrypted, blob, key=entry.key)
        assert "stream.kind.wrong" == reason_of(stream.Decryptor(entry.key).update, blob.read_bytes())
        with blob.open("rb") as file, (tmp_path / "y").open("wb") as target:
            assert "stream.kind.wrong" == reason_of(stream.decrypt_pipe, file.fileno(), target.fileno(), key=entry.key)
        assert 0 == (tmp_path / "y").stat().st_size
        assert not (tmp_path / "x").exists()

    def test_a_fifo_is_not_waited_for(self, copy):
        """A pipe in place of a blob or manifest is refused at once."""
        folder, package = copy
        blob = folder / blob_of(package, "app/main.py").blob.hex()
        blob.unlink()
        os.mkfifo(blob)
        assert "package.blob.missing" == reason_of(opened(folder, package).read, "app/main.py")


class Holder:
    """An adversary with the package key: makes files under headers that others have measured, with own code."""

    def __init__(self, key):
        self.key = key

    def seal(self, header, plain, context=b""):
        """Encrypt any content under a given header; this is what the header alone does not prevent."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        info = stream_oracle.LABEL + header[72:96] + b"glasscase/v1\0" + header[:72] + len(context).to_bytes(4, "big")
        secret = stream_oracle.expand(self.key, info + context, 76)
        assert secret[44:] == header[96:]
        gcm, nonce = AESGCM(secret[:32]), int.from_bytes(secret[32:44], "big")
        parts = []
        for number, at in enumerate(range(0, len(plain) + 1, CHUNK_SIZE)):
            parts.append(gcm.encrypt((nonce ^ number).to_bytes(12, "big"), plain[at : at + CHUNK_SIZE], None))
        return header + b"".join(parts)

    def manifest(self, entries, *, package_id=None):
        """A manifest of any CBOR, with a header derived as it must be."""
        value = {"v": 1, "pkg": package_id, "entries": entries}
        stated = [{k: e[k] for k in ("p", "t", "m", "s", "d") if k in e} for e in entries]
        digest = hashlib.sha256(b"glasscase/v1/package\0" + cbor2.dumps(stated, canonical=True)).digest()
        if package_id is None:
            value["pkg"] = chunks.package_id(Key(self.key), digest)
        plain = cbor2.dumps(value, canonical=True)
        return self.raw(plain, digest)

    def raw(self, plain, digest=bytes(32)):
        return chunks.encrypt_manifest(
            plain, Key(self.key), package_digest=digest, digest=hashlib.sha256(plain).digest()
        )


def entries_of(folder):
    return cbor2.loads(stream_oracle.ours(KEY, (folder / "manifest").read_bytes()))["entries"]


@pytest.mark.rule("package.manifest.substituted")
class TestKeyHolder:
    """A holder of the package key, for example a former provider."""

    def test_second_manifest_under_the_same_header(self, copy):
        """Other code under the measured header: refused, because the header derives from the manifest."""
        folder, package = copy
        entries = entries_of(folder)
        evil = Source("app/main.py", b"import evil\n")
        scratch = folder.parent / "evil"
        other = build(scratch, [evil])
        new = blob_of(other, "app/main.py").fields()
        changed = [new | {"m": e["m"]} if e["p"] == "app/main.py" else e for e in entries]
        plain = cbor2.dumps({"v": 1, "pkg": package.header[16:32], "entries": changed}, canonical=True)
        size = len(stream_oracle.ours(KEY, (folder / "manifest").read_bytes()))
        assert len(plain) == size  # a header states the size, so the attacker keeps it
        (folder / "manifest").write_bytes(Holder(KEY).seal(package.header, plain))
        shutil.copy(scratch / new["b"].hex(), folder)

        assert "package.manifest.substituted" == reason_of(opened, folder, package)

    def test_other_content_under_the_same_blob_header(self, copy, tmp_path):
        """Other content of the same size under a blob's header: authentic for AEAD, refused by the digest."""
        folder, package = copy
        entry = blob_of(package, "app/main.py")
        evil = Holder(entry.key).seal(entry.header, b"import evil    "[: entry.size])
        (folder / entry.blob.hex()).write_bytes(evil)
        box = opened(folder, package)
        target = tmp_path / "t"
        target.mkdir()
        assert "package.content.mismatch" == reason_of(box.read, "app/main.py")
        assert "package.content.mismatch" == reason_of(box.unpack, target)
        assert not (target / "app/main.py").exists()
        assert "package.content.mismatch" == reason_of(box.verify)

    def test_other_content_of_a_large_file(self, tmp_path):
        """The same above 8 MiB, where a file is decrypted in pieces by threads; and another blob in its place."""
        data, folder, target = bytes(9 << 20), tmp_path / "p", tmp_path / "t"
        package = build(folder, [Source("big", data), Source("other", data[1:])])
        entry, other = blob_of(package, "big"), blob_of(package, "other")
        target.mkdir()
        (folder / entry.blob.hex()).write_bytes(Holder(entry.key).seal(entry.header, data[:-1] + b"x"))
        box = opened(folder, package)
        assert "package.content.mismatch" == reason_of(box.unpack, target, threads=2)
        assert "package.content.mismatch" == reason_of(box.verify)
        shutil.copy(folder / other.blob.hex(), folder / entry.blob.hex())
        assert "package.blob.swapped" == reason_of(opened(folder, package).unpack, target)

        assert [] == list(target.iterdir())

    def test_other_content_of_a_lazy_file(self, copy):
        """The same for a lazily read model: the chunk with other content is refused at the read, the others are not."""
        folder, package = copy
        entry = blob_of(package, "models/llm/weights.bin")
        data = bytearray(FILES["models/llm/weights.bin"])
        data[5 * CHUNK_SIZE + 1] ^= 1
        (folder / entry.blob.hex()).write_bytes(Holder(entry.key).seal(entry.header, bytes(data)))
        with opened(folder, package).open("models/llm/weights.bin") as reader:
            assert FILES["models/llm/weights.bin"][: 2 * CHUNK_SIZE] == reader.pread(2 * CHUNK_SIZE, 0)
            assert "stream.leaf.mismatch" == reason_of(reader.pread, 10, 5 * CHUNK_SIZE)
            assert "stream.leaf.mismatch" == reason_of(reader.pread, 10, 0)

    def test_other_bytes_the_second_time(self, copy):
        """A chunk that was right once and has been read is checked again when it is read again from the disk."""
        folder, package = copy
        entry = blob_of(package, "models/llm/weights.bin")
        path = folder / entry.blob.hex()
        with opened(folder, package).open("models/llm/weights.bin") as reader:
            buffer = bytearray(10 * CHUNK_SIZE)
            reader.pread_into(buffer, 0)
            data = bytearray(FILES["models/llm/weights.bin"])
            data[1] ^= 1
            with path.open("r+b") as file:
                file.write(Holder(entry.key).seal(entry.header, bytes(data)))
            assert "stream.leaf.mismatch" == reason_of(reader.pread_into, buffer, 0)
            assert bytes(len(buffer)) == bytes(buffer)

    def test_false_leaf_list(self, copy):
        """A leaf list with other leaves under the true header does not hash to the content's digest."""
        folder, package = copy
        names = blob_of(package, "models/llm/weights.bin").leaves
        leaves = bytearray(stream_oracle.ours(names.key, (folder / names.blob.hex()).read_bytes()))
        leaves[40] ^= 1
        (folder / names.blob.hex()).write_bytes(Holder(names.key).seal(names.header, bytes(leaves)))
        assert "stream.leaf.mismatch" == reason_of(opened(folder, package).open, "models/llm/weights.bin")

    @pytest.mark.parametrize(
        ("field", "reason"),
        [("k", "package.blob.underived"), ("b", "package.blob.underived"), ("h", "package.blob.underived"),
         ("d", "package.blob.underived"), ("s", "package.blob.underived")],
    )  # fmt: skip
    def test_underived_names(self, copy, field, reason):
        """A key, name, header, digest or size that does not belong to the others is refused although all is signed for."""
        folder, _ = copy
        entries = entries_of(folder)
        entry = next(e for e in entries if e["p"] == "app/lib/util.py")
        value = entry[field]
        entry[field] = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
        (folder / "manifest").write_bytes(Holder(KEY).manifest(entries))
        assert reason == reason_of(open_package, folder, key=KEY)

    def test_underived_leaf_list(self, copy):
        """The same for the names of a leaf list, and for a list that is left away."""
        folder, _ = copy
        entries = entries_of(folder)
        lazy = next(e for e in entries if e["p"] == "models/llm/weights.bin")
        kept = lazy["l"]
        lazy["l"] = kept | {"k": bytes(32)}
        (folder / "manifest").write_bytes(Holder(KEY).manifest(entries))
        assert "package.blob.underived" == reason_of(open_package, folder, key=KEY)
        del lazy["l"]
        (folder / "manifest").write_bytes(Holder(KEY).manifest(entries))
        assert "package.leaves.missing" == reason_of(open_package, folder, key=KEY)

    def test_package_id(self, copy):
        """A manifest that carries another package id than it derives."""
        folder, _ = copy
        (folder / "manifest").write_bytes(Holder(KEY).manifest(entries_of(folder), package_id=bytes(16)))
        assert "package.id.mismatch" == reason_of(open_package, folder, key=KEY)

    def test_manifest_forms(self, copy):
        """Unsorted, repeated, orphaned, non-canonical, unknown, missing: each is refused for its reason."""
        folder, _ = copy
        entries = entries_of(folder)  # the last is read lazily and has a leaf list
        holder = Holder(KEY)
        plain = {"v": 1, "pkg": bytes(16), "entries": entries}
        canonical = cbor2.dumps(plain, canonical=True)
        swapped = [entries[1], entries[0], *entries[2:]]
        cases = [
            (holder.manifest(swapped), {"package.path.orphan", "package.manifest.disordered"}),
            (holder.manifest([entries[0], entries[0], *entries[1:]]), {"package.manifest.disordered"}),
            (holder.manifest(entries[1:]), {"package.path.orphan"}),
            (holder.manifest([{**entries[0], "x": 1}, *entries[1:]]), {"package.manifest.malformed"}),
            (holder.manifest([{**entries[0], "m": 0o777}, *entries[1:]]), {"package.manifest.malformed"}),
            (holder.manifest([{**entries[0], "t": "l"}, *entries[1:]]), {"package.manifest.malformed"}),
            (
                holder.manifest([{**e, "t": "x"} if e["p"] == "app/main.py" else e for e in entries]),
                {"package.manifest.malformed"},
            ),
            (holder.manifest([*entries[:-1], {**entries[-1], "t": "f"}]), {"package.manifest.malformed"}),
            (holder.manifest([*entries[:-1], {**entries[-1], "s": 2**44 + 1}]), {"package.manifest.malformed"}),
            (holder.manifest([{**entries[0], "p": "../app"}, *entries[1:]]), {"fs.path.refused"}),
            (holder.manifest([{**entries[0], "p": "/app"}, *entries[1:]]), {"fs.path.refused"}),
            (holder.raw(canonical + b"\0"), {"codec.cbor.malformed"}),
            (holder.raw(canonical.replace(b"\x61v\x01", b"\x61v\x18\x01", 1)), {"codec.cbor.malformed"}),
            (holder.raw(cbor2.dumps(dict(reversed(plain.items())))), {"codec.cbor.malformed"}),
            (holder.manifest([*entries, {"p": "APP", "t": "d", "m": 493}]), {"package.manifest.disordered"}),
            (holder.manifest([{"p": "APP", "t": "d", "m": 493}, *entries]), {"fs.path.clash"}),
            (holder.raw(cbor2.dumps({**plain, "v": 2}, canonical=True)), {"format.newer"}),
            (holder.raw(cbor2.dumps({"v": 1, "entries": []}, canonical=True)), {"package.manifest.malformed"}),
            (holder.raw(b"\xbf\xff"), {"codec.cbor.malformed"}),
            (holder.raw(b""), {"codec.cbor.malformed"}),
        ]
        for sealed, reasons in cases:
            (folder / "manifest").write_bytes(sealed)
            assert reason_of(open_package, folder, key=KEY) in reasons

    def test_case_folded_duplicates(self, tmp_path):
        """Two names that a folding file system takes for one are refused, at build and at open."""
        (tmp_path / "a").mkdir()
        names = [Source("App.py", b"1"), Source("app.py", b"2")]
        assert "fs.path.clash" == reason_of(build_package, names, key=KEY, out_dir=tmp_path / "a")


class TestBuild:
    """What the builder refuses."""

    @pytest.mark.parametrize("path", ["/abs", "a//b", "../x", "a/./b", "", "a\x00b", "x" * 256, "e\u0301"])
    def test_paths(self, path, tmp_path):
        """Only paths of the format."""
        assert "fs.path.refused" == reason_of(build, tmp_path / "p", [Source(path, b"")])

    def test_same_path_twice(self, tmp_path):
        """One path, one source."""
        assert "package.path.duplicate" == reason_of(build, tmp_path / "p", [Source("a", b"1"), Source("a", b"2")])

    def test_file_as_parent(self, tmp_path):
        """A file cannot be the directory of another."""
        assert "package.path.orphan" == reason_of(build, tmp_path / "p", [Source("a", b"1"), Source("a/b", b"2")])

    def test_links_are_refused(self, tmp_path):
        """A symbolic link in the source is neither followed nor left out silently."""
        (tmp_path / "src").mkdir()
        (tmp_path / "src" / "link").symlink_to("/etc/passwd")
        with pytest.raises(UsageError):
            sources_of(tmp_path / "src")

    @pytest.mark.parametrize("size", [1000, 9 << 20])
    def test_file_that_changes(self, size, tmp_path, monkeypatch):
        """A file that changes while it is read, also between the two passes, ends the build; no blob of it is left."""
        path = tmp_path / "file"
        path.write_bytes(b"a" * size)
        place = source_of(path, "file")
        real = os.fstat
        calls = []

        def changing(descriptor):
            calls.append(descriptor)
            if len(calls) == 3:  # after the content was read
                with path.open("r+b") as file:
                    file.write(b"b")
                os.utime(path, ns=(1, 1))
            return real(descriptor)

        if size < 8 << 20:
            monkeypatch.setattr(os, "fstat", changing)
        else:
            from glasscase.seal import package as module

            digest = chunks.digest_descriptor

            def then_change(*args, **kwargs):
                result = digest(*args, **kwargs)
                with path.open("r+b") as file:
                    file.seek(size // 2)
                    file.write(b"b")
                return result

            monkeypatch.setattr(module, "digest_descriptor", then_change)
        assert "stream.content.changed" == reason_of(build, tmp_path / "p", [place])
        assert [] == list((tmp_path / "p").iterdir())

    def test_models_by_key(self, tmp_path):
        """models = "key": no leaf list, only accepted by a reader that was told so."""
        package = build(tmp_path / "p", leaf_lists=False)
        assert "package.leaves.missing" == reason_of(opened, tmp_path / "p", package)
        with opened(tmp_path / "p", package, lazy_unchecked=True).open("models/llm/weights.bin") as reader:
            assert FILES["models/llm/weights.bin"] == reader.readall()

    def test_context(self, tmp_path):
        """A context binds the whole package through its manifest."""
        build(tmp_path / "p", context=b"customer 7")
        assert "stream.header.unauthentic" == reason_of(open_package, tmp_path / "p", key=KEY)
        open_package(tmp_path / "p", key=KEY, context=b"customer 7").verify()

    def test_empty_package(self, tmp_path):
        """A package may be empty."""
        package = build(tmp_path / "p", [])
        assert () == opened(tmp_path / "p", package).entries


def test_opening_opens_one_release_only(built, tmp_path):
    """The disclosed opening confirms its own release and says nothing about another of the same key."""
    _, package = built
    other = build(tmp_path / "b", sources({"app/main.py": b"x"}))

    assert package.commitment == form.commitment(package.opening, digest_sources(sources()))
    assert package.opening != other.opening
    assert other.commitment != form.commitment(package.opening, other.digest)


def test_unpack_a_part(built, tmp_path):
    """A prefix is left away in the target, and lazily read files can be left out."""
    folder, package = built
    box = opened(folder, package)
    app, models = tmp_path / "app", tmp_path / "models"
    app.mkdir()
    models.mkdir()
    box.unpack(app, prefix="app/")
    box.unpack(models, prefix="models/", lazy=False)

    assert {path.removeprefix("app/"): data for path, data in FILES.items() if path.startswith("app/")} == tree(app)
    assert {} == tree(models)


def test_manifest_is_its_own_bytes(built):
    """Decoding and encoding a manifest gives the same bytes, and no key is in its text form."""
    folder, package = built
    plain = stream_oracle.ours(KEY, (folder / "manifest").read_bytes())
    manifest = form.Manifest.from_bytes(plain)

    assert plain == manifest.to_bytes()
    key = blob_of(package, "app/main.py").key
    assert key.hex() not in repr(manifest) and str(key) not in repr(manifest)
    assert package.opening.hex() not in repr(package) and str(package.opening) not in repr(package)


def test_limits(monkeypatch):
    """A manifest above 64 MiB and one above a million entries are refused."""
    monkeypatch.setattr(form, "MANIFEST_MAX", 100)
    assert "package.manifest.oversize" == reason_of(
        form.Manifest(bytes(16), (form.Entry("a" * 90, "d", 0o755),)).to_bytes
    )
    monkeypatch.setattr(form, "ENTRIES_MAX", 1)
    data = cbor.encode({"v": 1, "pkg": bytes(16), "entries": [{}, {}]})
    assert "package.manifest.malformed" == reason_of(form.Manifest.from_bytes, data)


def test_wrong_derivation_arguments():
    """Digests of another length and contents above 16 TiB have no names."""
    assert "core.state.wrong" == reason_of(chunks.blob_names, Key(KEY), b"short", 1)
    with pytest.raises(FormatError):
        chunks.blob_names(Key(KEY), bytes(32), 2**44 + 1)
    assert HEADER_SIZE == len(chunks.blob_names(Key(KEY), bytes(32), 2**44).header)
