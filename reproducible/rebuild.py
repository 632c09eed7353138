"""Build things again under every variation of variations.toml and compare them byte by byte.

Usage: python reproducible/rebuild.py [--what small,fastapi-fraud,flask-hello,wheel,sdist,examples] [--only NAME,...] [--write]

small: a bundle of a project made here, without a network. fastapi-fraud, flask-hello: bundles of the
examples, locked once (network). wheel, sdist: glasscase itself. examples: all three example bundles from the locks in image/ and
fixed keys (network), against expected/examples.toml; comparable only with the wheel and toolchain that stand there, but
the trained model of an example always.
--write: put the digests of `small` or `examples` into expected/, and the locks of the examples into image/.
Exit 0 if all is the same and expected/ holds, 6 if anything differs.
"""

import argparse
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EXPECTED = HERE / "expected" / "small.toml"
EXPECTED_EXAMPLES = HERE / "expected" / "examples.toml"
IMAGE = HERE / "image"
EXAMPLES = ("fastapi-fraud", "flask-hello", "llm-safetensors")
MODEL_STEPS = "20"  # the model need not speak, only be trained and the same
EPOCH = 1_700_000_000  # build_epoch of the example bundles; a lock without Debian packages has the time it was made
DIFFERS = 6
NOBODY = 65534
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache", "*.so", ".nox"
)


def variations() -> list[dict]:
    """Return the variations, the baseline first."""
    return tomllib.loads((HERE / "variations.toml").read_text(encoding="utf-8"))["variation"]


def workshop(root: Path):
    """Return the small project of the tests, made in `root`."""
    path = ROOT / "tests" / "unit" / "bundle" / "conftest.py"
    spec = importlib.util.spec_from_file_location("workshop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.Workshop(root)
    made.edit("encrypt = false", "encrypt = true")
    return made


def prepare(what: str, work: Path) -> Path:
    """Make the sources of `what` once and return their directory."""
    source = work / "source"
    if what == "small":
        workshop(work)
        (work / "project").rename(source)
    elif what in ("wheel", "sdist"):
        shutil.copytree(ROOT, source, ignore=IGNORED)
    else:
        environment = os.environ | {"GLASSCASE_CACHE": str(work / "cache")}
        example_source(what, work).rename(source)
        subprocess.run([sys.executable, "-m", "glasscase", "lock", "-q"], cwd=source, check=True, env=environment)
    return source


def copy_tree(source: Path, target: Path, variation: dict) -> None:
    """Copy the sources in the order and with the times that the variation wants."""
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    if variation.get("order") == "reversed":
        paths.reverse()
    for path in paths:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copy.chmod(
            0o600
            if copy.suffix == ".key"
            else 0o755
            if os.access(path, os.X_OK) and path.stat().st_mode & 0o111
            else 0o644
        )
        if "mtime" in variation:
            os.utime(copy, (variation["mtime"], variation["mtime"]))


def interpreter_for_others() -> str | None:
    """Return a Python of this version with which another user can run glasscase, or None."""
    code = "import sys, glasscase._native; print(sys.version_info[:2])"
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [path, "-c", code],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": "/usr/bin:/bin", **packages_for(path)},
            )
        except OSError:
            continue
        if done.returncode == 0 and done.stdout.strip() == str(sys.version_info[:2]):
            return path
    return None


def packages_for(python: str) -> dict[str, str]:
    """Return the variables that let another interpreter than this one find what is installed here."""
    if python == sys.executable:
        return {}
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("-packages"))}


def command(what: str, target: Path, python: list[str], variation: dict) -> list[str]:
    """Return the argv that builds `what` from the sources in `target` into target/../out."""
    out = str(target.parent / "out")
    python = [*python, *variation.get("flags", [])]
    if what in ("wheel", "sdist"):
        return [*python, "-m", "build", f"--{what}", "--no-isolation", "-o", out, str(target)]
    jobs = ["--jobs", str(variation["jobs"])] if "jobs" in variation else []
    return [*python, "-m", "glasscase", "build", str(target), "-o", out, "-q", *jobs]


def run(what: str, source: Path, work: Path, variation: dict) -> dict[str, str] | None:
    """Build under one variation and return path -> digest with mode; None if another user cannot be had here."""
    python = sys.executable
    if variation.get("user") == "other":
        other = interpreter_for_others() if os.geteuid() == 0 else None
        if other is None:
            return None
        python = other
    base = work / f"run-{variation['name']}" / variation.get("directory", "here")
    base.mkdir(parents=True)
    copy_tree(source, base / "source", variation)
    environment = {name: value for name, value in os.environ.items() if name not in variation.get("unset", [])}
    environment |= variation.get("env", {}) | {
        "GLASSCASE_CACHE": str(work / "cache"),
        "GLASSCASE_DATA": str(base / "data"),
    }
    environment.setdefault("PATH", "/usr/bin:/bin")
    environment |= packages_for(python)
    options: dict = {"umask": variation.get("umask", 0o022)}
    if variation.get("user") == "other":
        for folder, names, files in os.walk(work):
            for name in [".", *names, *files]:
                os.chown(os.path.join(folder, name), NOBODY, NOBODY, follow_symlinks=False)
        options |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    done = subprocess.run(
        command(what, base / "source", [python], variation),
        env=environment,
        cwd=base,
        capture_output=True,
        check=False,
        **options,
    )
    if done.returncode:
        raise SystemExit(f"{what} under {variation['name']}: {done.stderr.decode(errors='replace')[-2000:]}")
    found = digests(base / "out")
    shutil.rmtree(work / f"run-{variation['name']}")
    return found


