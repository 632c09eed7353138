"""What the verb `sign` does: expand a manifest or take a bundle, recompute its measurement, sign that, write it."""

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glasscase.cli.output import Output
from glasscase.cli.reading import bundle_files, read_argument
from glasscase.errors import FormatError, UsageError
from glasscase.fs.atomic import atomic_file, shell_word
from glasscase.gramine.elf import PAL_MAX
from glasscase.gramine.expand import sgx_manifest
from glasscase.gramine.manifest import MANIFEST_MAX
from glasscase.measure.mrenclave import Measurement, measure
from glasscase.sgx.sigstruct import KEY_SIZE, SigstructBody, attach_signature, parse_date, sign_sigstruct

if TYPE_CHECKING:
    from glasscase.sgx.sigstruct import Sigstruct

_KEY_MAX = 64 << 10
_PASSPHRASE_MAX = 4 << 10
_DEBUG = 0x2


@dataclass(frozen=True)
class Request:
    """How it shall be signed. request, attach: paths; at most one of them. key: the public key with `attach`.

    passphrase_file: of an encrypted key.
    """

    key: str | None
    date: str
    request: str | None
    attach: str | None
    passphrase_file: str | None = None

    def __post_init__(self) -> None:
        """Refuse combinations that say two things."""
        parse_date(self.date)
        if self.request and (self.attach or self.key):
            raise UsageError(
                "cli.usage.wrong", "--request takes neither --key nor --attach", hint="glasscase sign --help"
            )
        if self.passphrase_file and (self.request or self.attach):
            raise UsageError(
                "cli.usage.wrong", "--passphrase-file is for a private key, which signs here", hint="leave it away"
            )
        if not self.request and not self.key:
            hint = "with --attach it is the public key" if self.attach else "glasscase sign --help"
            raise UsageError("cli.usage.wrong", "sign needs --key", hint=hint)


def sign_manifest(out: Output, options: dict[str, Any], request: Request) -> Measurement:
    """Expand, measure and sign a manifest as gramine-sgx-sign does; return what was measured."""
    needed = ("manifest", "libpal") if request.request else ("manifest", "libpal", "output")
    for name in needed:
        if options[name] is None:
            raise UsageError("cli.usage.wrong", f"sign needs a BUNDLE, or --{name}", hint="glasscase sign --help")
    if options["depfile"] and request.request:
        raise UsageError("cli.usage.wrong", "--depfile is for a manifest that is written, --request writes none")
    hashed: list[str] = []
    libpal = read_argument(options["libpal"], max_bytes=PAL_MAX, what="libpal.so")
    manifest_sgx = sgx_manifest(
        read_argument(options["manifest"], max_bytes=MANIFEST_MAX, what="manifest"),
        directory=os.getcwd(),
        chroot=options["chroot"],
        libsysdb=options["libsysdb"] or _installed_libsysdb(options["libpal"]),
        series=options["profile"],
        on_hashed=hashed.append,
        on_skipped=lambda path: out.warn(f"neither file nor directory, not trusted: {path!r}"),
    )
    measurement = measure(manifest_sgx, libpal)
    sigstruct = _finish(out, measurement, request)
    if sigstruct is not None:
        output = options["output"]
        sig_path = options["sigfile"] or _sig_path(output)
        names = [os.path.abspath(path) for path in (output, sig_path, options["depfile"]) if path]
        if len(set(names)) != len(names):
            raise UsageError("cli.usage.wrong", f"--output, the .sig file and --depfile need different names: {names}")
        written: tuple[str, ...] = (output, sig_path)
        with contextlib.ExitStack() as stack:
            if options["depfile"]:
                sources = [*hashed, options["manifest"], options["libpal"], str(request.key)]
                rule = make_rule(output, [path for path in sources if path != "-"])
                stack.enter_context(atomic_file(options["depfile"], mode=0o644)).write(rule)
                written += (options["depfile"],)
            _write_pair(output, manifest_sgx, sig_path, sigstruct.to_bytes())
        _report(out, sigstruct, written)
    return measurement


def sign_bundle(out: Output, bundle: str, request: Request) -> Measurement:
    """Recompute everything about a bundle, sign it, write app.sig into it; return what was measured.

    Raises FormatError with the id of what is wrong with the bundle; an old app.sig may be wrong, it is replaced.
    """
    from glasscase.bundle.apart import require_outside
    from glasscase.bundle.check import check_bundle
    from glasscase.cli.pinned import trusted_pins
    from glasscase.fs.atomic import write_file

    bundle_files(bundle)
    if request.request:
        require_outside(request.request, bundle)
    checked = check_bundle(bundle, runtimes=trusted_pins())
    for problem in checked.problems:
        if not problem.id.startswith(("bundle.signature.", "sgx.sigstruct.")):
            raise FormatError(
                problem.id, problem.text, hint="build the bundle again, do not sign this one", what="bundle"
            )
    sigstruct = _finish(out, checked.measurement, request)
    if sigstruct is not None:
        path = os.path.join(bundle, "app.sig")
        write_file(path, sigstruct.to_bytes(), mode=0o644)
        _report(out, sigstruct, (path,))
    return checked.measurement


