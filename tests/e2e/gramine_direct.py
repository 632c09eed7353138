"""A stand-in for Gramine's direct loader: what it asks of a bundle, and what it withholds from the program inside.

It is started as the real one is, reads app.manifest, and wants of it what Gramine wants, and what a bundle promises: relative
URIs, trusted files that are there with their digests and nothing else beside them, mounts that allowed_files covers. The program
then runs with the manifest's root, mounts, argv and environment, without the system calls that Gramine lacks, without new
processes, with no more threads than the manifest has places for besides Gramine's own (in SGX one more waits for ever, here it is
refused), with as many descriptors as its release begins with, and with no more address space than the enclave would have. Not
there: the enclave, and Gramine's C library.
`gramine_direct.py --withhold PROGRAM ARGUMENTS` starts a program without those system calls and nothing else.
Sources: Gramine's libos/src/arch/x86_64/libos_table.c, libos_clone.c, libos_socket.c, libos/src/fs; Documentation/manifest-syntax.rst.
"""

import ctypes
import hashlib
import os
import re
import resource
import struct
import sys
import tomllib
from pathlib import Path

# the system calls that Gramine answers in every release since 1.5, by their numbers on x86-64; later ones answer a few more
CALLS = (
    *range(25), 26, 27, 28, *range(32, 60), 60, 61, 62, 63, 72, *range(74, 86), 87, *range(89, 94), 95, 96, 97, 99, 102,
    104, 105, 106, 107, 108, 109, 110, 111, 112, 115, 116, 121, 124, 125, 126, 127, 128, 130, 131, 133, 137, 138,
    *range(140, 153), 158, 160, 161, 170, 171, 186, 200, 201, 202, 203, 204, 213, 217, 218, 221, 228, 229, 230, 231, 232,
    233, 234, 237, 247, 257, 258, 259, 260, 262, 263, 264, 267, 268, 269, 270, 271, 273, 274, 281, 284, 285, 288, 290, 291,
    292, 293, 299, 302, 307, 309, 318, 325,
)  # fmt: skip
CLONE, FORK, VFORK, OPENAT, SOCKET = 56, 57, 58, 257, 41
CLONE_THREAD, O_TMPFILE = 0x10000, 0o20000000
FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
EAGAIN, EISDIR, ENOSYS, EAFNOSUPPORT = 11, 21, 38, 97
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
HELPERS = 3  # threads of Gramine itself: two workers, and one that connects a pipe
RESERVE = 128 << 20  # bytes of an enclave that the program cannot have: Gramine's own memory, generously
ROOT = "/mnt"
# before Linux 5.14 all processes of the account would count, not only those of the namespace
PLACES_COUNTED = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (5, 14)
_libc = ctypes.CDLL(None, use_errno=True)


def need(good: object, what: str) -> None:
    """End the process unless a demand of Gramine is met."""
    if not good:
        sys.exit(f"error: {what}")


def check(result: int, what: str) -> None:
    """Raise OSError if a call of the C library failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def withhold() -> None:
    """Answer every further system call of this process as Gramine does, as far as it says no."""
    program: list[bytes] = []

    def put(code: int, yes: int, no: int, value: int) -> None:
        program.append(struct.pack("<HBBI", code, yes, no, value))

    def argument(number: int) -> None:
        put(_LOAD, 0, 0, 16 + 8 * number)

    put(_LOAD, 0, 0, 0)
    put(_JUMP_EQUAL, 0, 4, CLONE)
    argument(0)
    put(_JUMP_SET, 0, 1, CLONE_THREAD)
    put(_RETURN, 0, 0, _ALLOW)
    put(_RETURN, 0, 0, _ERRNO | EAGAIN)
    for call in (FORK, VFORK):
        put(_JUMP_EQUAL, 0, 1, call)
        put(_RETURN, 0, 0, _ERRNO | EAGAIN)
    put(_JUMP_EQUAL, 0, 4, OPENAT)
    argument(2)
    put(_JUMP_SET, 0, 1, O_TMPFILE)
    put(_RETURN, 0, 0, _ERRNO | EISDIR)
    put(_RETURN, 0, 0, _ALLOW)
    put(_JUMP_EQUAL, 0, 2 + 2 * len(FAMILIES), SOCKET)
    argument(0)
    for family in FAMILIES:
        put(_JUMP_EQUAL, 0, 1, family)
        put(_RETURN, 0, 0, _ALLOW)
    put(_RETURN, 0, 0, _ERRNO | EAFNOSUPPORT)
    for call in CALLS:
        put(_JUMP_EQUAL, 0, 1, call)
        put(_RETURN, 0, 0, _ALLOW)
    put(_RETURN, 0, 0, _ERRNO | ENOSYS)
    text = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(text))
    check(_libc.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    check(_libc.prctl(22, 2, ctypes.create_string_buffer(header)), "PR_SET_SECCOMP")


def path_of(uri: str) -> str:
    """Return the relative path of a URI."""
    need(uri.startswith("file:") and not uri.startswith("file:/"), f"{uri} is not a relative file")
    return uri.removeprefix("file:").rstrip("/")


def check_files(manifest: dict) -> None:
    """Compare the files of the root with trusted_files, both ways, and libsysdb.so with its digest."""
    entry = manifest["loader"]["entrypoint"]
    listed = {path_of(file["uri"]): file["sha256"] for file in manifest["sgx"]["trusted_files"]}
    if isinstance(entry, str):
        need(path_of(entry) in listed, "loader.entrypoint is not trusted")
    else:
        listed[path_of(entry["uri"])] = entry["sha256"]
    for path, digest in listed.items():
        need(hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest, f"{path} has another SHA-256")
    root = path_of(manifest["fs"]["root"]["uri"])
    there = {str(path) for path in Path(os.path.realpath(root)).rglob("*") if not path.is_dir()}
    extra = {path.replace(os.path.realpath(root), root, 1) for path in there} - set(listed)
    need(not extra, f"{min(extra, default='')} is not trusted")
    need(
        path_of(manifest["fs"]["root"]["uri"]) + manifest["libos"]["entrypoint"] in listed, "the program is not trusted"
    )


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mount a file system; needs no rights of the host inside a user namespace."""
    words = [text.encode() if text is not None else None for text in (source, target, kind)]
    check(_libc.mount(*words, flags, data.encode() if data else None), f"mount {source} at {target}")