def digests(out: Path) -> dict[str, str]:
    """Return every path of a result with mode, time (of a bundle) and SHA-256."""
    found = {}
    bundle = (out / "bundle.json").is_file()
    for path in sorted(out.rglob("*")):
        facts = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
        found[str(path.relative_to(out))] = f"{facts.st_mode:o} {facts.st_mtime_ns} {content}" if bundle else content
    return found


def expected_of(found: dict[str, str], out: Path) -> str:
    """Return the text of expected/small.toml."""
    import json

    index = json.loads((out / "bundle.json").read_bytes())
    return (
        "# The bundle of the small project: it changes only when a format does; see README.md, how to move a pin.\n"
        f'mrenclave = "{index["mrenclave"]}"\nbundle_id = "{found["bundle.json"].split()[-1]}"\n'
        f"files = {len(index['files'])}\n"
    )


def compare(what: str, chosen: list[dict], say=print) -> tuple[int, int]:
    """Build `what` under the variations; return how many ran and how many differ."""
    with tempfile.TemporaryDirectory(prefix="glasscase-rebuild-") as name:
        work = Path(name)
        work.chmod(0o755)
        source = prepare(what, work)
        first = run(what, source, work, chosen[0])
        ran, differing = 1, 0
        for variation in chosen[1:]:
            found = run(what, source, work, variation)
            if found is None:
                say(f"SKIP     {what:8} {variation['name']} (needs root and a Python that others can run)")
                continue
            ran += 1
            wrong = sorted(path for path in first.keys() | found.keys() if first.get(path) != found.get(path))
            if wrong:
                differing += 1
                say(f"DIFFERS  {what:8} {variation['name']}: {', '.join(wrong[:5])} ({len(wrong)} files)")
                say(f"         baseline {first.get(wrong[0])}\n         here     {found.get(wrong[0])}")
            else:
                say(f"SAME     {what:8} {variation['name']}")
        return ran, differing


def check_expected(*, write: bool, say=print) -> int:
    """Build `small` once and compare it with expected/; return 1 if it differs."""
    with tempfile.TemporaryDirectory(prefix="glasscase-rebuild-") as name:
        made = workshop(Path(name))
        result = made.build("out")
        text = expected_of(digests(Path(result.path)), Path(result.path))
    if write:
        EXPECTED.parent.mkdir(exist_ok=True)
        EXPECTED.write_text(text, encoding="utf-8")
    if text != EXPECTED.read_text(encoding="utf-8"):
        say(f"DIFFERS  small    expected/small.toml\n{text}")
        return 1
    say("SAME     small    expected/small.toml")
    return 0


