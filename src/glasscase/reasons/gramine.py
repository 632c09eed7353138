"""Ids of the area `gramine`: manifests, the PAL, the runtime's pins and the memory layout."""

from glasscase.reasons.model import Reason

_BUNDLE = "docs/bundle-format.md"
_LOADER = "Gramine's loader; docs/bundle-format.md"
_ELF = "ELF-64 object file format; Gramine's loader"

REASONS: tuple[Reason, ...] = (
    Reason("gramine.manifest.oversize", "format", "the manifest is longer than a manifest may be", _BUNDLE,
           "check that the right file was given"),
    Reason("gramine.manifest.nul", "format", "the manifest holds a NUL character, where Gramine's loader stops reading",
           _LOADER, "remove the character"),
    Reason("gramine.manifest.malformed", "format", "the manifest is not TOML 1.0 in UTF-8", "TOML 1.0",
           "check that the right file was given; give a rendered manifest, not a template"),
    Reason("gramine.manifest.incomplete", "format", "the manifest lacks a field that decides the measurement", _LOADER,
           "give the manifest.sgx that sign wrote, not the manifest before it"),
    Reason("gramine.manifest.unloadable", "format", "Gramine's loader would refuse this value, though its signer takes it",
           _LOADER, "change the value as the message says"),
    Reason("gramine.manifest.entrypoint", "usage", "the manifest names no loader.entrypoint and none was found", _LOADER,
           "name it in the manifest, or give --libsysdb PATH"),
    Reason("gramine.toml.unwritable", "format", "a value cannot be written as TOML", "TOML 1.0", "change the value"),
    Reason("gramine.trusted.malformed", "format", "an entry of sgx.trusted_files cannot be used", _LOADER,
           "change the entry as the message says"),
    Reason("gramine.trusted.outside", "usage", "a symbolic link leads out of the chroot, so the result would differ by host",
           _BUNDLE, "make the link relative, or list the file it means"),
    Reason("gramine.pal.malformed", "format", "libpal.so is not an ELF file for x86-64", _ELF,
           "check that the right file was given: .../gramine/sgx/libpal.so"),
    Reason("gramine.pal.unloadable", "format", "signer, loader or CPU would disagree about this libpal.so", _ELF,
           "use the libpal.so of a Gramine release"),
    Reason("gramine.enclave.too_small", "format", "the areas of the enclave do not fit its size", _LOADER,
           "raise enclave_size or lower max_threads"),
)  # fmt: skip