def enter(manifest: dict) -> None:
    """Make the root of the manifest and go there, as user 0 of a namespace, which is what Gramine shows too."""
    user, group = os.getuid(), os.getgid()
    check(_libc.unshare(_NEW_USER | _NEW_MOUNTS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{manifest['loader']['uid']} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{manifest['loader']['gid']} {group} 1")
    mount("none", "/", None, _REC | _PRIVATE)
    mount("none", ROOT, "tmpfs", data="mode=755")
    root = os.path.realpath(path_of(manifest["fs"]["root"]["uri"]))
    for name in sorted(os.listdir(root)):
        os.mkdir(f"{ROOT}/{name}")
        mount(f"{root}/{name}", f"{ROOT}/{name}", None, _BIND | _REC)
        mount("none", f"{ROOT}/{name}", None, _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)
    os.mkdir(f"{ROOT}/dev")
    for name in ("null", "urandom"):
        Path(f"{ROOT}/dev/{name}").touch()
        mount(f"/dev/{name}", f"{ROOT}/dev/{name}", None, _BIND)
    for one in manifest["fs"]["mounts"]:
        os.makedirs(ROOT + one["path"], exist_ok=True)
        if one["type"] == "tmpfs":
            mount("none", ROOT + one["path"], "tmpfs", data="mode=700")
            continue
        need(one["type"] == "chroot", f"{one['path']} is {one['type']}: without SGX it has no key")
        allowed = [path_of(uri) + "/" for uri in manifest["sgx"]["allowed_files"]]
        need(f"{path_of(one['uri'])}/".startswith(tuple(allowed)), f"{one['uri']} is not allowed")
        mount(path_of(one["uri"]), ROOT + one["path"], None, _BIND | _REC)
    os.chroot(ROOT)
    os.chdir(manifest["fs"]["start_dir"])


def main(words: list[str]) -> None:
    """Become the program."""
    if words[:1] == ["--withhold"]:
        withhold()
        os.execv(words[1], words[1:])
    libpal, mode, application = words
    need(mode == "init" and Path(libpal).is_file(), "usage: loader libpal.so init APPLICATION")
    manifest = tomllib.loads(Path(application + ".manifest").read_text("utf-8"))
    check_files(manifest)
    size = re.fullmatch(r"([0-9]+)([MG])", manifest["sgx"]["enclave_size"])
    space = (int(size[1]) << (20 if size[2] == "M" else 30)) - RESERVE
    places = manifest["sgx"]["max_threads"] - HELPERS
    # the option is there since 1.8, whose manifests have a table here
    knows_limit = isinstance(manifest["loader"]["entrypoint"], dict)
    descriptors = manifest["sys"]["fds"]["limit"] if knows_limit else 900
    enter(manifest)
    withhold()
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(descriptors, most), min(65536, most)))
    if PLACES_COUNTED and not manifest["sgx"]["edmm_enable"]:
        resource.setrlimit(resource.RLIMIT_NPROC, (places, places))
    os.execve(manifest["libos"]["entrypoint"], manifest["loader"]["argv"], manifest["loader"]["env"])


if __name__ == "__main__":
    main(sys.argv[1:])
