"""How suspicious a payment is: the secret of this example, which nobody but the enclave can read."""

HIGH_AMOUNT = 5000
NIGHT = range(1, 5)


def score(amount: int, hour: int, known_payee: bool) -> int:
    """Return 0 (harmless) to 100 (stop it)."""
    points = min(amount * 40 // HIGH_AMOUNT, 40)
    points += 30 if hour in NIGHT else 0
    points += 0 if known_payee else 30
    return points
