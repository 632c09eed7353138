"""The verbs `measure` and `sign`."""

from typing import TYPE_CHECKING, Any

import click

from glasscase.cli.output import Output, refuse_given, verb
from glasscase.cli.reading import bundle_files, read_argument
from glasscase.errors import UsageError

if TYPE_CHECKING:
    from glasscase.measure.mrenclave import Measurement


@verb("measure", help="Recompute MRENCLAVE from the bytes of a bundle, or of manifest.sgx and libpal.so alone.")
@click.argument("bundle", required=False)
@click.option("--manifest", metavar="M.sgx", help="Measure this manifest.sgx instead of a bundle; with --libpal.")
@click.option("--libpal", metavar="PAL", help="The libpal.so that belongs to the manifest.")
@click.option("--explain", is_flag=True, help="Name the origin of every trusted file of the bundle.")
def measure(out: Output, bundle: str | None, manifest: str | None, libpal: str | None, explain: bool) -> int:  # noqa: FBT001
    """Print MRENCLAVE and the areas of memory."""
    from glasscase.measure.document import measurement_document
    from glasscase.measure.mrenclave import measure as measure_bytes

    if explain and bundle is None:
        raise UsageError("cli.usage.wrong", "--explain needs a BUNDLE: a manifest alone names no packages")
    manifest_sgx, pal = _two_files(bundle, manifest, libpal)
    measurement = measure_bytes(manifest_sgx, pal)
    value = measurement_document(measurement)
    text = _measurement_text(out, measurement)
    if explain:
        value["explain"], lines = _explained(bundle)
        text += "\n" + "\n".join(lines)
    out.result(value, text)
    return 0


@verb("sign", help="Sign a bundle; or expand and sign a manifest, with the options of gramine-sgx-sign.")
@click.argument("bundle", required=False)
@click.option("--manifest", "-m", metavar="M", help="The manifest to expand and sign, instead of a bundle.")
@click.option("--libpal", "-l", metavar="PAL", help="The libpal.so that will run it.")
@click.option("--key", "-k", metavar="PEM", help="RSA-3072 private key with exponent 3; with --attach its public key.")
@click.option("--output", "-o", metavar="M.sgx", help="Where manifest.sgx goes; M.sig is written beside it.")
@click.option("--sigfile", "-s", metavar="SIG", help="Where the .sig file goes [default: M.sig beside M.sgx].")
@click.option(
    "--date", default="0000-00-00", show_default=True, metavar="YYYY-MM-DD", help="The date in the SIGSTRUCT."
)
@click.option(
    "--chroot",
    "-c",
    metavar="DIR",
    help="Directory that stands for / in the URIs of trusted files [default: none, relative ones are below the current directory].",
)
@click.option(
    "--libsysdb",
    metavar="PATH",
    help="loader.entrypoint of a manifest without one [default: the libsysdb.so of PAL's installation].",
)
@click.option(
    "--profile",
    metavar="PROFILE",
    default="v1.8",
    show_default=True,
    help="How the Gramine release writes manifests: v1.5, v1.6 or v1.8.",
)
@click.option("--depfile", metavar="FILE", help="Write what the output depends on, as a rule of make.")
@click.option("--passphrase-file", metavar="FILE", help="The passphrase of an encrypted key (0600, or /dev/fd/N).")
@click.option("--passphrase", "-p", metavar="TEXT", help="Refused: every process sees a command line.")
@click.option("--verbose", "-v", is_flag=True, help="Show the memory map too.")
@click.option(
    "--request", metavar="FILE", help="Sign nothing; write to FILE the 256 bytes that a key elsewhere has to sign."
)
@click.option("--attach", metavar="FILE", help="Take the signature from FILE: 384 bytes, PKCS#1 v1.5 with SHA-256.")
def sign(out: Output, bundle: str | None, **options: Any) -> int:
    """Write manifest.sgx and SIGSTRUCT, both or none; of a bundle the SIGSTRUCT alone."""
    from glasscase.cli import signing

    if options["passphrase"] is not None:
        raise UsageError(
            "sgx.passphrase.exposed", "every process of this machine sees a passphrase on the command line",
            hint="--passphrase-file FILE, or --passphrase-file <(COMMAND)",
        )  # fmt: skip
    request = signing.Request(
        **{name: options[name] for name in ("key", "date", "request", "attach", "passphrase_file")}
    )
    if bundle is not None:
        for name in ("manifest", "libpal", "output", "sigfile", "chroot", "libsysdb", "depfile"):
            if options[name] is not None:
                raise UsageError(
                    "cli.usage.wrong", f"give a BUNDLE or --{name}, not both", hint="glasscase sign --help"
                )
        refuse_given("profile", because="is for a manifest: a bundle names its own")
        measurement = signing.sign_bundle(out, bundle, request)
    else:
        measurement = signing.sign_manifest(out, options, request)
    if options["verbose"]:
        out.say(_measurement_text(out, measurement))
    return 0


def _two_files(bundle: str | None, manifest: str | None, libpal: str | None) -> tuple[bytes, bytes]:
    from glasscase.gramine.elf import PAL_MAX
    from glasscase.gramine.manifest import MANIFEST_MAX

    if bundle is not None and (manifest or libpal):
        raise UsageError("cli.usage.wrong", "give a BUNDLE, or --manifest and --libpal, not both")
    if bundle is not None:
        manifest, libpal = bundle_files(bundle)
    if not manifest or not libpal:
        raise UsageError("cli.usage.wrong", "measure needs a BUNDLE, or --manifest and --libpal")
    return (
        read_argument(manifest, max_bytes=MANIFEST_MAX, what="manifest"),
        read_argument(libpal, max_bytes=PAL_MAX, what="libpal.so"),
    )


def _explained(bundle: str | None) -> tuple[dict[str, Any], list[str]]:
    """Return the origins of the trusted files as JSON and as lines."""
    from glasscase.bundle.index import open_bundle
    from glasscase.bundle.origin import KINDS, coverage
    from glasscase.cli.pinned import origins_of

    found = origins_of(open_bundle(str(bundle)))
    by_files, by_bytes = coverage(found)
    value = {
        "coverage": {"files_percent": round(by_files, 2), "bytes_percent": round(by_bytes, 2)},
        "files": [
            {
                "path": file.path,
                "sha256": file.sha256.hex(),
                "origin": file.kind,
                "package": file.package,
                "version": file.version,
            }
            for file in found
        ],
        "unexplained": [file.path for file in found if file.kind == "unexplained"],
    }
    lines = [f"{len(found):,} trusted files, {by_files:.1f} % of them and {by_bytes:.1f} % of the bytes explained"]
    for kind in KINDS:
        packages: dict[str, list[int]] = {}
        for file in found:
            if file.kind == kind:
                packages.setdefault(file.source, []).append(file.size)
        lines += [f"  {source:<48} {len(sizes):>6} files {sum(sizes):>13,} bytes" for source, sizes in packages.items()]
    lines += [f"  unexplained: {path}" for path in value["unexplained"]]
    return value, lines


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
