"""Only a canonical tar is unpacked; every evil one is refused and nothing is written outside the target."""

import io
import os
import tarfile

import pytest

from glasscase.errors import Error, FormatError
from glasscase.fs.extract import ExtractLimits, extract_tar
from glasscase.fs.tar import END, TarEntry, header, pack, padding, tree_entries


def block(name=b"d/a", kind=b"0", *, mode=b"0000644\0", uid=b"0000000\0", gid=b"0000000\0", size=b"00000000000\0",
          mtime=b"00000000000\0", link=b"", magic=b"ustar\0", version=b"00", uname=b"", gname=b"", major=b"0000000\0",
          prefix=b"", tail=bytes(12), checksum=None):  # fmt: skip
    """Return a header block with any field as it is given, and the checksum that belongs to it."""
    fields = [name.ljust(100, b"\0")[:100], mode, uid, gid, size, mtime, b" " * 8, kind, link.ljust(100, b"\0"), magic,
              version, uname.ljust(32, b"\0"), gname.ljust(32, b"\0"), major, b"0000000\0", prefix.ljust(155, b"\0"), tail]  # fmt: skip
    data = bytearray(b"".join(fields))
    data[148:156] = b"%06o\0 " % sum(data) if checksum is None else checksum
    return bytes(data)


def folder(name=b"d/"):
    return block(name, b"5", mode=b"0000755\0")


def file(name=b"d/a", content=b"", **fields):
    return block(name, size=b"%011o\0" % len(content), **fields) + content + padding(len(content))


def pax(records, name=b"pax"):
    return block(name, b"x", size=b"%011o\0" % len(records)) + records + padding(len(records))


def record(key, value):
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size += 1
    return b"%d" % size + rest


