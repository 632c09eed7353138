"""How long a FastAPI example takes to build and check from a warm cache: limit 5 s for the build.

The lock is made once (network); then `glasscase build` runs as a new process. Beside it: the bytes of the wheels unpacked by
zipfile alone, the floor for any builder that unpacks them.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 5.0  # seconds


def timed(command: list[str], runs: int, **options: object) -> float:
    """Return the best wall time of a command."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, **options)
        best = min(best, time.perf_counter() - start)
    return best


def unpack(cache: Path, target: Path) -> float:
    """Return the time that zipfile needs for the same wheels."""
    start = time.perf_counter()
    for path in cache.iterdir():
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(target)
    return time.perf_counter() - start


def main(arguments: list[str]) -> int:
    """Print one JSON object; exit 1 above the limit."""
    parser = argparse.ArgumentParser(prog="bench/build.py")
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args(arguments).runs
    with tempfile.TemporaryDirectory(prefix="glasscase-bench-") as name:
        work = Path(name)
        environment = os.environ | {"GLASSCASE_CACHE": str(work / "cache"), "GLASSCASE_DATA": str(work / "data")}
        base = [sys.executable, "-m", "glasscase"]
        project = work / "project"
        shutil.copytree(ROOT / "examples" / "fastapi-fraud", project)
        (project / "keys").mkdir(exist_ok=True)
        for kind, key in (("package", "package.key"), ("owner", "owner")):
            subprocess.run(
                [*base, "keygen", "--kind", kind, "-o", f"keys/{key}", "-q"],
                cwd=project,
                check=True,
                env=environment,
                stdout=sys.stderr,
            )
        subprocess.run([*base, "lock", "-q"], cwd=project, check=True, env=environment, stdout=sys.stderr)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        build = timed([*base, "build", "-q", "-o", str(work / "out.bundle")], runs, cwd=project, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / runs
        measure = timed([*base, "measure", str(work / "out.bundle"), "--json"], runs, cwd=project, env=environment)
        index = json.loads((work / "out.bundle" / "bundle.json").read_bytes())
        floor = unpack(work / "cache" / "inputs", work / "unpacked")
    result = {
        "files": len(index["files"]),
        "bytes": sum(file["size"] for file in index["files"]),
        "build_s": round(build, 3),
        "build_cpu_s": round(cpu, 3),
        "limit_s": LIMIT,
        "measure_s": round(measure, 3),
        "zipfile_unpack_s": round(floor, 3),
    }
    print(json.dumps(result))
    return 0 if build <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
