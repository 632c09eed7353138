"""The verbs `export` and `import`: bundles as a canonical tar or an OCI image layout."""

import os
import sys

import click

from glasscase.cli.output import Output, refuse_given, verb
from glasscase.errors import UsageError


@verb("export", help="Write a bundle as canonical tar or as OCI image layout, after checking it in full.")
@click.argument("bundle", metavar="BUNDLE", type=click.Path())
@click.option(
    "--tar", "tar", metavar="FILE", type=click.Path(), help="Write one tar: the same bytes for the same bundle."
)
@click.option(
    "--oci", "oci", metavar="DIR", type=click.Path(), help="Write a new directory, which skopeo, oras and crane read."
)
@click.option("--tag", metavar="TAG", default="latest", show_default=True, help="The reference name in the OCI layout.")
def export(out: Output, bundle: str, *, tar: str | None, oci: str | None, tag: str) -> int:
    """Export, and say under which digest."""
    from glasscase.bundle.transport import export_oci, export_tar

    if (tar is None) == (oci is None):
        raise UsageError("cli.usage.wrong", "export writes one form: --tar FILE or --oci DIR", hint="name exactly one")
    if tar is not None:
        refuse_given("tag", because="is for --oci")
    made = export_tar(bundle, tar) if tar is not None else export_oci(bundle, oci or "", tag=tag)
    value = {
        "bundle_id": made.bundle_id.hex(),
        "form": "tar" if tar is not None else "oci",
        "output": tar or oci,
        "digest": f"sha256:{made.digest.hex()}",
        "bytes": made.size,
    }
    out.result(value, f"bundle    sha256:{value['bundle_id']}\nwrote     {value['output']} ({value['digest']})")
    return 0


@verb(
    "import", help="Read a bundle from a canonical tar or an OCI image layout; it appears only if all of it is right."
)
@click.argument("source", metavar="SOURCE", type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="BUNDLE",
    type=click.Path(),
    help="Where the bundle goes [default: the name of SOURCE, .bundle].",
)
@click.option(
    "--reference",
    metavar="REF",
    help="Digest (sha256:...) or tag of the bundle in an OCI layout [default: the only one].",
)
def import_(out: Output, source: str, *, output: str | None, reference: str | None) -> int:
    """Import, and say what it is."""
    from glasscase.bundle.transport import import_oci, import_tar
    from glasscase.cli.pinned import trusted_pins
    from glasscase.fs.atomic import storage_error

    if source == "-" and output is None:
        raise UsageError("cli.usage.wrong", "a bundle from stdin has no name yet", hint="-o NAME.bundle")
    name = os.path.basename(os.path.abspath(source)).removesuffix(".tar").removesuffix(".oci")
    target = (name if name.endswith(".bundle") else f"{name}.bundle") if output is None else output
    digest = None
    if os.path.isdir(source):
        checked, digest = import_oci(source, target, reference=reference, runtimes=trusted_pins())
    elif reference is not None:
        raise UsageError("cli.usage.wrong", "--reference is for OCI layouts", hint="a tar holds one bundle")
    elif source == "-":
        checked = import_tar(sys.stdin.buffer, target, runtimes=trusted_pins())
    else:
        try:
            with open(source, "rb") as file:
                checked = import_tar(file, target, runtimes=trusted_pins())
        except OSError as error:
            raise storage_error(error, source) from None
    value = {
        "bundle": target,
        "bundle_id": checked.bundle.id.hex(),
        "mrenclave": checked.measurement.mrenclave.hex(),
        "signed": checked.sigstruct is not None,
        "insecure": list(checked.insecure),
        "problems": [problem.id for problem in checked.problems],
    }
    lines = [f"MRENCLAVE {value['mrenclave']}", f"bundle    sha256:{value['bundle_id']}", f"wrote     {target}"]
    if digest is not None:
        value["digest"] = digest
        lines.insert(0, f"manifest  {digest}")
    for problem in checked.problems:
        out.warn(f"{problem.text} [{problem.id}]")
    out.result(value, "\n".join(lines))
    return 0