D = folder()
EVIL = {
    # where names lead
    "dotdot": D + file(b"d/../../evil"), "absolute": file(b"/tmp/evil"), "dotdot first": file(b"../evil"),
    "dotdot alone": folder(b"../"), "dot": D + file(b"./d/a"), "dot inside": D + file(b"d/./a"),
    "double slash": D + file(b"d//a"), "empty name": file(b""), "slash file": D + file(b"d/a/"),
    "backslash is a name, unsorted": D + file(b"d/b") + file(b"d/a"), "newline": D + file(b"d/a\nb"),
    "escape": D + file(b"d/\x1b[2J"), "not utf-8": D + file(b"d/\xff\xfe"), "nfd": D + file("d/e\u0301".encode()),
    "nul in the middle": D + file(b"d/a\0b"), "case fold": D + file(b"d/A") + file(b"d/a"),
    "unicode fold": D + file("d/\u212a".encode()) + file("d/\u212b".encode()) + file("d/\uff21".encode()) + file("d/\uff41".encode()),
    "long part": D + pax(record(b"path", b"d/" + b"x" * 256)) + file((b"d/" + b"x" * 256)[:100]),
    "prefix dotdot": D + block(b"a", prefix=b"d/.."), "prefix absolute": D + block(b"a", prefix=b"/d"),
    "c1 control": D + file("d/\u0085".encode()),
    # kinds
    "symlink": D + block(b"d/l", b"2", link=b"/etc/passwd"), "symlink relative": D + block(b"d/l", b"2", link=b"a"),
    "hard link": D + file() + block(b"d/b", b"1", link=b"d/a"), "hard link out": D + block(b"d/b", b"1", link=b"/etc/passwd"),
    "character device": D + block(b"d/c", b"3"), "block device": D + block(b"d/c", b"4"), "fifo": D + block(b"d/f", b"6"),
    "contiguous": D + block(b"d/f", b"7"), "old file type": D + block(b"d/a", b"\0"), "gnu long name": D + block(b"././@LongLink", b"L"),
    "gnu long link": D + block(b"././@LongLink", b"K"), "gnu sparse": D + block(b"d/s", b"S"), "global pax": block(b"pax", b"g") + D,
    "solaris acl": D + block(b"d/a", b"A"), "unknown type": D + block(b"d/a", b"Z"), "volume": D + block(b"d/v", b"V"),
    "symlink then through it": D + block(b"d/l", b"2", link=b"/tmp") + file(b"d/l/evil"),
    # modes, owners, times
    "setuid": D + file(mode=b"0004755\0"), "setgid": D + file(mode=b"0002755\0"), "sticky": D + file(mode=b"0001644\0"),
    "world writable": D + file(mode=b"0000666\0"), "mode 600": D + file(mode=b"0000600\0"),
    "open directory": block(b"d/", b"5", mode=b"0000777\0"),
    "owner": D + file(uid=b"0001750\0"), "group": D + file(gid=b"0001750\0"), "owner's name": D + file(uname=b"root"),
    "group's name": D + file(gname=b"root"), "time": D + file(mtime=b"00000000001\0"), "device number": D + file(major=b"0000001\0"),
    "link name on a file": D + file(link=b"x"), "junk at the end of the header": D + file(tail=b"junk" + bytes(8)),
    # numbers and forms
    "wrong checksum": D + file(checksum=b"000000\0 "), "old v7 magic": D + file(magic=b"\0" * 6, version=b"\0\0"),
    "gnu magic": D + file(magic=b"ustar ", version=b" \0"), "base-256 size": D + block(size=b"\x80" + bytes(10) + b"\1"),
    "negative size": D + block(size=b"-0000000001\0"), "size with spaces": D + block(size=b"          0\0"),
    "size not octal": D + block(size=b"00000000008\0"),
    "directory with a size": block(b"d/", b"5", mode=b"0000755\0", size=b"00000000001\0"),
    "directory without a slash": block(b"d", b"5", mode=b"0000755\0"),
    # order and presence
    "twice": D + file() + file(), "directory twice": D + D, "file before its directory": file(b"d/a") + D,
    "no directory": file(b"x/y"), "file as directory": D + file(b"d/a") + file(b"d/a/b"), "unsorted": folder(b"e/") + D,
    "file then directory of one name": D + file(b"d/a") + folder(b"d/a/"),
    # pax
    "pax time": D + pax(record(b"mtime", b"1")) + file(), "pax link": D + pax(record(b"linkpath", b"/etc")) + file(),
    "pax path without need": D + pax(record(b"path", b"d/a")) + file(), "pax path out": D + pax(record(b"path", b"../evil")) + file(),
    "pax absolute path": D + pax(record(b"path", b"/evil")) + file(), "pax twice": D + pax(record(b"path", b"d/a") * 2) + file(),
    "pax length wrong": D + pax(b"99 path=d/a\n") + file(), "pax no newline": D + pax(b"11 path=d/a") + file(),
    "pax size without need": D + pax(record(b"size", b"0")) + file(), "pax huge size": D + pax(record(b"size", b"9" * 15)) + file(),
    "pax size not decimal": D + pax(record(b"size", b"-1")) + file(), "pax sparse": D + pax(record(b"GNU.sparse.major", b"1")) + file(),
    "pax empty": D + pax(b"") + file(), "pax long": D + pax(b"x" * 5000) + file(),
    "pax on pax": D + pax(record(b"path", b"a")) * 2 + file(),
    "path of 4097 bytes": D + pax(record(b"path", b"d/" + b"x/" * 2047 + b"y")) + file((b"d/" + b"x/" * 60)[:100]),
    "300 deep": D + pax(record(b"path", b"d/" * 300 + b"y")) + file((b"d/" * 60)[:100]),
    # ends
    "content padding": D + block(size=b"00000000001\0") + b"x" + b"y" * 511, "cut header": D + file()[:300],
    "cut content": D + block(size=b"00000000777\0") + b"short",
}  # fmt: skip
WHOLE = {
    "nothing": b"", "zeros only": END, "one zero block": D + file() + bytes(512), "no end": D + file(),
    "three zero blocks": D + END + bytes(512), "text behind the end": D + END + b"x", "archive behind the end": D + END + D,
    "random": bytes(range(256)) * 8, "gzip": b"\x1f\x8b\x08" + bytes(2000), "zip": b"PK\3\4" + bytes(2000),
}  # fmt: skip
ALL = {name: body + END for name, body in EVIL.items()} | WHOLE


def test_the_corpus_is_large():
    """There are at least 60 evil archives, all different."""
    assert len(set(ALL.values())) == len(ALL) >= 60


@pytest.mark.parametrize("name", sorted(ALL))
def test_evil_archive_is_refused(name, tmp_path):
    """An archive that is not canonical is refused, and outside of the target nothing has changed."""
    target = tmp_path / "in" / "target"
    target.mkdir(parents=True)
    with pytest.raises(FormatError) as caught:
        extract_tar(io.BytesIO(ALL[name]), target)

    assert caught.value.reason in ("fs.archive.malformed", "fs.archive.oversize", "fs.path.refused", "fs.path.clash")
    assert ["in"] == os.listdir(tmp_path) and ["target"] == os.listdir(tmp_path / "in")
    assert not os.path.exists("/tmp/evil") and not os.path.exists("/evil")
    assert not [path for path, _, _ in os.walk(target) if os.path.islink(path)]


def test_canonical_tar_is_unpacked(tmp_path):
    """What the writer packs comes out the same: long names, both modes, empty files."""
    source = tmp_path / "source"
    files = {"a": b"1", "b/c": b"", "b/" + "n" * 120: b"2", "b/" + "d" * 90 + "/" + "e" * 90 + "/f": b"3" * 1000,
             "ü/" + "ü" * 100 + "/" + "x" * 200: b"4"}  # fmt: skip
    rows = []
    for path, content in files.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
        rows.append((path, 0o755 if content else 0o644, len(content)))
    data = b"".join(pack(tree_entries(rows, top="x.bundle"), source, top="x.bundle"))
    target = tmp_path / "target"
    target.mkdir()

    assert "x.bundle" == extract_tar(io.BytesIO(data), target, top=None)
    assert files == {path: (target / path).read_bytes() for path in files}
    for path, mode, _ in rows:
        facts = (target / path).stat()
        assert (mode, 0) == (facts.st_mode & 0o7777, facts.st_mtime_ns)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {f"x.bundle/{path}" for path in files} == {member.name for member in archive if member.isfile()}
        for path, content in files.items():
            assert content == archive.extractfile(f"x.bundle/{path}").read()


def test_big_sizes_are_in_a_pax_record():
    """From 8 GiB on the size stands in a pax record, below in the header."""
    small, big = (header(TarEntry("a", directory=False, mode=0o644, size=size)) for size in ((8 << 30) - 1, 8 << 30))

    assert 512 == len(small)
    assert 3 * 512 == len(big) and b"19 size=8589934592\n" in big


def test_limits(tmp_path):
    """Count, size of one file and size of all are compared before anything of the file is written."""
    data = D + file(b"d/a", b"12345") + file(b"d/b", b"12345") + END
    for limits in (ExtractLimits(entries=2), ExtractLimits(file_bytes=4), ExtractLimits(total_bytes=9)):
        target = tmp_path / str(limits)
        target.mkdir()
        with pytest.raises(FormatError) as caught:
            extract_tar(io.BytesIO(data), target, limits=limits)
        assert "fs.archive.oversize" == caught.value.reason
    target = tmp_path / "right"
    target.mkdir()
    extract_tar(io.BytesIO(data), target, limits=ExtractLimits(entries=3, file_bytes=5, total_bytes=10))


def test_links_in_the_target_are_not_followed(tmp_path):
    """Someone who puts a link where a directory is to be gets an error, and nothing is written behind it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "d").symlink_to(outside)
    with pytest.raises(Error):
        extract_tar(io.BytesIO(D + file(b"d/a", b"x") + END), target)

    assert [] == os.listdir(outside)