def _finish(out: Output, measurement: Measurement, request: Request) -> "Sigstruct | None":
    """Return the signed structure, or None after its request was written."""
    from glasscase.fs.atomic import write_file

    if measurement.attributes_flags & _DEBUG:
        out.warn("sgx.debug is true: anybody on the machine can read the memory of this enclave")
    body = measurement.to_sign(request.date)
    if request.request:
        write_file(request.request, body.signed_message(), mode=0o644)
        value = {"mrenclave": measurement.mrenclave.hex(), "mrsigner": None} | _fields(body)
        out.result(value, f"MRENCLAVE {measurement.mrenclave.hex()}\nwrote     {request.request}")
        out.say(f"next      openssl dgst -sha256 -sign KEY -out SIGNATURE {shell_word(request.request)}")
        out.say("          then the same sign with --attach SIGNATURE --key KEY.pub instead of --request")
        return None
    key = read_argument(str(request.key), max_bytes=_KEY_MAX, what="key")
    if request.attach:
        return attach_signature(body, key, read_argument(request.attach, max_bytes=KEY_SIZE, what="signature"))
    return sign_sigstruct(body, key, passphrase=_passphrase(request.passphrase_file))


def make_rule(target: str, sources: Iterable[str]) -> bytes:
    """Return one rule of make, as gramine-sgx-sign writes it: the target and what it is made from, each once.

    Raises UsageError("sgx.depfile.unwritable") for a name that make cannot say.
    """

    def escaped(path: str) -> str:
        if "\n" in path or "\r" in path:
            raise UsageError("sgx.depfile.unwritable", f"{path!r} holds a line break, which a rule of make cannot say")
        return re.sub(r"(\\*)([ \t#:])", r"\1\1\\\2", path).replace("$", "$$")

    lines = [f"{escaped(target)}:", *(f"\t{escaped(path)}" for path in dict.fromkeys(sources))]
    return (" \\\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _passphrase(path: str | None) -> bytes | None:
    """Return the first line of a file that its owner alone may read, or None without one."""
    from glasscase.fs.atomic import read_private

    if path is None:
        return None
    text = read_private(path, max_bytes=_PASSPHRASE_MAX, what="passphrase").removesuffix(b"\n").removesuffix(b"\r")
    if not text or b"\n" in text:
        raise UsageError("cli.usage.wrong", "the passphrase file must hold one line", hint="--passphrase-file FILE")
    return text


def _sig_path(output: str) -> str:
    for suffix in (".manifest.sgx", ".sgx"):
        if output.endswith(suffix) and os.path.basename(output) != suffix:
            return output[: -len(suffix)] + ".sig"
    return output + ".sig"


def _installed_libsysdb(libpal: str) -> str | None:
    """Return the libsysdb.so of the installation that libpal.so lies in: .../gramine/{libsysdb.so,sgx/libpal.so}."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(libpal))), "libsysdb.so")
    return path if os.path.isfile(path) else None


def _write_pair(first: str, first_bytes: bytes, second: str, second_bytes: bytes) -> None:
    """Write two files of mode 0644, both or none: what was there before comes back if the second rename fails."""
    from glasscase.fs.atomic import atomic_file, read_file, write_file

    before = read_file(second, max_bytes=1 << 20, what="old .sig") if os.path.isfile(second) else None
    written = False
    try:
        with atomic_file(first, mode=0o644) as file:
            file.write(first_bytes)
            write_file(second, second_bytes, mode=0o644)
            written = True
    except BaseException:
        if written and before is not None:
            write_file(second, before, mode=0o644)
        elif written:
            with contextlib.suppress(OSError):
                os.unlink(second)
        raise


def _fields(body: SigstructBody) -> dict[str, Any]:
    return {
        "isv_prod_id": body.isv_prod_id,
        "isv_svn": body.isv_svn,
        "attributes": body.attributes_flags,
        "xfrm": body.xfrm,
        "date": body.date,
    }


def _report(out: Output, sigstruct: "Sigstruct", paths: tuple[str, ...]) -> None:
    value = {"mrenclave": sigstruct.mrenclave.hex(), "mrsigner": sigstruct.mrsigner.hex()} | _fields(sigstruct.body)
    lines = [f"MRENCLAVE {sigstruct.mrenclave.hex()}", f"MRSIGNER  {sigstruct.mrsigner.hex()}"]
    out.result(value, "\n".join([*lines, *(f"wrote     {path}" for path in paths)]))
