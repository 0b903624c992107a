"""Token files as batches: documents reshuffled for every pass, packed into windows."""

from pathlib import Path

import numpy as np
import torch

BOS = 0


class Documents:
    def __init__(self, folder, split):
        folder = Path(folder)
        self.tokens = np.fromfile(folder / f"{split}.bin", dtype=np.uint16)
        self.offsets = np.load(folder / f"{split}.offsets.npy").astype(np.int64)

    def stream(self, generator=None):
        """All tokens, one document after the other; in random order when given a generator."""
        if generator is None:
            return self.tokens
        order = generator.permutation(len(self.offsets) - 1)
        starts, lengths = self.offsets[:-1][order], np.diff(self.offsets)[order]
        ends = np.cumsum(lengths)
        index = np.arange(len(self.tokens)) + np.repeat(starts - (ends - lengths), lengths)
        return self.tokens[index]

    def windows(self, length, generator=None):
        """[n, length + 1] windows that follow each other; the tail that fills none is left out."""
        stream = self.stream(generator)
        count = (len(stream) - 1) // length
        skip = int(generator.integers(len(stream) - count * length)) if generator else 0
        index = np.arange(count)[:, None] * length + np.arange(length + 1) + skip
        windows = torch.from_numpy(stream[index].astype(np.int32))
        if generator is not None:
            windows = windows[torch.from_numpy(generator.permutation(count))]
        return windows


def inputs_and_targets(windows, device):
    """Each window's first token is replaced by <s>: that is how perplexity is measured, too."""
    windows = windows.to(device, non_blocking=True).long()
    inputs = windows[:, :-1].clone()
    inputs[:, 0] = BOS
    return inputs, windows[:, 1:]


def endless_batches(documents, length, batch, seed, device):
    generator = np.random.default_rng(seed)
    while True:
        windows = documents.windows(length, generator)
        if device != "cpu":
            windows = windows.to(device)
        for start in range(0, len(windows) - batch + 1, batch):
            yield inputs_and_targets(windows[start : start + batch], device)
