"""The application: completes texts with a model that exists in clear only inside the enclave."""

import functools

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from app.model import Model, load

MODEL = "/models/tiny.safetensors"
app = FastAPI(title="llm-safetensors", docs_url=None, redoc_url=None, openapi_url=None)


class Request(BaseModel):
    """What is to be completed."""

    prompt: str = Field(max_length=2000)
    count: int = Field(default=200, ge=1, le=2000)
    temperature: float = Field(default=0.5, gt=0, le=2)
    seed: int = 1


@functools.cache
def loaded() -> tuple[Model, dict[str, int]]:
    """Return the model, read once from the encrypted package, and what memory that took."""
    model, memory = load(MODEL)
    grew = (
        f"memory grew by {memory['growth']} at most" if memory["peak"] else "the runtime does not say how memory grew"
    )
    print(f"model: {memory['tensors']} bytes of tensors, {grew}", flush=True)
    return model, memory


@app.get("/health")
def health() -> dict[str, int | str]:
    """Say that the model can be read."""
    return {"status": "ok", "parameters": sum(array.size for array in loaded()[0].weights.values())}


@app.get("/memory")
def memory() -> dict[str, int]:
    """Say how many bytes the tensors have, and how many this process had before and after they were read, and at most."""
    return loaded()[1]


@app.post("/complete")
def complete(request: Request) -> StreamingResponse:
    """Stream the continuation."""
    text = loaded()[0].continue_text(request.prompt, request.count, request.temperature, request.seed)
    return StreamingResponse(text, media_type="text/plain")
