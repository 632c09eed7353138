"""Ids of the area `sgx`: the SGX data types and the key of the enclave."""

from glasscase.reasons.model import Reason

_SDM = "Intel SDM vol. 3D, SGX data structures"

REASONS: tuple[Reason, ...] = (
    Reason("sgx.report.malformed", "format", "the bytes are not an SGX report body with zero reserved bytes", _SDM,
           "collect the evidence or the report again"),
    Reason("sgx.sigstruct.malformed", "format", "these bytes are not a SIGSTRUCT that can be used", _SDM,
           "check that the file is the .sig that belongs to the manifest.sgx"),
    Reason("sgx.sigstruct.unauthentic", "format", "the signature of the SIGSTRUCT does not hold", _SDM,
           "sign again; if it came from elsewhere, it was damaged or made for another enclave"),
    Reason("sgx.passphrase.exposed", "usage", "a passphrase on the command line is seen by every process",
           "README.md, exit codes", "give it in a file: --passphrase-file FILE"),
    Reason("sgx.depfile.unwritable", "usage", "the name of a file cannot stand in a rule of make", "GNU make, Rule Syntax",
           "rename the file, or leave --depfile away"),
    Reason("sgx.key.unusable", "usage", "the key is not RSA with 3072 bits and exponent 3", _SDM,
           "glasscase keygen --kind enclave -o enclave.key"),
    Reason("sgx.date.wrong", "usage", "the date of the SIGSTRUCT is not a day of the calendar", _SDM,
           "give --date YYYY-MM-DD, or 0000-00-00 for none"),
)  # fmt: skip
