"""The program in the shape that Gramine gives it: a root of its own, the manifest's argv and environment, fixed paths.

No word of argv speaks of a simulator, so there is no library beside the import table: the whole standard library is listed, and
/dev/attestation, /instance and /run/glasscase are where the manifest mounts them. System calls that Gramine lacks are refused.
Only the processor is missing.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glasscase.bundle.imports import import_table
from glasscase.config.enclave import GramineOptions
from glasscase.gramine.manifest import TrustedFile, bundle_manifest, parse_manifest

from .conftest import SITE, Enclave, make_config, wheel_files

GRAMINE = GramineOptions("v1.8", "512M", 32, 1, 3)
PREFIX = Path(sys.base_prefix)
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
STAND_IN = Path(__file__).resolve().parents[2] / "e2e/gramine_direct.py"
SCRIPT = """
set -eu
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind "$PREFIX" "$root/usr"
mount --bind "$SITE" "$root/opt/site"
mount --bind "$INSTANCE" "$root/instance"
mount --bind "$DEVICE" "$root/dev/attestation"
mount -t tmpfs none "$root/tmp"
mount -t tmpfs none "$root/run/glasscase"
for name in urandom null; do : > "$root/dev/$name"; mount --bind /dev/$name "$root/dev/$name"; done
mount -o remount,bind,ro "$root"
exec env -i $ENVIRONMENT "$PYTHON" -I "$STAND_IN" --withhold /usr/sbin/chroot "$root" "$@"
"""


def can_unshare():
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return done.returncode == 0


def shared_libraries():
    """Return the shared libraries that the interpreter, its extension modules and the wheels need."""
    objects = [PREFIX / "bin" / VERSION, *(PREFIX / "lib" / VERSION / "lib-dynload").glob("*.so")]
    objects += [SITE / path for path in wheel_files() if path.endswith(".so")]
    told = subprocess.run(["ldd", *objects], capture_output=True, text=True, check=False).stdout
    return {Path(match) for match in re.findall(r"=> (/\S+\.so\S*) \(", told)}


class Shaped(Enclave):
    """An enclave in a root of its own."""

    def prepare(self, site_paths):
        """Make the mount points and the table of everything, the standard library too."""
        for name in ("usr", "lib", "lib64", "instance", "dev/attestation", "tmp", "run/glasscase"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/lib64/ld-linux-x86-64.so.2").resolve(), self.root / "lib64/ld-linux-x86-64.so.2")
        for needed in shared_libraries():
            shutil.copy(needed.resolve(), self.root / "lib" / needed.name)
        (self.root / "opt/site").unlink()
        (self.root / "opt/site").mkdir()
        library = PREFIX / "lib" / VERSION
        paths = [
            f"rootfs/usr/lib/{VERSION}/{path.relative_to(library)}"
            for path in library.rglob("*.[ps][yo]")
            if not {"__pycache__", "site-packages", "test", "tests", "idlelib", "lib2to3"} & set(path.parts)
        ]
        ours = ["rootfs/opt/glasscase/main.py", "rootfs/opt/glasscase/enclave.cbor", "rootfs/app/demo.py"]
        self.table.write_bytes(import_table([*ours, *site_paths, *paths]))

    def argv(self):
        text = bundle_manifest(
            self.config, [TrustedFile("file:rootfs/opt/glasscase/main.py", bytes(32))], libsysdb_sha256=bytes(32),
            python=f"/usr/bin/{VERSION}",
        )  # fmt: skip
        manifest = parse_manifest(text)
        loader = manifest["loader"]
        self.launched = (manifest["libos"]["entrypoint"], loader["argv"], loader["env"])
        script = self.folder / "enter.sh"
        variables = " ".join(shlex.quote(f"{name}={value}") for name, value in loader["env"].items())
        script.write_text(SCRIPT.replace("$ENVIRONMENT", variables))
        outside = [f"PREFIX={PREFIX}", f"SITE={SITE}", f"INSTANCE={self.instance}"]
        outside += [f"PYTHON={sys.executable}", f"STAND_IN={STAND_IN}"]
        outside += [f"DEVICE={self.folder / 'sim'}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        entry = [manifest["libos"]["entrypoint"], *loader["argv"][1:]]
        return ["/usr/bin/env", "-i", *outside, "unshare", "-m", "sh", str(script), str(self.root), *entry]


@pytest.mark.skipif("LATE_CLOCK_S" in os.environ, reason="the environment is the manifest's: the clock cannot be moved")
@pytest.mark.skipif(not can_unshare(), reason="mount namespaces are not allowed here")
@pytest.mark.skipif(not (PREFIX / "bin" / VERSION).exists(), reason="the interpreter lies elsewhere")
def test_the_program_runs_as_gramine_would_run_it(tmp_path, site_paths, platform):
    """With the manifest's argv and fixed paths it boots, is provisioned, serves and stops."""
    one = Shaped(tmp_path, site_paths, platform, config=make_config(gramine=GRAMINE))
    one.prepare(site_paths)
    try:
        one.start()
        assert ["-I", "-S", "-B", "-u", "-X", "utf8", "/opt/glasscase/main.py"] == one.launched[1][1:]
        one.serve()
        assert (200, b"s3cret-canary") == one.ask("GET", "/secret")
        assert 200 == one.ask("POST", "/quote", b"x")[0]
        assert "serving" == json.loads(one.well_known("GET", "status")[1])["state"]
        assert 0 == one.stop()
        assert "stopped" == one.status_file()["state"]
    finally:
        one.close()
