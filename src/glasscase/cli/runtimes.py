"""The verb `runtime`: import a Gramine runtime, list the known ones."""

import os
from typing import Any

import click

from glasscase.cli.output import Output, verb


@click.group("runtime", help="Import a Gramine runtime and show the known ones.")
def runtime() -> None:
    """Group the two commands."""


@verb(
    "import",
    help="Copy and pin the runtime of an installed Gramine, an unpacked tree, a bundle's runtime/, or a .deb.",
    short_help="Copy and pin a Gramine runtime.",
)
@click.argument("path")
@click.option("--name", metavar="NAME", help="What projects call it [default: gramine-VERSION].")
@click.option("--version", metavar="VERSION", help="Version of Gramine, like 1.9 [default: that of the .deb].")
@click.option("--commit", metavar="ID", help="Commit of Gramine's sources, 40 hex digits, for the record.")
@click.option(
    "--profile",
    "series",
    metavar="PROFILE",
    help="How this release writes manifests: v1.6 or v1.8 [default: by version].",
)
def import_(out: Output, path: str, **options: Any) -> int:
    """Print the pin that was recorded. Importing means trusting: bundles with these files pass the check afterwards."""
    from glasscase.cli.pinned import runtimes_dir, trusted_pins
    from glasscase.errors import UsageError
    from glasscase.fs.atomic import write_file
    from glasscase.fs.directory import atomic_directory
    from glasscase.gramine.importing import import_runtime, pin_text

    imported = import_runtime(path, **options)
    pin = imported.pin
    if any(known.name == pin.name for known in trusted_pins()):
        raise UsageError("gramine.runtime.taken", f"there is a runtime {pin.name!r} already", hint="give --name NAME")
    with atomic_directory(runtimes_dir() / pin.name) as folder:
        for name, content in imported.files.items():
            target = os.path.join(folder, "files", name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write_file(
                target, content, mode=0o755 if name == "loader" or name.endswith("ld-linux-x86-64.so.2") else 0o644
            )
        for name, content in imported.direct.items():
            os.makedirs(os.path.join(folder, "direct"), exist_ok=True)
            write_file(os.path.join(folder, "direct", name), content, mode=0o755 if name == "loader" else 0o644)
        write_file(os.path.join(folder, "pin.toml"), pin_text(pin))
    libpal = next(file.sha256.hex() for file in pin.files if file.path == "libpal.so")
    value = _value(pin) | {"imported": True, "direct": bool(imported.direct)}
    text = f"runtime   {pin.name} (Gramine {pin.version}, {pin.profile}), {len(pin.files)} files\nlibpal.so {libpal}"
    out.result(value, text)
    if not imported.direct:
        out.say("note      there is no direct/loader: run --backend gramine-direct will not work with this runtime")
    out.say(f'next      runtime = "{pin.name}" in glasscase.toml, then glasscase lock --update')
    return 0


@verb(
    "list",
    help="List the runtimes that come with glasscase and those that were imported.",
    short_help="List the known runtimes.",
)
def list_(out: Output) -> int:
    """Print names, versions and the digest of libpal.so."""
    from glasscase.cli.pinned import imported_pins
    from glasscase.gramine.pins import known_pins

    rows = [_value(pin) | {"imported": False} for pin in known_pins()]
    rows += [_value(pin) | {"imported": True} for pin in imported_pins()]
    lines = [
        f"{row['name']:<24} {row['version']:<12} {row['profile']:<6} libpal.so {row['libpal']}"
        + ("  imported" if row["imported"] else "")
        for row in rows
    ]
    out.result({"runtimes": rows}, "\n".join(lines))
    return 0


runtime.add_command(import_)
runtime.add_command(list_)


def _value(pin: Any) -> dict[str, Any]:
    return {
        "name": pin.name,
        "version": pin.version,
        "commit": pin.commit,
        "profile": pin.profile,
        "libpal": next((file.sha256.hex() for file in pin.files if file.path == "libpal.so"), ""),
        "files": len(pin.files),
    }
