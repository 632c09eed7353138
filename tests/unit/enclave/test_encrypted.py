"""An encrypted application: decrypted inside after every check, importable, lazily readable, and never in the log."""

import dataclasses
import hashlib
import os
import shutil

import pytest

from glasscase.core.chunks import Key
from glasscase.seal.envelope import Contents
from glasscase.seal.package import build_package, sources_of

from .conftest import ASGI_APP, PACKAGE_KEY, make_config

MODEL_KEY = b"m" * 32
WEIGHTS = os.urandom(300_000)
SECRET_APP = """
import importlib.metadata, logging, os, sys, threading, traceback, warnings
from glasscase import runtime
from secretpkg import helper
from demo_plain import app as plain

async def app(scope, receive, send):
    if scope["type"] != "http":
        return await plain(scope, receive, send)
    path = scope["path"]
    if path == "/helper":
        answer = helper.secret_function()
    elif path == "/weights":
        with runtime.open_encrypted("/models/llm/weights.bin") as file:
            file.seek(100_000)
            answer = file.read(16).hex()
    elif path == "/crowd":
        answer = helper.crowd()
    elif path == "/eager":
        with open(os.path.join(os.environ["MODELS"], "small/config.json")) as file:
            answer = file.read()
        with runtime.open_encrypted("/models/small/config.json") as file:
            answer += file.read().decode()
    elif path == "/absent":
        try:
            runtime.open_encrypted("/models/none")
            answer = "opened"
        except Exception as error:
            answer = error.reason
    elif path == "/noise":
        warnings.warn("canary-warning")
        try:
            helper.fails()
        except Exception:
            logging.getLogger("x").exception("an error")
            traceback.print_exc()
        thread = threading.Thread(target=helper.fails)
        thread.start()
        thread.join()
        traceback.print_stack()
        answer = importlib.metadata.version("uvicorn")
    elif path == "/task":
        import asyncio
        asyncio.get_running_loop().create_task(helper.lost_task())
        asyncio.get_running_loop().call_soon(helper.fails)
        await asyncio.sleep(0.1)
        import gc
        gc.collect()
        other = threading.Thread(target=lambda: asyncio.run(helper.loses_a_task()))
        other.start()
        await asyncio.to_thread(other.join)
        answer = str(len(__import__("inspect").getsource(runtime)))
    elif path == "/raise":
        helper.fails()
    else:
        return await plain(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})
"""
HELPER = '''
import asyncio, gc

class CanaryError(Exception):
    pass

def secret_function():
    return "canary-source"

async def lost_task():
    raise CanaryError("canary-task")

async def loses_a_task():
    asyncio.get_running_loop().create_task(lost_task())
    await asyncio.sleep(0.05)
    gc.collect()

def fails():
    raise CanaryError("canary-message")

def crowd():
    """Read one lazy file in six threads at the same time; return the threads beside these, at most, and whether all got it."""
    import hashlib, threading, time
    from glasscase import runtime
    from glasscase.core import reader
    read, helpers, contents = reader._pread, [0], set()
    lock, start, running = threading.Lock(), threading.Barrier(6), [0]
    def watched(*arguments):
        with lock:
            running[0] += arguments[-1] - 1
            helpers[0] = max(helpers[0], running[0])
        time.sleep(0.2)
        try:
            return read(*arguments)
        finally:
            with lock:
                running[0] -= arguments[-1] - 1
    def one():
        with runtime.open_encrypted("/models/llm/weights.bin") as file:
            start.wait()
            contents.add(hashlib.sha256(file.read()).hexdigest())
    reader._pread = watched
    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader._pread = read
    return f"{helpers[0]} {' '.join(contents)}"
'''


