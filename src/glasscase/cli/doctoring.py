"""The verb `doctor`."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, escape, verb

if TYPE_CHECKING:
    from glasscase.bundle.index import Bundle
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
    from glasscase.bundle.index import open_bundle
    from glasscase.cli.places import data_dir_if_any, state_place
    from glasscase.hosting import backends
    from glasscase.hosting import doctor as hosting_doctor
    from glasscase.verify import intel

    data = data_dir_if_any() or Path("/nonexistent")
    imported = sorted((data / "runtimes").iterdir()) if (data / "runtimes").is_dir() else []
    found = None if bundle is None else open_bundle(bundle)
    of_bundle = imported if found is None else [backends.runtime_directory(data, found.index.runtime)]
    machine = hosting_doctor.Machine(
        root=Path("/"),
        state_directory=state_place(),
        runtimes=tuple(path.name for path in imported),
        now=int(time.time()),
        clock_state=hosting_doctor.clock_state(),
        probe=hosting_doctor.probe_tcp,
        verifier=intel.found,
        direct=any(map(backends.has_direct, of_bundle)),
    )
    items = hosting_doctor.examine(machine, None if found is None else _needs(found))
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


def _needs(bundle: "Bundle") -> "Needs":
    """Return what a bundle needs, as it says itself; run and verify check that it is true."""
    from glasscase.bundle.index import CONFIG
    from glasscase.config.enclave import MAX_BYTES, EnclaveConfig
    from glasscase.fs.atomic import read_file
    from glasscase.hosting.doctor import Needs

    config = EnclaveConfig.from_bytes(
        read_file(os.path.join(bundle.path, CONFIG), max_bytes=MAX_BYTES, what="enclave.cbor")
    )
    return Needs(
        enclave_size=config.gramine.size_bytes,
        disk=0,
        edmm=config.gramine.edmm,
        epoch=config.build_epoch,
        runtime=bundle.index.runtime.name,
        path=bundle.path,
    )
