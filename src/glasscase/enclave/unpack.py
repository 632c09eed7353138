"""The owner's application: opened from the encrypted package, unpacked into private memory, and made importable.

Invariants: which modules exist is decided by the package manifest, never by a directory listing; nothing is written before
the envelope has been accepted.
Source: docs/provisioning.md, "Unpacking"; docs/bundle-format.md, "Package".
"""

import io
import os
import shutil
import sys
from collections.abc import Iterable
from typing import Any

from glasscase.config.enclave import EnclaveConfig
from glasscase.enclave.places import Places
from glasscase.enclave.redact import Redactor, install
from glasscase.errors import StorageError, UsageError
from glasscase.seal.envelope import Contents

APP = "app/"
MODELS = "models/"
# of all decryption at a time: in SGX Gramine does not refuse a thread beyond the measured ones, who makes it waits for ever
DECRYPT_THREADS = 2
_EXTENSION_SUFFIX = (".abi3.so", ".so")


class Unpacker:
    """The package of one enclave. finder: the bootstrap's, which learns the application's modules."""

    def __init__(self, config: EnclaveConfig, places: Places, finder: Any) -> None:
        self._config = config
        self._places = places
        self._finder = finder
        self._helpers: Any = None  # of all files that are read lazily
        self._redactor = Redactor((f"{places.root}/opt", *sys.path) if config.encrypt else None)
        install(self._redactor)

    def open(self, contents: Contents) -> Any:
        """Return the opened package after every check on it; raises an Error of the area `stream` if one fails."""
        from glasscase.core.reader import Helpers
        from glasscase.seal.files import open_package

        config = self._config
        if config.package is None or config.commitment is None or contents.package_key is None:
            raise UsageError("enclave.app.failed", "there is no encrypted package")
        self._helpers = Helpers(DECRYPT_THREADS - 1)
        return open_package(
            self._places.blobs, header=config.package, commitment=config.commitment, key=contents.package_key,
            model_keys=dict(contents.model_keys), lazy_unchecked=config.models == "key",
        )  # fmt: skip

    def unpack(self, package: Any) -> None:
        """Decrypt the application and the models that are not lazy into private memory."""
        if package is None:
            return
        paths = [entry.path for entry in package.entries]
        self._redactor.number({self._target(path): number for number, path in enumerate(paths)})
        self.forget()
        for prefix, target in ((APP, self._places.app), (MODELS, self._places.models)):
            if any(path.startswith(prefix) for path in paths):
                os.makedirs(target, mode=0o700, exist_ok=True)
                package.unpack(target, prefix=prefix, lazy=False, threads=DECRYPT_THREADS)

    def forget(self) -> None:
        """Remove what was decrypted: on the simulator the private directories are the host's and outlive the program."""
        for target in (self._places.app, self._places.models):
            shutil.rmtree(target, ignore_errors=True)

    def expose(self, package: Any) -> None:
        """Let the application's modules be imported."""
        if package is None:
            place = self._places.clear_app
            files = [path.removeprefix(place + "/") for path in self._finder.others if path.startswith(place + "/")]
        else:
            place = self._places.app
            files = [
                entry.path.removeprefix(APP)
                for entry in package.entries
                if entry.path.startswith(APP) and entry.type == "f"
            ]
        try:
            self._finder.add_application(modules_of(files, place), listed=package is None)
        except ImportError as error:
            raise UsageError("enclave.app.failed", str(error)) from None
        sys.path.append(place)

    def open_file(self, package: Any, path: str) -> io.RawIOBase:
        """Return an open file of the package or of what was unpacked from it; path: below /models, or package path."""
        for root in (self._places.models + "/", "/models/"):  # the simulator has no /models of its own
            if path.startswith(root):
                path = MODELS + path.removeprefix(root)
        entry = next((entry for entry in package.entries if entry.path == path), None) if package is not None else None
        if entry is None or entry.type == "d":
            raise StorageError("enclave.file.missing", f"the package has no file {path!r}", path=path)
        if entry.type == "z":
            return package.open(path, threads=DECRYPT_THREADS, helpers=self._helpers)  # type: ignore[no-any-return]
        return io.FileIO(self._target(path), "rb")

    def _target(self, path: str) -> str:
        """Return where a file of the package is unpacked to."""
        root, prefix = (self._places.models, MODELS) if path.startswith(MODELS) else (self._places.app, APP)
        return os.path.join(root, path.removeprefix(prefix))


def modules_of(files: Iterable[str], directory: str) -> dict[str, tuple[str, str]]:
    """Return name to (kind, path) of the modules among files, paths relative to `directory`.

    A directory with modules below it and no `__init__.py` is a namespace package.
    """
    modules: dict[str, tuple[str, str]] = {}
    for file in sorted(files):
        name, kind = _module_of(file)
        parts = name.split(".") if name else []
        if not parts or not all(part.isidentifier() for part in parts):
            continue
        modules[name] = (kind, f"{directory}/{file}")
    for name in list(modules):
        parts = name.split(".")[:-1]
        while parts:
            modules.setdefault(".".join(parts), ("n", "/".join([directory, *parts])))
            parts.pop()
    return modules


def _module_of(file: str) -> tuple[str, str]:
    if file.endswith(".py"):
        stem = file.removesuffix(".py")
        if stem.rpartition("/")[2] == "__init__":
            return stem.rpartition("/")[0].replace("/", "."), "p"
        return stem.replace("/", "."), "m"
    folder, _, last = file.rpartition("/")
    if last.endswith(_EXTENSION_SUFFIX) and not last.startswith("lib"):
        return ".".join([*folder.split("/"), last.partition(".")[0]]).lstrip("."), "x"
    return "", ""
