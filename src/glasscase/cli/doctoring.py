"""The verb `doctor`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, escape, verb

if TYPE_CHECKING:
    from glasscase.hosting.doctor import Needs

BACKENDS = ("gramine-sgx", "gramine-direct", "simulator")
COLORS = {"PASS": "green", "WARN": "yellow", "FAIL": "red", "UNKNOWN": "yellow"}


@verb(
    "doctor", help="Say what this machine has and lacks for enclaves, and what a bundle needs of it; changes nothing."
)
@click.option("--bundle", metavar="B", type=click.Path(), help="Say too what this bundle needs of the machine.")
@click.option("--require", type=click.Choice(BACKENDS), help="Exit 4 if this backend cannot work here.")
def doctor(out: Output, bundle: str | None, require: str | None) -> int:
    """Print one line for each item."""
    from glasscase.cli.places import data_dir, state_dir
    from glasscase.hosting import doctor as hosting_doctor
    from glasscase.verify import intel

    runtimes = data_dir() / "runtimes"
    machine = hosting_doctor.Machine(
        root=Path("/"),
        state_directory=state_dir(),
        runtimes=tuple(sorted(path.name for path in runtimes.iterdir())) if runtimes.is_dir() else (),
        now=int(time.time()),
        clock_state=hosting_doctor.clock_state(),
        probe=hosting_doctor.probe_tcp,
        verifier=intel.found,
    )
    items = hosting_doctor.examine(machine, None if bundle is None else _needs(bundle))
    sgx = hosting_doctor.can(items, "gramine-sgx")
    lines = []
    for item in items:
        remedy = f"  -> {item.remedy}" if item.remedy else ""
        lines.append(
            f"{out.paint(f'{item.outcome:<7}', COLORS[item.outcome])} {item.name:<15} {escape(item.observed)}{remedy}"
        )
    if sgx:
        lines.append("this machine can run enclaves: glasscase run BUNDLE --name NAME")
    else:
        lines.append("no SGX to use here; everything but the hardware works with --backend simulator (SIMULATED)")
    can = {backend: hosting_doctor.can(items, backend) for backend in BACKENDS}
    out.result({"sgx": sgx, "backends": can, "items": [item.to_json() for item in items]}, "\n".join(lines))
    return exitcodes.IO if require is not None and not can[require] else exitcodes.OK


def _needs(bundle: str) -> "Needs":
    """Return what a bundle needs, as it says itself; run and verify check that it is true."""
    import os

    from glasscase.bundle.index import CONFIG, open_bundle
    from glasscase.config.enclave import MAX_BYTES, EnclaveConfig
    from glasscase.fs.atomic import read_file
    from glasscase.hosting.doctor import Needs

    found = open_bundle(bundle)
    config = EnclaveConfig.from_bytes(read_file(os.path.join(bundle, CONFIG), max_bytes=MAX_BYTES, what="enclave.cbor"))
    return Needs(
        enclave_size=config.gramine.size_bytes,
        disk=0,
        edmm=config.gramine.edmm,
        epoch=config.build_epoch,
        runtime=found.index.runtime.name,
        path=bundle,
    )
