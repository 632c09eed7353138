"""The language model: the last characters, embedded, through one hidden layer, to the next one."""

import numpy as np


class Model:
    """Weights of one safetensors file, ready to continue texts."""

    def __init__(self, metadata, tensors):
        self.alphabet = metadata["alphabet"]
        self.context = int(metadata["context"])
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
        hidden = np.tanh(inputs @ weights["hidden.weight"] + weights["hidden.bias"])
        logits = (hidden @ weights["out.weight"] + weights["out.bias"]).astype(np.float64) / temperature
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()