def facts() -> dict[str, str]:
    """Return what the bytes of the example bundles depend on besides this repository: our wheel and what compiled it."""
    from glasscase.lock.cache import InputCache
    from glasscase.lock.wheels import take_own_wheel

    with tempfile.TemporaryDirectory(prefix="glasscase-rebuild-") as work:
        wheel = take_own_wheel(None, InputCache(work)).locked
    header = "#include <openssl/opensslv.h>\nOPENSSL_VERSION_TEXT\n"
    cc = shlex.split(os.environ.get("CC", "cc"))
    text = subprocess.run([*cc, "-E", "-P", "-"], input=header, capture_output=True, text=True, check=True).stdout
    version = subprocess.run([*cc, "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "wheel": wheel.sha256.hex(),
        "compiler": version.splitlines()[0],
        "openssl_headers": text.strip().splitlines()[-1].strip('"'),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
    }


def example_source(name: str, work: Path) -> Path:
    """Return a copy of an example with keys that are the same everywhere, and with its model if it has one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    source = work / name
    shutil.copytree(
        ROOT / "examples" / name, source, ignore=shutil.ignore_patterns("keys", "models", "__pycache__", "*.lock")
    )
    shutil.copyfile(ROOT / "LICENSE", work / "LICENSE")  # the text that the model learns from
    (source / "keys").mkdir()
    key = source / "keys" / "package.key"
    key.write_bytes(hashlib.sha256(f"package key of the example {name}".encode()).digest())
    key.chmod(0o600)
    owner = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"owner of the example {name}".encode()).digest())
    pem = owner.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (source / "keys" / "owner.pub").write_bytes(pem)
    if (source / "make_model.py").is_file():
        subprocess.run(
            [sys.executable, "make_model.py", "--steps", MODEL_STEPS], cwd=source, check=True, capture_output=True
        )
    return source


def frozen_lock(name: str, source: Path, environment: dict[str, str], *, update: bool) -> bytes:
    """Write the example's lock and fill the cache; return its bytes: the one in image/ with the wheel of now, or a new one."""
    from dataclasses import replace

    from glasscase import __version__
    from glasscase.lock.cache import InputCache
    from glasscase.lock.model import Lock
    from glasscase.lock.wheels import take_own_wheel

    path = source / "glasscase.lock"
    lock = [sys.executable, "-m", "glasscase", "lock", "-q"]
    if update:
        subprocess.run(lock, cwd=source, check=True, env=environment)
        made = replace(Lock.from_bytes(path.read_bytes()), epoch=EPOCH)
        (source / "pylock.toml").unlink()
    else:
        made = Lock.from_bytes((IMAGE / f"{name}.lock").read_bytes())
        own = take_own_wheel(None, InputCache(Path(environment["GLASSCASE_CACHE"]) / "inputs")).locked
        wheels = tuple(own if wheel.name == own.name else wheel for wheel in made.wheels)
        made = replace(made, wheels=wheels, tool=__version__)
    path.write_bytes(made.to_bytes())
    subprocess.run(lock, cwd=source, check=True, env=environment)
    if path.read_bytes() != made.to_bytes():
        raise SystemExit(f"image/{name}.lock no longer belongs to the example; see README.md, how to move a pin")
    return made.to_bytes()


def example_bundle(name: str, work: Path, *, update: bool) -> tuple[dict[str, str], bytes]:
    """Build one example; return its digests and its lock."""
    import json

    source = example_source(name, work)
    environment = os.environ | {"GLASSCASE_CACHE": str(work / "cache"), "GLASSCASE_DATA": str(work / "data")}
    lock = frozen_lock(name, source, environment, update=update)
    out = work / f"{name}.bundle"
    command = [sys.executable, "-m", "glasscase", "build", "-q", "-o", str(out)]
    subprocess.run(command, cwd=source, check=True, env=environment, stdout=subprocess.DEVNULL)
    index = (out / "bundle.json").read_bytes()
    model = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in source.glob("models/*")}
    return {
        **{f"model_{stem}": digest for stem, digest in sorted(model.items())},
        "lock": hashlib.sha256(lock).hexdigest(),
        "bundle_id": hashlib.sha256(index).hexdigest(),
        "mrenclave": json.loads(index)["mrenclave"],
    }, lock


def not_comparable() -> list[str]:
    """Return why the bundles built here need not be those of expected/examples.toml, one line a fact; empty if they must."""
    recorded, here = tomllib.loads(EXPECTED_EXAMPLES.read_text(encoding="utf-8")), facts()
    return [
        f"{name}: recorded {recorded.get(name)}, here {value}"
        for name, value in here.items()
        if recorded.get(name) != value
    ]


def check_examples(*, write: bool, say=print) -> int:
    """Build the three examples and compare them with expected/examples.toml; return how many differ where they must not."""
    recorded = tomllib.loads(EXPECTED_EXAMPLES.read_text(encoding="utf-8")) if EXPECTED_EXAMPLES.exists() else {}
    differing, lines, why = 0, [], [] if write else not_comparable()
    for line in why:
        say(f"SKIP     examples {line}")
    for name in EXAMPLES:
        with tempfile.TemporaryDirectory(prefix="glasscase-rebuild-") as folder:
            found, lock = example_bundle(name, Path(folder), update=write)
        lines += ["", f"[{name}]", *(f'{key} = "{value}"' for key, value in found.items())]
        if write:
            IMAGE.mkdir(exist_ok=True)
            (IMAGE / f"{name}.lock").write_bytes(lock)
            continue
        wrong = [key for key in found if found[key] != recorded.get(name, {}).get(key)]
        if wrong and why and not any(key.startswith("model_") for key in wrong):
            say(f"SKIP     examples {name}: not comparable here, {', '.join(wrong)} differ")
        elif wrong:
            differing += 1
            say(f"DIFFERS  examples {name}: " + ", ".join(f"{key} {found[key]}" for key in wrong))
        else:
            say(f"SAME     examples {name}")
    if write:
        head = [
            "# The example bundles, with what their bytes depend on; another wheel or toolchain gives others. See README.md.",
            "# python reproducible/rebuild.py --what examples --write",
            *(f'{key} = "{value}"' for key, value in facts().items()),
        ]
        EXPECTED_EXAMPLES.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    return differing


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--what", default="small,fastapi-fraud,flask-hello,llm-safetensors,wheel,sdist,examples")
    parser.add_argument("--only", default="", help="names of variations besides the baseline")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name]
    chosen = [v for v in variations() if not names or v["name"] in ("baseline", *names)]
    total = differing = 0
    for what in arguments.what.split(","):
        if what == "examples":
            total, differing = total + len(EXAMPLES), differing + check_examples(write=arguments.write)
            continue
        ran, wrong = compare(what, chosen)
        total, differing = total + ran, differing + wrong
        if what == "small":
            differing += check_expected(write=arguments.write)
    print(f"{total} builds, {differing} differ")
    return DIFFERS if differing else 0


if __name__ == "__main__":
    sys.exit(main())
