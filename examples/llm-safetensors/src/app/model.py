"""The language model: the last characters, embedded, through one hidden layer, to the next one."""

import numpy as np

from glasscase import runtime


def resident():
    """Return the bytes of memory that this process has now, and the most that it had; zeros where the runtime says nothing."""
    found = {}
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            found = dict(line.split(":", 1) for line in file if line.startswith(("VmRSS", "VmHWM")))
    except OSError:
        pass
    return tuple(int(found.get(name, "0").split()[0]) << 10 for name in ("VmRSS", "VmHWM"))


def load(path):
    """Return the model of a safetensors file of the package, and what memory reading it took.

    Each chunk is authenticated before a byte of it is used and decrypted straight into its array: memory grows by the tensors
    and a few MiB, not by a second copy.
    """
    before, _ = resident()
    with runtime.open_tensors(path) as file:
        model = Model(file.metadata, file.load())
    after, peak = resident()
    tensors = sum(array.nbytes for array in model.weights.values())
    return model, {"tensors": tensors, "before": before, "after": after, "peak": peak, "growth": peak - before}


class Model:
    """Weights of one safetensors file, ready to continue texts."""

    def __init__(self, metadata, tensors):
        self.alphabet = metadata["alphabet"]
        self.context = len(tensors["hidden.weight"]) // tensors["embed"].shape[1]
        self.weights = tensors

    def continue_text(self, prompt, count, temperature, seed):
        """Give `count` characters that follow the prompt, one at a time."""
        random = np.random.default_rng(seed)
        known = [self.alphabet.index(c) for c in prompt.lower() if c in self.alphabet]
        codes = ([0] * self.context + known)[-self.context :]
        for _ in range(count):
            code = int(random.choice(len(self.alphabet), p=self._shares(codes, temperature)))
            codes = [*codes[1:], code]
            yield self.alphabet[code]

    def _shares(self, codes, temperature):
        weights = self.weights
        inputs = weights["embed"][codes].reshape(-1)
        total = inputs @ weights["hidden.weight"] + weights["hidden.bias"]
        hidden = total / (1 + np.abs(total))
        logits = (hidden @ weights["out.weight"] + weights["out.bias"]).astype(np.float64) / temperature
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()