@pytest.fixture
def package(tmp_path):
    """Return the folder with blobs and what the configuration must say."""
    source, model, small, blobs = (tmp_path / name for name in ("src", "model", "small", "blobs"))
    (source / "secretpkg").mkdir(parents=True)
    for folder in (model, small, blobs):
        folder.mkdir()
    (source / "main.py").write_text(SECRET_APP)
    (source / "demo_plain.py").write_text(ASGI_APP)
    (source / "secretpkg/helper.py").write_text(HELPER)
    (model / "weights.bin").write_bytes(WEIGHTS)
    (small / "config.json").write_text("{}")
    sources = [
        *sources_of(str(source), prefix="app"),
        *sources_of(str(model), prefix="models/llm", lazy=True, model_key=MODEL_KEY),
        *sources_of(str(small), prefix="models/small"),
    ]
    return build_package(sources, key=PACKAGE_KEY, out_dir=str(blobs)), blobs


@pytest.fixture
def secret(enclave, package, tmp_path):
    """Return an enclave with the encrypted application, waiting for secrets."""
    built, blobs = package
    models = tmp_path / "e0" / "run" / "models"
    config = make_config(
        encrypt=True, package=built.header, commitment=built.commitment, entry="main:app", env={"MODELS": str(models)}
    )
    return enclave(config=config, app={}, blobs=blobs)


CONTENTS = Contents(b"r" * 32, PACKAGE_KEY, {Key(MODEL_KEY).id: MODEL_KEY}, {"token": "s3cret-canary"})


def tree(path):
    return sorted(str(item.relative_to(path)) for item in path.rglob("*"))


def test_lazy_reads_share_the_measured_threads(secret):
    """However many handlers read at the same time, one thread besides them decrypts: SGX has no place for more."""
    secret.start()
    secret.serve(secret.envelope(CONTENTS))

    helpers, *contents = secret.ask("GET", "/crowd")[1].decode().split()

    assert "1" == helpers
    assert [hashlib.sha256(WEIGHTS).hexdigest()] == contents


def test_an_encrypted_application_runs(secret):
    """Code and models come out of the package; nothing of them is on disk before, or in the log after."""
    secret.start()
    assert [] == tree(secret.run)

    secret.serve(secret.envelope(CONTENTS))
    assert (200, b"canary-source") == secret.ask("GET", "/helper")
    assert (200, WEIGHTS[100_000:100_016].hex().encode()) == secret.ask("GET", "/weights")
    assert (200, b"{}{}") == secret.ask("GET", "/eager")
    assert (200, b"enclave.file.missing") == secret.ask("GET", "/absent")
    assert (200, b"s3cret-canary") == secret.ask("GET", "/secret")
    assert 200 == secret.ask("GET", "/noise")[0]
    assert 500 == secret.ask("GET", "/raise")[0]
    assert 200 == secret.ask("GET", "/task")[0]
    assert 0 == secret.stop()

    text = secret.text()
    for canary in (
        "canary",
        "CanaryError",
        "helper",
        "secret_function",
        "app/main.py",
        "s3cret",
        "kkkk",
        "secretpkg",
        "lost_task",
    ):
        assert canary not in text, canary
    assert "an error in the event loop" in text
    assert "redacted: an exception of the application" in text
    assert "app#" in text


def test_a_wrong_package_key_is_refused_like_anything_else(secret):
    """A wrong package key gives the uniform answer, writes nothing, and the right envelope is accepted afterwards."""
    secret.start()
    wrong = secret.envelope(dataclasses.replace(CONTENTS, package_key=b"x" * 32))

    assert (403, b"refused") == secret.provision(wrong)
    assert [] == tree(secret.run)
    assert "waiting" == secret.status_file()["state"]
    secret.serve(secret.envelope(CONTENTS))


@pytest.mark.parametrize("change", ["no model key", "another model key", "no package key"])
def test_keys_that_do_not_fit_are_refused(secret, change):
    """Every key that the package needs must be there and right."""
    contents = {
        "no model key": dataclasses.replace(CONTENTS, model_keys={}),
        "another model key": dataclasses.replace(CONTENTS, model_keys={Key(MODEL_KEY).id: b"x" * 32}),
        "no package key": dataclasses.replace(CONTENTS, package_key=None),
    }[change]
    secret.start()

    assert (403, b"refused") == secret.provision(secret.envelope(contents))
    assert [] == tree(secret.run)


