"""Errors as values: they travel between processes as they are."""

import concurrent.futures
import pickle

import pytest

from glasscase import auditor, client, errors
from glasscase.cli.flow import StepFailed

ERRORS = [
    errors.UsageError("a.b.c", "wrong", hint="right"),
    errors.FormatError("a.b.c", "wrong", offset=3, what="quote"),
    errors.CannotVerify("a.b.c", "unknown"),
    errors.StorageError("a.b.c", "gone", path="/x", errno=2),
    errors.Interrupted("a.b.c", "stopped"),
    errors.VerificationError("a.b.c", "failed", verdict=None, undetermined=True),
    client.PeerRefused("a.b.c", "refused", exit_code=3),
    StepFailed("lock", 3, "no"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error):
    """Class, reason, message, hint, exit code and all else arrive."""
    again = pickle.loads(pickle.dumps(error))

    assert type(error) is type(again)
    assert (vars(error), str(error), error.args, error.exit_code) == (
        vars(again),
        str(again),
        again.args,
        again.exit_code,
    )


def test_a_verdict_stays_where_it_was_judged():
    """It holds handles of the core, so it is not carried along; the rest of its error is."""
    error = errors.VerificationError("a.b.c", "failed", verdict=object(), undetermined=False)
    again = pickle.loads(pickle.dumps(error))

    assert (None, "a.b.c", 2) == (again.verdict, again.reason, again.exit_code)
    assert error.verdict is not None


def test_an_error_of_a_worker_reaches_its_pool():
    """A pool of processes gives our error to who asked; it broke on one that it could not make again."""
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        refused = pool.submit(auditor.load_policy, b"nonsense").exception(timeout=60)

    assert isinstance(refused, errors.FormatError)
    assert refused.reason
