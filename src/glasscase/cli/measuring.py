"""The verbs `measure` and `sign`."""

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli.output import Output, refuse_option, verb
from glasscase.cli.reading import read_argument
from glasscase.errors import UsageError

if TYPE_CHECKING:
    from glasscase.measure.mrenclave import Measurement
    from glasscase.sgx.sigstruct import Sigstruct

_MANIFEST = "app.manifest.sgx"
_LIBPAL = os.path.join("runtime", "libpal.so")
_KEY_MAX = 64 << 10


@verb("measure", help="Recompute MRENCLAVE from the bytes of a bundle, or of manifest.sgx and libpal.so alone.")
@click.argument("bundle", required=False)
@click.option("--manifest", metavar="M.sgx", help="The manifest.sgx, without a bundle.")
@click.option("--libpal", metavar="PAL", help="The libpal.so that belongs to it.")
@click.option("--explain", is_flag=True, help="Name the origin of every trusted file of the bundle.")
def measure(out: Output, bundle: str | None, manifest: str | None, libpal: str | None, explain: bool) -> int:  # noqa: FBT001
    """Print MRENCLAVE and the areas of memory."""
    from glasscase.measure.mrenclave import measure as measure_bytes

    refuse_option("--explain", explain)
    manifest_sgx, pal = _two_files(bundle, manifest, libpal)
    measurement = measure_bytes(manifest_sgx, pal)
    value = {
        "mrenclave": measurement.mrenclave.hex(),
        "enclave_size": measurement.enclave_size,
        "pages_measured": measurement.pages_measured,
        "pages_added": measurement.pages_added,
        "attributes": measurement.attributes_flags,
        "xfrm": measurement.xfrm,
        "xfrm_mask": f"{measurement.xfrm_mask:#x}",
        "misc_select": measurement.misc_select,
        "isv_prod_id": measurement.isv_prod_id,
        "isv_svn": measurement.isv_svn,
        "max_threads": measurement.max_threads,
        "edmm": measurement.edmm,
        "debug": bool(measurement.attributes_flags & 2),
        "areas": [
            {
                "name": area.name,
                "start": area.start,
                "size": area.size,
                "measured": area.measured,
                "permissions": area.permissions,
            }
            for area in measurement.areas
        ],
    }
    out.result(value, _measurement_text(out, measurement))
    return 0


@verb("sign", help="Sign a bundle; or expand and sign a manifest, with the options of gramine-sgx-sign.")
@click.argument("bundle", required=False)
@click.option("--manifest", "-m", metavar="M", help="The manifest to expand and sign.")
@click.option("--libpal", "-l", metavar="PAL", help="The libpal.so that will run it.")
@click.option("--key", "-k", metavar="PEM", help="RSA-3072 private key with exponent 3.")
@click.option("--output", "-o", metavar="M.sgx", help="Where manifest.sgx goes; M.sig is written beside it.")
@click.option("--sigfile", "-s", metavar="SIG", help="Another name for the .sig file.")
@click.option(
    "--date", default="0000-00-00", show_default=True, metavar="YYYY-MM-DD", help="The date in the SIGSTRUCT."
)
@click.option("--chroot", "-c", metavar="DIR", help="The directory that file URIs are inside of.")
@click.option("--libsysdb", metavar="PATH", help="The default of loader.entrypoint.")
@click.option("--profile", default="v1.8", show_default=True, help="How the Gramine release writes: v1.5, v1.6, v1.8.")
@click.option("--depfile", metavar="FILE", help="As in gramine-sgx-sign.")
@click.option("--passphrase", "-p", metavar="TEXT", help="As in gramine-sgx-sign.")
@click.option("--verbose", "-v", is_flag=True, help="Print the memory map too.")
@click.option("--request", metavar="FILE", help="Write what a key elsewhere has to sign, instead of signing.")
@click.option("--attach", metavar="FILE", help="Attach a signature that was made elsewhere.")
def sign(out: Output, bundle: str | None, **options: Any) -> int:
    """Write manifest.sgx and SIGSTRUCT, both or none."""
    for name in ("depfile", "passphrase", "request", "attach"):
        refuse_option(f"--{name}", options[name])
    if bundle is not None:
        raise UsageError(
            "cli.option.unavailable", "sign BUNDLE is not available in this version", hint="see CHANGELOG.md"
        )
    return _sign_manifest(out, options)


