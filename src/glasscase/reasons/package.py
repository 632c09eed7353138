"""Ids of the area `package`: encrypted code and models as a whole."""

from glasscase.reasons.model import Reason

_RULE = "docs/stream-format.md, packages"
_MODELS = "docs/stream-format.md, models"
_AGAIN = "get the package again from who made it"
_HOLDER = "a holder of the key has made other content: do not use it"

REASONS: tuple[Reason, ...] = (
    Reason("package.manifest.missing", "format", "the directory holds no package manifest", _RULE,
           "name the directory with `manifest` and the blobs"),
    Reason("package.manifest.oversize", "format", "the manifest is larger than 64 MiB", _RULE,
           "put fewer files into one package"),
    Reason("package.manifest.malformed", "format", "the manifest has a field that the format does not allow", _RULE,
           _HOLDER),
    Reason("package.manifest.disordered", "format", "the entries are not sorted or one occurs twice", _RULE, _HOLDER),
    Reason("package.manifest.substituted", "format", "the manifest is not the one that its header was derived from",
           _RULE, _HOLDER),
    Reason("package.id.mismatch", "format", "the manifest carries the id of another package", _RULE, _HOLDER),
    Reason("package.commitment.mismatch", "format", "the content is not what the enclave has measured", _RULE, _HOLDER),
    Reason("package.path.orphan", "format", "an entry stands in a directory that is not listed", _RULE, _HOLDER),
    Reason("package.path.unknown", "format", "the package has no file of this name", _RULE,
           "check the path; it is relative and uses /"),
    Reason("package.path.duplicate", "usage", "two sources have the same path", _RULE, "leave one of them away"),
    Reason("package.mode.refused", "usage", "a mode other than 644 and 755", _RULE, "give one of the two"),
    Reason("package.key.missing", "format", "a model key is needed that was not given", _RULE,
           "give every model key: --model-key FILE"),
    Reason("package.blob.underived", "format", "a blob is not stored as its digest and key demand", _RULE, _HOLDER),
    Reason("package.blob.missing", "format", "a blob of the package is missing", _RULE, _AGAIN),
    Reason("package.blob.extra", "format", "a file does not belong to the package", _RULE, "remove it"),
    Reason("package.blob.renamed", "format", "a blob of the package has another name", _RULE,
           "give it the name that the message says, or get the package again"),
    Reason("package.blob.swapped", "format", "a blob was replaced or is of another release", _RULE, _AGAIN),
    Reason("package.content.mismatch", "format", "a file does not have the content of its digest", _RULE, _HOLDER),
    Reason("package.leaves.missing", "format", "a lazily read file has no leaf list", _RULE,
           "build the package again; models = \"key\" in the project does without, and says so in every verdict"),
    Reason("package.entry.eager", "state", "a file that is unpacked at start cannot be read lazily", _RULE,
           "read the unpacked file"),
    Reason("package.tensor.malformed", "format", "the model file is neither safetensors nor GGUF as the formats demand",
           _MODELS, "convert the model again"),
    Reason("package.tensor.layout", "format", "tensors overlap, leave gaps or do not fit their shapes", _MODELS,
           "convert the model again"),
    Reason("package.tensor.unsupported", "format", "a type or version that is not known", _MODELS,
           "convert the model to a type that is listed"),
    Reason("package.tensor.unavailable", "usage", "the installed torch has no such type", _MODELS,
           "use a newer torch, or NumPy, which gives the bits"),
    Reason("package.tensor.unknown", "usage", "the model has no tensor of this name", _MODELS,
           "see .tensors for the names"),
    Reason("package.tensor.buffer", "usage", "the array that shall be filled has another size", _MODELS,
           "give a contiguous array of the tensor's size"),
)  # fmt: skip
