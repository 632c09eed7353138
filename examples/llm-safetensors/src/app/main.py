"""The application: completes texts with a model that exists in clear only inside the enclave."""

import functools

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.model import Model
from glasscase import runtime

MODEL = "/models/tiny.safetensors"
app = FastAPI(title="llm-safetensors", docs_url=None, redoc_url=None, openapi_url=None)


class Request(BaseModel):
    """What is to be completed."""

    prompt: str = Field(max_length=2000)
    count: int = Field(default=200, ge=1, le=2000)
    temperature: float = Field(default=0.5, gt=0, le=2)
    seed: int = 1


@functools.cache
def model() -> Model:
    """Return the model, read once from the encrypted package: every chunk is authenticated before a byte is used."""
    with runtime.open_tensors(MODEL) as file:
        return Model(file.metadata, file.load())


@app.get("/health")
def health() -> dict[str, int | str]:
    """Say that the model can be read."""
    return {"status": "ok", "parameters": sum(array.size for array in model().weights.values())}


@app.post("/complete")
def complete(request: Request) -> StreamingResponse:
    """Stream the continuation."""
    text = model().continue_text(request.prompt, request.count, request.temperature, request.seed)
    return StreamingResponse(text, media_type="text/plain")
