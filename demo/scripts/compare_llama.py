"""Compares llama.cpp with PyTorch, number by number, for the small models.

    python compare_llama.py --tests demo/tasks --tokenizer DATA/world.json --models DATA --ggufs demo/model --llama-check PATH

Prints ‖llama.cpp − PyTorch‖ / ‖PyTorch‖ over some rows of the test sets: of all logits for the
decoders and the encoder-decoder, of the embeddings and class scores for the encoder.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import encoders
import model as decoders
from make_tasks import BOS, EOS, PAD, conversation, read_lines
from measure_tasks import Llama, Torch


def difference(theirs, ours):
    return float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tests", "tokenizer", "models", "ggufs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--llama-check", required=True)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    llama, ours = Llama(arguments.ggufs, arguments.llama_check, tokenizer), Torch(arguments.models, tokenizer)
    floats = lambda lines: np.array([list(map(float, line.split())) for line in lines])
    rows = read_lines(arguments.tests / "questions.jsonl")[:5]
    for name in ("experts", "chat"):
        model = decoders.load(arguments.models / f"{name}.pt")
        asked = [conversation(tokenizer, [(row["context"], row["question"])])[0] for row in rows]
        right = np.concatenate([model(torch.tensor([ids]))[0].numpy() for ids in asked])
        print(f"{name}: logits differ by {difference(floats(llama.run('logits', [name], llama.numbers(asked))), right):.2e}")
    model = encoders.load(arguments.models / "translate.pt")
    sources = [[*tokenizer.encode("translate: " + row["question"]).ids, EOS] for row in rows]
    targets = [[PAD, *tokenizer.encode(row["context"]).ids] for row in rows]
    right = [model(torch.tensor([s]), torch.zeros(1, len(s), dtype=torch.bool), torch.tensor([t]))[0].numpy() for s, t in zip(sources, targets)]
    lines = [f"{s}|{t}" for s, t in zip(llama.numbers(sources), llama.numbers(targets))]
    print(f"translate: logits differ by {difference(floats(llama.run('logits', ['translate'], lines)), np.concatenate(right)):.2e}")
    asked = [[BOS, *tokenizer.encode(row["context"]).ids, EOS] for row in rows]
    for what, theirs, right in zip(("embeddings", "class scores"), llama.embed(asked), ours.embed(asked)):
        print(f"embed: {what} differ by {difference(theirs, right):.2e}")


if __name__ == "__main__":
    main()
