"""Ids of the area `collateral`: files, the client of Intel's services, the cache. Checks of a verdict: reasons/verify.py."""

from glasscase.reasons.model import Reason

_FORMAT = "docs/evidence-format.md, collateral"
_FETCH = "Intel PCS API v4 and PCCS; docs/evidence-format.md, collateral"
_LATER = "try again later or another --source; files fetched before work without network"

REASONS: tuple[Reason, ...] = (
    Reason("collateral.file.malformed", "format", "the file is not collateral of a form that is read", _FORMAT,
           "give the file of collateral fetch, of Intel's offline tool, or the seven objects as JSON"),
    Reason("collateral.file.ambiguous", "format", "the file holds collateral for several platforms", _FORMAT,
           "name the quote, so that the right one can be chosen"),
    Reason("collateral.document.malformed", "format", "a signed document of Intel is not of its form", _FORMAT,
           "fetch the collateral again"),
    Reason("collateral.url.malformed", "usage", "the source is neither intel nor an http or https URL", _FETCH,
           "--source intel, or the base URL of a PCCS such as https://localhost:8081/sgx/certification/v4"),
    Reason("collateral.source.unreachable", "undetermined", "the collateral server cannot be reached", _FETCH, _LATER),
    Reason("collateral.source.refused", "undetermined", "the collateral server answered with an error or a redirect", _FETCH,
           _LATER),
    Reason("collateral.source.slow", "undetermined", "the collateral server did not answer in time", _FETCH, _LATER),
    Reason("collateral.source.oversize", "undetermined", "the collateral server sent more than its kind may have", _FETCH,
           "use another --source; this one does not behave like Intel's service"),
    Reason("collateral.source.malformed", "undetermined", "the collateral server sent what cannot be collateral", _FETCH,
           "use another --source; this one does not behave like Intel's service"),
    Reason("collateral.source.unsigned", "undetermined", "what the collateral server sent does not pass verification", _FETCH,
           "use another --source; nothing was kept"),
    Reason("collateral.source.older", "undetermined", "the collateral server sent older data than was seen before", _FETCH,
           "use another --source: this one hides newer revocations or TCB data"),
    Reason("collateral.platform.unknown", "undetermined", "the file does not say for which platform collateral is needed",
           _FETCH, "give a quote or evidence whose quote carries the PCK certificate chain"),
)  # fmt: skip