def _sign_manifest(out: Output, options: dict[str, Any]) -> int:
    from glasscase.gramine.elf import PAL_MAX
    from glasscase.gramine.expand import sgx_manifest
    from glasscase.gramine.manifest import MANIFEST_MAX
    from glasscase.measure.mrenclave import measure as measure_bytes
    from glasscase.sgx.sigstruct import parse_date, sign_sigstruct

    for name in ("manifest", "libpal", "key", "output"):
        if options[name] is None:
            raise UsageError("cli.usage.wrong", f"sign needs a BUNDLE, or --{name}", hint="glasscase sign --help")
    parse_date(options["date"])
    sig_path = options["sigfile"] or _sig_path(options["output"])
    if os.path.abspath(sig_path) == os.path.abspath(options["output"]):
        raise UsageError("cli.usage.wrong", f"--output and the .sig file are both {sig_path!r}")
    libpal = read_argument(options["libpal"], max_bytes=PAL_MAX, what="libpal.so")
    manifest_sgx = sgx_manifest(
        read_argument(options["manifest"], max_bytes=MANIFEST_MAX, what="manifest"),
        directory=os.getcwd(),
        chroot=options["chroot"],
        libsysdb=options["libsysdb"] or _installed_libsysdb(options["libpal"]),
        series=options["profile"],
        on_skipped=lambda path: out.warn(f"neither file nor directory, not trusted: {path!r}"),
    )
    measurement = measure_bytes(manifest_sgx, libpal)
    key = read_argument(options["key"], max_bytes=_KEY_MAX, what="key")
    sigstruct = sign_sigstruct(_body(measurement, options["date"]), key)
    if measurement.attributes_flags & 2:
        out.warn("sgx.debug is true: anybody on the machine can read the memory of this enclave")
    _write_pair(options["output"], manifest_sgx, sig_path, sigstruct.to_bytes())
    text = _measurement_text(out, measurement) if options["verbose"] else f"MRENCLAVE {measurement.mrenclave.hex()}"
    text += f"\nMRSIGNER  {sigstruct.mrsigner.hex()}\nwrote     {options['output']}\nwrote     {sig_path}"
    out.result(_signed_value(sigstruct), text)
    return 0


def _two_files(bundle: str | None, manifest: str | None, libpal: str | None) -> tuple[bytes, bytes]:
    from glasscase.gramine.elf import PAL_MAX
    from glasscase.gramine.manifest import MANIFEST_MAX

    if bundle is not None and (manifest or libpal):
        raise UsageError("cli.usage.wrong", "give a BUNDLE, or --manifest and --libpal, not both")
    if bundle is not None:
        if os.path.exists(bundle) and not os.path.isdir(bundle):
            raise UsageError(
                "cli.usage.wrong",
                f"{bundle!r} is not the directory of a bundle",
                hint="for a manifest.sgx: glasscase measure --manifest M.sgx --libpal PAL",
            )
        manifest, libpal = os.path.join(bundle, _MANIFEST), os.path.join(bundle, _LIBPAL)
    if not manifest or not libpal:
        raise UsageError("cli.usage.wrong", "measure needs a BUNDLE, or --manifest and --libpal")
    return (
        read_argument(manifest, max_bytes=MANIFEST_MAX, what="manifest"),
        read_argument(libpal, max_bytes=PAL_MAX, what="libpal.so"),
    )


def _sig_path(output: str) -> str:
    for suffix in (".manifest.sgx", ".sgx"):
        if output.endswith(suffix) and os.path.basename(output) != suffix:
            return output[: -len(suffix)] + ".sig"
    return output + ".sig"


def _installed_libsysdb(libpal: str) -> str | None:
    """Return the libsysdb.so of the installation that libpal.so lies in: .../gramine/{libsysdb.so,sgx/libpal.so}."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(libpal))), "libsysdb.so")
    return path if os.path.isfile(path) else None


def _body(measurement: "Measurement", date: str) -> Any:
    from glasscase.sgx.sigstruct import SigstructBody

    return SigstructBody(
        mrenclave=measurement.mrenclave,
        attributes_flags=measurement.attributes_flags,
        xfrm=measurement.xfrm,
        xfrm_mask=measurement.xfrm_mask,
        misc_select=measurement.misc_select,
        isv_prod_id=measurement.isv_prod_id,
        isv_svn=measurement.isv_svn,
        date=date,
    )


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


def _signed_value(sigstruct: "Sigstruct") -> dict[str, Any]:
    return {
        "mrenclave": sigstruct.mrenclave.hex(),
        "mrsigner": sigstruct.mrsigner.hex(),
        "isv_prod_id": sigstruct.isv_prod_id,
        "isv_svn": sigstruct.isv_svn,
        "attributes": sigstruct.attributes_flags,
        "xfrm": sigstruct.xfrm,
        "date": sigstruct.date,
    }


def _measurement_text(out: Output, measurement: "Measurement") -> str:
    rows = [f"MRENCLAVE {out.paint(measurement.mrenclave.hex(), 'bold')}"]
    rows.append(
        f"{measurement.pages_measured:,} pages measured of {measurement.pages_added:,} added, "
        f"enclave of {measurement.enclave_size >> 20:,} MiB, {measurement.max_threads} threads"
    )
    for area in measurement.areas:
        state = "measured" if area.measured else "added only"
        rows.append(f"  {area.start:#014x}..{area.start + area.size:#014x} {area.permissions} {area.name:<9} {state}")
    return "\n".join(rows)
