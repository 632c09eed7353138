"""The application. It runs inside the enclave; requests are seen by this code and nobody else."""

from fastapi import FastAPI
from pydantic import BaseModel, Field

from app.scoring import score
from app.settings import threshold

app = FastAPI(title="fastapi-fraud", docs_url=None, redoc_url=None, openapi_url=None)


class Payment(BaseModel):
    """What is to be judged."""

    amount: int = Field(ge=0)
    hour: int = Field(ge=0, le=23)
    known_payee: bool


@app.get("/")
def index() -> dict[str, str]:
    """Say who answers."""
    return {"service": "fastapi-fraud", "from": "inside the enclave"}


@app.get("/health")
def health() -> dict[str, str]:
    """Say that the application is up."""
    return {"status": "ok"}


@app.post("/score")
def judge(payment: Payment) -> dict[str, int | bool]:
    """Score one payment; stop it at the threshold that came as a sealed secret."""
    points = score(payment.amount, payment.hour, payment.known_payee)
    return {"score": points, "stop": points >= threshold()}
