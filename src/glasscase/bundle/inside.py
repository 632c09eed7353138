"""Which files of glasscase's own wheel go into an enclave: what its program and an application can import, and nothing else.

Invariants: a file that is not named here stays outside, so that a new module is measured only when somebody lists it; the list
is the import closure of enclave/bootstrap.py and runtime.py (tests/architecture/test_enclave_closure.py).
Source: docs/bundle-format.md, "Wheels".
"""

from glasscase.lock.requirements import OWN

# A new line is new measured code: give the reason in the commit.
MODULES = (
    "__init__",
    "codec.cbor",
    "codec.hexid",
    "codec.labels",
    "codec.record",
    "codec.strictjson",
    "codec.version",
    "config.enclave",
    "core.chunks",
    "core.faults",
    "core.handles",
    "core.reader",
    "enclave.asgi",
    "enclave.attest",
    "enclave.bootstrap",
    "enclave.connections",
    "enclave.gateway",
    "enclave.handover",
    "enclave.health",
    "enclave.http2",
    "enclave.instancefile",
    "enclave.keys",
    "enclave.main",
    "enclave.persist",
    "enclave.places",
    "enclave.program",
    "enclave.provision",
    "enclave.quoting",
    "enclave.redact",
    "enclave.running",
    "enclave.serve",
    "enclave.state",
    "enclave.unpack",
    "errors",
    "evidence.attestation",
    "fs.atomic",
    "fs.part",
    "fs.walk",
    "ratls.cert",
    "runtime",
    "seal.cose",
    "seal.envelope",
    "seal.files",
    "seal.gguf",
    "seal.hpke",
    "seal.manifest",
    "seal.modelfile",
    "seal.receipt",
    "seal.safetensors",
    "seal.tensors",
    "sgx.attributes",
    "sgx.report",
    "sgx.reportdata",
)


def _files() -> frozenset[str]:
    files = {f"{OWN}/{name.replace('.', '/')}.py" for name in MODULES}
    for name in MODULES:
        parts = name.split(".")
        files |= {"/".join((OWN, *parts[:depth], "__init__.py")) for depth in range(len(parts))}
    return frozenset(files | {f"{OWN}/_native.abi3.so"})


FILES = _files()
