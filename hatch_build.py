"""Build glasscase._native, the C core, as an abi3 extension while hatchling makes the wheel.

Invariants: the declarations come from the public headers themselves, so they cannot drift; the same sources, compiler and
libraries give the same bytes in any directory.
"""

import os
import re
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import cffi
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EPOCH = "1580601600"  # the time of every file in wheel and sdist, whatever the environment says
ABI3_FLOOR = "0x030b0000"  # CPython 3.11, as requires-python says
MODULE = "glasscase._native"
REGION = re.compile(r"/\* cffi: begin \*/(.*?)/\* cffi: end \*/", re.DOTALL)


def declarations(headers: list[Path]) -> str:
    """Return the text between the cffi marks of the public headers, in the order given, without attribute macros."""
    parts = []
    for header in headers:
        for region in REGION.findall(header.read_text(encoding="utf-8")):
            parts.append(re.sub(r"\bGLASS_MUST_USE\b", "", region))
    return "\n".join(parts)


def ordered_headers(include: Path) -> list[Path]:
    """Return the public headers, each after those that it includes."""
    done: list[Path] = []

    def visit(header: Path) -> None:
        if header in done:
            return
        for name in re.findall(r'#include "(glass_\w+\.h)"', header.read_text(encoding="utf-8")):
            visit(include / name)
        done.append(header)

    for header in sorted(include.glob("glass_*.h")):
        visit(header)
    return done


def compile_native(root: Path, target: Path) -> None:
    """Write the extension module to `target`; raises subprocess.CalledProcessError if the compiler fails."""
    native = root / "native"
    headers = ordered_headers(native / "include")
    ffi = cffi.FFI()
    ffi.cdef(declarations(headers))
    includes = "\n".join(f'#include "{header.name}"' for header in headers)
    ffi.set_source(MODULE, includes, py_limited_api=True)
    with tempfile.TemporaryDirectory() as work:
        glue = Path(work) / "glue.c"
        ffi.emit_c_code(str(glue))
        flags = shlex.split((native / "cflags").read_text(encoding="utf-8"))
        compiler = shlex.split(os.environ.get("CC", "cc"))
        common = [f"-ffile-prefix-map={root}=.", f"-ffile-prefix-map={work}=.", "-g0", f"-I{native / 'include'}"]
        quiet = [flag for flag in flags if not flag.startswith("-W")]
        sources = sorted((native / "src").glob("*.c")) + sorted((native / "intel").glob("*.c"))
        objects = []
        for source in sources:
            built = Path(work) / (source.parent.name + "_" + source.stem + ".o")
            subprocess.run([*compiler, *flags, *common, "-c", str(source), "-o", str(built)], check=True)
            objects.append(str(built))
        built = Path(work) / "glue.o"
        python = [f"-I{sysconfig.get_path('include')}", f"-DPy_LIMITED_API={ABI3_FLOOR}"]
        errors = ["-Werror=incompatible-pointer-types"]
        subprocess.run([*compiler, *quiet, *common, *python, *errors, "-c", str(glue), "-o", str(built)], check=True)
        link = ["-shared", "-pthread", "-Wl,-z,relro,-z,now,-z,noexecstack", "-Wl,--build-id=none", "-s"]
        script = f"-Wl,--version-script={native / 'exports.map'}"
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [*compiler, *link, script, *objects, str(built), "-lcrypto", "-ldl", "-o", str(target)], check=True
        )


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compile the core and put it and the pins of reproducible/ into the wheel; an sdist gets its fixed time only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile for a standard wheel into a temporary place, for an editable one into src/glasscase."""
        os.environ["SOURCE_DATE_EPOCH"] = EPOCH
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        pins = {str(root / "reproducible" / "runtime"): "glasscase/_pins/runtime"}
        if version == "editable":
            target = root / "src" / "glasscase" / "_native.abi3.so"
        else:
            target = Path(self.directory) / ".native" / "_native.abi3.so"
            build_data["force_include"][str(target)] = "glasscase/_native.abi3.so"
            build_data["force_include"].update(pins)
        compile_native(root, target)
        target.chmod(0o755)
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