def test_a_changed_manifest_is_refused(secret, package):
    """A package manifest that the host has changed does not pass, whoever sealed the envelope."""
    _, blobs = package
    secret.start()
    manifest = blobs / "manifest"
    data = bytearray(manifest.read_bytes())
    data[-1] ^= 1
    manifest.write_bytes(data)

    assert (403, b"refused") == secret.provision(secret.envelope(CONTENTS))
    assert [] == tree(secret.run)


def test_a_changed_blob_ends_the_enclave(secret, package):
    """A code blob that the host has changed is found while it is unpacked: failed, exit code 1, no application."""
    built, blobs = package
    blob = next(entry for entry in built.entries if entry.path == "app/main.py").blob.hex()
    data = bytearray((blobs / blob).read_bytes())
    data[-1] ^= 1
    (blobs / blob).write_bytes(data)
    secret.start()

    assert 200 == secret.provision(secret.envelope(CONTENTS))[0]
    assert 1 == secret.process.wait(20)
    assert "failed" == secret.status_file()["state"]
    assert not (secret.run / "app/main.py").exists()
    assert "main.py" not in secret.text()  # else the host could ask which blob is which file
    assert "[stream." in secret.text() or "[package." in secret.text()


def test_a_swapped_blob_does_not_tell_its_path(secret, package):
    """A blob under the name of another ends the enclave, and the log has no path of the package."""
    built, blobs = package
    names = {entry.path: entry.blob.hex() for entry in built.entries if not entry.directory}
    shutil.copy(blobs / names["app/main.py"], blobs / names["app/secretpkg/helper.py"])
    secret.start()

    assert 200 == secret.provision(secret.envelope(CONTENTS))[0]
    assert 1 == secret.process.wait(20)
    assert "package.blob.swapped" in secret.text()
    assert "helper" not in secret.text()


def test_an_error_of_the_start_does_not_tell_a_path(enclave, tmp_path):
    """An error of ours that the application's own code lets through at import is shown by its reason alone."""
    source, blobs = tmp_path / "opens", tmp_path / "opensblobs"
    source.mkdir()
    blobs.mkdir()
    (source / "main.py").write_text("from glasscase import runtime\nruntime.open_encrypted('/models/canary')\n")
    built = build_package(sources_of(str(source), prefix="app"), key=PACKAGE_KEY, out_dir=str(blobs))
    one = enclave(
        config=make_config(encrypt=True, package=built.header, commitment=built.commitment, entry="main:app"),
        app={}, blobs=blobs,
    ).start()  # fmt: skip

    assert 200 == one.provision(one.envelope(dataclasses.replace(CONTENTS, model_keys={})))[0]
    assert 1 == one.process.wait(20)
    assert "enclave.file.missing" in one.text()
    assert "canary" not in one.text()


def test_a_missing_blob_ends_the_enclave(secret, package):
    """A code blob that the host has removed is the same."""
    built, blobs = package
    blob = next(entry for entry in built.entries if entry.path == "app/secretpkg/helper.py").blob.hex()
    shutil.move(blobs / blob, blobs.parent / "gone")
    secret.start()
    status, _ = secret.provision(secret.envelope(CONTENTS))

    if status == 200:  # the listing of a directory is the host's word, so it may only be found while unpacking
        assert 1 == secret.process.wait(20)
    assert "serving" != secret.status_file()["state"]


def test_an_application_may_not_shadow_the_enclave(enclave, tmp_path):
    """A module of the package with the name of a measured one ends the enclave."""
    source, blobs = tmp_path / "shadow", tmp_path / "shadowblobs"
    source.mkdir()
    blobs.mkdir()
    (source / "main.py").write_text(ASGI_APP)
    (source / "cryptography.py").write_text("")
    built = build_package(sources_of(str(source), prefix="app"), key=PACKAGE_KEY, out_dir=str(blobs))
    one = enclave(
        config=make_config(encrypt=True, package=built.header, commitment=built.commitment, entry="main:app"),
        app={}, blobs=blobs,
    ).start()  # fmt: skip

    assert 200 == one.provision(one.envelope(dataclasses.replace(CONTENTS, model_keys={})))[0]
    assert 1 == one.process.wait(20)
    assert "failed" == one.status_file()["state"]
    assert "module cryptography" not in one.text()
