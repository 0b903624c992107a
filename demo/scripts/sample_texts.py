"""Samples documents from the teacher: token ids, one JSON line per document.

    python sample_texts.py --model DATA/teacher.pt --out DATA/evaluation.samples.jsonl --seed 20261123

Documents start from <s> alone and end at </s> or at the context's end. select_texts.py makes the
published text of them.
"""

import argparse
import json

import torch

import data
import model as architecture

EOS = 1


def choose(logits, temperature, top_p, generator):
    """One token per row: temperature, then the smallest set of tokens holding top_p."""
    probabilities, order = torch.softmax(logits.float() / temperature, -1).sort(-1, descending=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.masked_fill(before >= top_p, 0.0)
    chosen = torch.multinomial(probabilities, 1, generator=generator)
    return order.gather(-1, chosen)


@torch.no_grad()
def sample(decoder, count, length, temperature, top_p, generator, dtype, prompt=(data.BOS,)):
    device = decoder.embedding.weight.device
    tokens = torch.tensor([prompt], device=device).repeat(count, 1)
    caches = decoder.empty_caches(count, dtype)
    done = torch.zeros(count, dtype=torch.bool, device=device)
    new, position = tokens, 0
    while tokens.shape[1] < length and not done.all():
        logits = decoder(new, caches, position)[:, -1]
        logits[:, data.BOS] = -torch.inf
        position += new.shape[1]
        new = choose(logits, temperature, top_p, generator)
        tokens = torch.cat([tokens, new], 1)
        done |= new[:, 0] == EOS
    return tokens[:, len(prompt) :].tolist()


def until_end(ids):
    return ids[: ids.index(EOS)] if EOS in ids else ids


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--documents", type=int, default=1536)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--shortest", type=int, default=100, help="drop documents of fewer tokens")
    arguments = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    decoder = architecture.load(arguments.model, device).to(dtype)
    generator = torch.Generator(device).manual_seed(arguments.seed)
    kept = total = 0
    with open(arguments.out, "w") as file:
        for start in range(0, arguments.documents, arguments.batch):
            count = min(arguments.batch, arguments.documents - start)
            rows = sample(
                decoder, count, decoder.config.context, arguments.temperature, arguments.top_p, generator, dtype
            )
            for index, row in enumerate(rows):
                ids = until_end(row)
                if len(ids) >= arguments.shortest:
                    kept, total = kept + 1, total + len(ids)
                    entry = dict(seed=arguments.seed, document=start + index, ended=len(ids) < len(row), ids=ids)
                    file.write(json.dumps(entry) + "\n")
    print(json.dumps(dict(out=arguments.out, seed=arguments.seed, documents=kept, tokens=total)))


if __name__ == "__main__":
    main()
