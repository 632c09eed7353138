"""Train the example's language model and write models/tiny.safetensors: needs numpy and safetensors, a minute or two.

A character model: the last 8 characters, embedded, through one hidden layer. Small enough to train here, and stored exactly
as a large one is: named tensors in a safetensors file. Trained again it differs in the last bits, as sums of floats in threads do.
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONTEXT = 8
EMBED = 24
HIDDEN = 192
ALPHABET = "\n abcdefghijklmnopqrstuvwxyz.,;:'()-0123456789"


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
    """Return the weights after `steps` batches of Adam."""
    random = np.random.default_rng(seed)
    contexts, targets = windows(training_text())
    size = len(ALPHABET)
    weights = {
        "embed": random.normal(0, 0.1, (size, EMBED)),
        "hidden.weight": random.normal(0, (CONTEXT * EMBED) ** -0.5, (CONTEXT * EMBED, HIDDEN)),
        "hidden.bias": np.zeros(HIDDEN),
        "out.weight": random.normal(0, HIDDEN**-0.5, (HIDDEN, size)),
        "out.bias": np.zeros(size),
    }
    mean = {name: np.zeros_like(value) for name, value in weights.items()}
    square = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(1, steps + 1):
        rows = random.integers(0, len(targets), 256)
        gradient = gradients(weights, contexts[rows], targets[rows])
        for name, value in gradient.items():
            mean[name] += 0.1 * (value - mean[name])
            square[name] += 0.001 * (value**2 - square[name])
            corrected = mean[name] / (1 - 0.9**step)
            weights[name] -= 0.003 * corrected / (np.sqrt(square[name] / (1 - 0.999**step)) + 1e-8)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def gradients(weights: dict[str, np.ndarray], contexts: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return the gradient of the cross entropy of one batch."""
    count = len(targets)
    inputs = weights["embed"][contexts].reshape(count, -1)
    hidden = np.tanh(inputs @ weights["hidden.weight"] + weights["hidden.bias"])
    logits = hidden @ weights["out.weight"] + weights["out.bias"]
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    share[np.arange(count), targets] -= 1
    share /= count
    back = (share @ weights["out.weight"].T) * (1 - hidden**2)
    embed = np.zeros_like(weights["embed"])
    np.add.at(embed, contexts, (back @ weights["hidden.weight"].T).reshape(count, CONTEXT, EMBED))
    return {
        "embed": embed,
        "hidden.weight": inputs.T @ back,
        "hidden.bias": back.sum(axis=0),
        "out.weight": hidden.T @ share,
        "out.bias": share.sum(axis=0),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    target = Path(__file__).resolve().parent / "models" / "tiny.safetensors"
    target.parent.mkdir(exist_ok=True)
    save_file(train(options.steps), target, metadata={"alphabet": ALPHABET, "context": str(CONTEXT)})
    print(f"wrote {target} ({target.stat().st_size} bytes)")
