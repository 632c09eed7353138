"""Ids of the area `client`: the data user's connections."""

from glasscase.reasons.model import Reason

_RULE = "docs/clients.md"

REASONS: tuple[Reason, ...] = (
    Reason("client.tls.refused", "format", "the connection is not TLS 1.3 with a full handshake", _RULE,
           "check what stands between client and enclave; a TLS-terminating proxy cannot be passed"),
    Reason("client.certificate.missing", "format", "the server showed no certificate", _RULE,
           "check host and port"),
    Reason("client.certificate.malformed", "format", "the server's certificate cannot be read", _RULE, "check host and port"),
    Reason("client.certificate.expired", "format", "the owner's certificate of the enclave is not valid now", _RULE,
           "ask the owner for a new chain; it needs new secrets and a restart"),
    Reason("client.evidence.missing", "format", "the server gives no evidence for its own certificate", _RULE,
           "check that an enclave of certificate mode own listens there"),
    Reason("client.name.mismatch", "format", "the enclave was called by a name that its certificate does not hold", _RULE,
           "call it by one of its names; the operator sets them with run --san"),
    Reason("client.key.unbound", "format", "the verified claims name another TLS key than the connection's", _RULE,
           "do not send anything; ask the operator for what runs there"),
    Reason("client.connection.foreign", "usage", "the connection was not made by glasscase.client.context()", _RULE,
           "make it with that context"),
    Reason("client.platforms.unnamed", "usage", "the policy of a client names no platforms", _RULE,
           "[platform] platforms, or any-intel in words"),
    Reason("client.bundle.missing", "usage", "the policy compares with a bundle that was not given", _RULE,
           "--bundle B, or name the enclave by mrenclave or mrsigner"),
    Reason("client.collateral.missing", "undetermined", "no collateral is known for the root that was given", _RULE,
           "--collateral-source FILE"),
    Reason("client.collateral.pending", "undetermined", "collateral for this peer's platform is still being fetched", _RULE,
           "try again in a moment, or prepare() the context for this enclave first"),
    Reason("client.evidence.pending", "undetermined", "the enclave is still being asked for the evidence of its new key", _RULE,
           "try again in a moment, or prepare() the context for this enclave again"),
    Reason("client.response.oversize", "usage", "the answer is too long to be put into one JSON object", _RULE, "-o FILE"),
    Reason("client.identity.unusable", "usage", "the client's certificate and key cannot be used", _RULE,
           "PEM files, the key not encrypted, belonging together"),
    Reason("client.url.malformed", "usage", "the URL is not one of an enclave", _RULE, "https://HOST:PORT/PATH"),
    Reason("client.listen.exposed", "usage", "other machines could reach the unencrypted side of the proxy", _RULE,
           "--listen 127.0.0.1:PORT"),
    Reason("client.listen.failed", "storage", "the local port cannot be listened on", _RULE, "choose another port"),
    Reason("client.proxy.busy", "storage", "the proxy has as many connections as it may", _RULE, "try again"),
    Reason("client.enclave.unreachable", "storage", "the enclave cannot be reached", _RULE, "check host, port and network"),
    Reason("client.response.refused", "storage", "the application answered with an error status", _RULE,
           "look at the answer; the enclave itself was verified"),
)  # fmt: skip
