"""Ids of the area `enclave`: the program inside."""

from glasscase.reasons.model import Reason

_PROVISIONING = "docs/provisioning.md"

REASONS: tuple[Reason, ...] = (
    Reason("enclave.argument.wrong", "usage", "the enclave program got an argument that it does not take", _PROVISIONING,
           "start it with glasscase run"),
    Reason("enclave.instance.malformed", "format", "instance.json is not of the one form", _PROVISIONING,
           "start the enclave with glasscase run, which writes the file"),
    Reason("enclave.device.failed", "storage", "the attestation device gave no answer for what was asked", _PROVISIONING,
           "glasscase doctor; on hardware look at aesmd and the quote provider"),
    Reason("enclave.import.absent", "state", "a file that the measured import table lists is absent, changed or unusable",
           "docs/bundle-format.md, imports.txt", "compare the files with the bundle: glasscase restart NAME --check full"),
    Reason("enclave.port.taken", "storage", "the enclave cannot listen on its address", _PROVISIONING,
           "choose another port with glasscase run --port, or 0 for any"),
    Reason("enclave.request.malformed", "format", "a request for evidence is not of the one form", _PROVISIONING,
           "use glasscase evidence"),
    Reason("enclave.app.failed", "usage", "the application could not be loaded or started", _PROVISIONING,
           "run its tests with glasscase test; look at the log"),
    Reason("enclave.app.unhealthy", "usage", "the application's health path gave no good answer within 30 s", _PROVISIONING,
           "mend the application, or leave health out of the project"),
    Reason("enclave.persist.keyless", "storage", "persist is asked for, and the backend gives no sealing key", _PROVISIONING,
           'set persist = "none" in the project, or run on SGX'),
    Reason("enclave.persist.malformed", "format", "the kept record is not of the one form; it counts as absent",
           _PROVISIONING, "seal again"),
    Reason("enclave.file.missing", "storage", "the encrypted package has no such file", _PROVISIONING,
           "check the path and the [[model]] entries of the project"),
    Reason("enclave.runtime.absent", "usage", "glasscase.runtime was used outside a provisioned enclave", _PROVISIONING,
           "run the application with glasscase run, or glasscase test"),
    Reason("enclave.runtime.taken", "usage", "the application was given its secrets twice", _PROVISIONING,
           "this is a fault of the program: report it"),
)  # fmt: skip
