"""Perplexity and BLiMP of one checkpoint.

    python evaluate.py --model DATA/demo.pt --data DATA [--text FILE ...] [--out figures.json]

Perplexity follows llama-perplexity: the text's tokens are cut into chunks of 512, the first token
of each chunk is replaced by <s>, and the second half of each chunk is scored. Every --text file is
measured so, and the held-out articles as well; those are also scored whole, article by article with
1,024 tokens of context. BLiMP: a pair counts when the good sentence, after <s>, has the higher sum
of log-probabilities.
"""

import argparse
import contextlib
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
import model as architecture


@torch.no_grad()
def token_losses(decoder, inputs, targets, precision):
    with precision():
        logits = decoder(inputs)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


def chunked(decoder, ids, device, precision, size=512, batch=64):
    """llama-perplexity's figure for one text, and how many tokens were scored."""
    chunks = torch.tensor(ids[: len(ids) // size * size]).view(-1, size)
    losses = []
    for part in chunks.split(batch):
        inputs = part.to(device).clone()
        inputs[:, 0] = data.BOS
        losses.append(token_losses(decoder, inputs[:, :-1], inputs[:, 1:], precision)[:, size // 2 :].flatten())
    losses = torch.cat(losses)
    mean, count = losses.mean().item(), losses.numel()
    error = losses.std().item() / math.sqrt(count)
    return {"perplexity": math.exp(mean), "error": math.exp(mean) * error, "nats_per_token": mean, "scored": count}


def whole_articles(decoder, folder, split, device, precision):
    """Mean loss over all tokens of all articles, each read from its <s> on, in windows of the context."""
    documents = data.Documents(folder, split)
    total, count = 0.0, 0
    for start, end in zip(documents.offsets[:-1], documents.offsets[1:]):
        ids = torch.from_numpy(documents.tokens[start:end].astype(np.int64)).to(device)
        for begin in range(0, len(ids) - 1, decoder.config.context):
            window = ids[begin : begin + decoder.config.context + 1][None].clone()
            targets = window[:, 1:].clone()
            window[:, 0] = data.BOS
            losses = token_losses(decoder, window[:, :-1], targets, precision)
            total, count = total + losses.sum().item(), count + losses.numel()
    counts = json.loads((Path(folder) / "prepare.json").read_text())
    return {
        "nats_per_token": total / count,
        "perplexity": math.exp(total / count),
        "scored": count,
        "characters_per_token": counts[f"all_characters:{split}"] / count,
        "bits_per_byte": total / math.log(2) / counts[f"all_bytes:{split}"],
    }


def blimp(decoder, folder, device, precision, batch=2000):
    stored = np.load(Path(folder) / "blimp.npz")
    tokens = torch.from_numpy(stored["tokens"].astype(np.int64))
    sums = []
    for part in tokens.split(batch):
        part = part.to(device)
        targets = part[:, 1:]
        losses = token_losses(decoder, part[:, :-1].clamp(min=0), targets.clamp(min=0), precision)
        sums.append((-losses * (targets >= 0)).double().sum(1).cpu())
    sums = torch.cat(sums).view(-1, 2)
    right = (sums[:, 0] > sums[:, 1]).numpy()
    figures = {"pairs": len(right), "accuracy": float(right.mean())}
    for key in ("phenomenon", "paradigm"):
        groups = defaultdict(list)
        for name, value in zip(stored[key].tolist(), right.tolist()):
            groups[name].append(value)
        figures[key] = {name: sum(values) / len(values) for name, values in sorted(groups.items())}
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--out")
    parser.add_argument("--no-blimp", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="faster, a little less exact")
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    reduced = arguments.bf16 and device == "cuda"
    precision = lambda: torch.autocast("cuda", torch.bfloat16) if reduced else contextlib.nullcontext()
    decoder = architecture.load(arguments.model, device)
    tokenizer = Tokenizer.from_file(str(Path(arguments.data) / "tokenizer.json"))
    figures = {"parameters": sum(p.numel() for p in decoder.parameters()), "device": device}
    for path in [Path(arguments.data) / "held-out.txt", *map(Path, arguments.text)]:
        ids = [data.BOS, *tokenizer.encode(path.read_text(encoding="utf-8")).ids]
        figures[f"chunks of 512: {path.name}"] = chunked(decoder, ids, device, precision)
    figures["held-out, whole articles"] = whole_articles(decoder, arguments.data, "held-out", device, precision)
    if not arguments.no_blimp:
        figures["blimp"] = blimp(decoder, arguments.data, device, precision)
    text = json.dumps(figures, indent=1)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
