"""Train the example's language model and write models/tiny.safetensors: needs numpy and safetensors, about a minute.

A character model: the last 8 characters, embedded, through one hidden layer. Small enough to train here, and stored exactly
as a large one is: named tensors in a safetensors file.

Trained again it is the same file, whatever the processor, its threads and the BLAS: only + - * / of single numbers is used,
which IEEE 754 settles to the last bit, and sums, whose order is the library's choice, are of numbers so coarse (`grid`) that
every order gives the exact sum.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONTEXT = 8
EMBED = 24
HIDDEN = 192
ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,;:'()-0123456789"
BATCH = 128
RATE = 0.003  # the first step of a weight; the last is nearly 0
UNITS = 1 << 20  # of the grid in 1


def grid(values: np.ndarray) -> np.ndarray:
    """Return the nearest multiples of 1/UNITS from -4 to 4.

    A product of two is at most 2**44 of the squared unit, so 256 of them, more than any row or batch here has, sum to at most
    2**52: float64 holds each partial sum exactly.
    """
    return np.clip(np.rint(values * UNITS), -4 * UNITS, 4 * UNITS) / UNITS


def training_text() -> str:
    """Return the text to learn from: this repository's licence, in the model's alphabet."""
    here = Path(__file__).resolve()
    found = [folder / "LICENSE" for folder in here.parents if (folder / "LICENSE").is_file()]
    if not found:
        raise SystemExit(f"there is no LICENSE above {here}: run this in a clone, or put a text of that name there")
    text = " ".join(found[0].read_text(encoding="utf-8").lower().split())
    return "".join(character for character in text if character in ALPHABET)


def windows(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Return all contexts and the character that follows each."""
    codes = np.array([ALPHABET.index(character) for character in "\n" * CONTEXT + text])
    index = np.arange(len(codes) - CONTEXT)[:, None] + np.arange(CONTEXT)
    return codes[index], codes[CONTEXT:]


def train(steps: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Return the weights after `steps` batches, each of which moves every weight by the same step, down its mean gradient."""
    random = np.random.default_rng(seed)

    def start(rows: int, columns: int) -> np.ndarray:
        most = int(UNITS * math.sqrt(3 / rows))
        return random.integers(-most, most, (rows, columns)) / UNITS

    contexts, targets = windows(training_text())
    weights = {
        "embed": start(len(ALPHABET), EMBED),
        "hidden.weight": start(CONTEXT * EMBED, HIDDEN),
        "hidden.bias": np.zeros(HIDDEN),
        "out.weight": start(HIDDEN, len(ALPHABET)),
        "out.bias": np.zeros(len(ALPHABET)),
    }
    mean = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(steps):
        rows = random.integers(0, len(targets), BATCH)
        for name, value in gradients(weights, contexts[rows], targets[rows]).items():
            mean[name] += 0.1 * (value - mean[name])
            weights[name] = grid(weights[name] - RATE * (1 - step / steps) * np.sign(mean[name]))
    return {name: value.astype(np.float32) for name, value in weights.items()}


def gradients(weights: dict[str, np.ndarray], contexts: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradient of the summed cross entropy of one batch."""
    inputs = weights["embed"][contexts].reshape(len(targets), -1)
    total = inputs @ weights["hidden.weight"] + weights["hidden.bias"]
    slope = 1 / (1 + np.abs(total))
    hidden = grid(total * slope)
    logits = hidden @ weights["out.weight"] + weights["out.bias"]
    share = grid(exponential(logits - logits.max(axis=1, keepdims=True)))
    share = grid(share / share.sum(axis=1, keepdims=True))
    share[np.arange(len(targets)), targets] -= 1
    back = grid(share @ weights["out.weight"].T * slope * slope)
    embed = np.zeros_like(weights["embed"])
    np.add.at(embed, contexts, grid(back @ weights["hidden.weight"].T).reshape(*contexts.shape, EMBED))
    return {
        "embed": embed,
        "hidden.weight": inputs.T @ back,
        "hidden.bias": back.sum(axis=0),
        "out.weight": hidden.T @ share,
        "out.bias": share.sum(axis=0),
    }


def exponential(values: np.ndarray) -> np.ndarray:
    """Return about e**values for values up to 0, as (1 + values / 1024)**1024: every libm has an exp of its own."""
    result = np.maximum(1 + values / 1024, 0)
    for _ in range(10):
        result *= result
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    target = Path(__file__).resolve().parent / "models" / "tiny.safetensors"
    target.parent.mkdir(exist_ok=True)
    metadata = {"alphabet": ALPHABET}  # one entry: safetensors writes several in an order of chance
    save_file(train(options.steps), target, metadata=metadata)
    print(f"wrote {target} ({target.stat().st_size} bytes)")
