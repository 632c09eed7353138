"""The application. It runs inside the enclave; requests are seen by this code and nobody else."""

from flask import Flask, abort, request

from app.scoring import score
from app.settings import threshold

app = Flask(__name__)


@app.get("/")
def index():
    """Say who answers."""
    return {"service": "flask-hello", "from": "inside the enclave"}


@app.get("/health")
def health():
    """Say that the application is up."""
    return {"status": "ok"}


@app.post("/score")
def judge():
    """Score one payment; stop it at the threshold that came as a sealed secret."""
    payment = request.get_json(silent=True)
    if not is_payment(payment):
        abort(422)
    points = score(payment["amount"], payment["hour"], payment["known_payee"])
    return {"score": points, "stop": points >= threshold()}


def is_payment(value):
    """Return whether a request's JSON has the three fields of a payment."""
    return (
        isinstance(value, dict)
        and type(value.get("amount")) is int
        and value["amount"] >= 0
        and type(value.get("hour")) is int
        and value["hour"] in range(24)
        and type(value.get("known_payee")) is bool
    )
