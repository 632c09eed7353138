"""Settings that came as sealed secrets, for this enclave only."""

THRESHOLD_DEFAULT = 70


def threshold() -> int:
    """Return the score at which a payment is stopped; outside an enclave the default."""
    try:
        from glasscase import runtime
        from glasscase.errors import UsageError
    except ImportError:
        return THRESHOLD_DEFAULT
    try:
        return int(runtime.secrets.get("threshold", THRESHOLD_DEFAULT))
    except UsageError:  # this is not an enclave
        return THRESHOLD_DEFAULT
