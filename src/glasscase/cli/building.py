"""The verb `build`."""

import contextlib
import os
from collections.abc import Iterator

import click

from glasscase.cli.output import Output, verb
from glasscase.errors import StorageError, UsageError


@verb("build", help="Build the bundle from project, lock and keys, and print its MRENCLAVE.")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="BUNDLE",
    type=click.Path(),
    help="Where the bundle goes; an older one there is replaced [default: DIR/dist/NAME.bundle].",
)
@click.option("--runtime", "runtime_name", metavar="NAME", help="The Gramine runtime [default: the project's].")
@click.option("--size", metavar="S", help="Enclave size, a power of two like 512M [default: the project's].")
@click.option(
    "--jobs", metavar="N", type=click.IntRange(1, 64), help="Threads that encrypt [default: one for each processor]."
)
@click.option(
    "--package-key",
    metavar="FILE",
    type=click.Path(),
    help="Key that encrypts code and models [default: the project's].",
)
@click.option(
    "--owner",
    "owners",
    metavar="FILE.pub",
    multiple=True,
    type=click.Path(),
    help="Public key of an owner, who may provision; repeatable [default: the project's].",
)
@click.option("--no-record", is_flag=True, help="Do not add this build to the ledgers of releases.")
@click.option(
    "--private",
    metavar="FILE",
    type=click.Path(),
    help="Write paths and digests of the encrypted files (0600): keep it.",
)
def build(
    out: Output, directory: str, *, output: str | None, runtime_name: str | None, size: str | None, jobs: int | None,
    package_key: str | None, owners: tuple[str, ...], private: str | None, no_record: bool,
) -> int:  # fmt: skip
    """Build, and say what the bundle is."""
    from glasscase.bundle.apart import require_output_apart, require_outside
    from glasscase.bundle.build import BuildOptions, private_document
    from glasscase.bundle.build import build as build_bundle
    from glasscase.bundle.project import load_project
    from glasscase.cli.pinned import input_cache, runtime_named
    from glasscase.cli.releases import record_release
    from glasscase.fs.atomic import atomic_file

    project = load_project(directory)
    if private is not None and not project.app.encrypt:
        raise UsageError("bundle.app.clear", "the application is in clear, so there is nothing private to write down")
    dist = os.path.join(directory, "dist")
    made = _made_for(dist) if output is None else contextlib.nullcontext()
    output = os.path.join(dist, f"{project.app.name}.bundle") if output is None else output
    if private is not None:
        require_output_apart(private, directory, project)
        require_outside(private, output)
    with made, contextlib.nullcontext() if private is None else atomic_file(private, mode=0o600) as kept:
        result = build_bundle(
            directory,
            output,
            runtime=runtime_named(project.enclave.runtime if runtime_name is None else runtime_name),
            cache=input_cache(),
            options=BuildOptions(size=size, jobs=jobs or 0, package_key=package_key, owners=owners, say=out.say),
            overwrite=True,
        )
        if kept is not None:
            kept.write(private_document(result))
    if not no_record:
        try:
            record_release(
                directory,
                bundle_id=result.bundle_id,
                mrenclave=result.measurement.mrenclave,
                isv_svn=project.enclave.isv_svn,
            )
        except StorageError as error:
            error.message = f"{output!r} is complete, but not every ledger has its release: {error.message}"
            error.hint = f"{error.hint or 'mend that'}; then build again, or with --no-record"
            raise
    value = {
        "bundle": output,
        "bundle_id": result.bundle_id.hex(),
        "mrenclave": result.measurement.mrenclave.hex(),
        "files": result.files,
        "bytes": result.size,
        "insecure": list(result.index.insecure),
    }
    lines = [
        f"MRENCLAVE {result.measurement.mrenclave.hex()}",
        f"bundle    sha256:{result.bundle_id.hex()}",
        f"files     {result.files:,} files, {result.size:,} bytes",
        f"wrote     {output}",
    ]
    if result.index.insecure:
        lines.append(f"insecure  {', '.join(result.index.insecure)}")
    if "simulated" in result.index.insecure:
        lines.append("SIMULATED runtime: this enclave cannot run on hardware")
    out.result(value, "\n".join(lines))
    return 0


@contextlib.contextmanager
def _made_for(folder: str) -> Iterator[None]:
    """Make a folder if it is not there, for the block; without it again if the block fails and it is still empty."""
    made = not os.path.isdir(folder)
    if made:
        os.mkdir(folder)
    try:
        yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise
