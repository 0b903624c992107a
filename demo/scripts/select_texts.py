"""Makes a published text of sampled documents: drops copies of the corpora, joins the rest.

    python select_texts.py --data DATA --samples DATA/evaluation.samples.jsonl --out evaluation.txt

Every training window starts with <s>, so after <s> alone the teacher goes on in the middle of a
text. A sampled document is therefore cut to start and (where it reached the context's end) to stop
at a sentence. It is dropped when any 20 of its tokens in a row occur in the training, calibration
or held-out documents, when it is not valid UTF-8, when less than 60 tokens are left of it, or when
it goes round in circles: fewer than 82 % of its runs of 4 tokens differ from each other. Documents
are taken in the order they were sampled until --tokens are reached, separated by blank lines.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

RUN = 20
SHORTEST = 60
STARTS_A_TEXT = re.compile(r'(?!Answer:)["“]?[A-Z0-9]')
SENTENCE_BOUNDARY = re.compile(r'(\n|[a-z0-9)][.!?]["”]?\s)\s*(?!Answer:)(?=["“]?[A-Z0-9])')


def run_hashes(tokens):
    """A 64-bit hash of every run of RUN tokens."""
    array = np.asarray(tokens, dtype=np.uint64)
    if len(array) < RUN:
        return np.zeros(0, dtype=np.uint64)
    total = np.zeros(len(array) - RUN + 1, dtype=np.uint64)
    for offset in range(RUN):
        total = total * np.uint64(6364136223846793005) + array[offset : len(array) - RUN + 1 + offset] + np.uint64(1)
    return total


def corpus_hashes(folder):
    parts = [run_hashes(np.fromfile(Path(folder) / f"{split}.bin", dtype=np.uint16)) for split in ("train", "calibration", "held-out")]
    return np.sort(np.concatenate(parts))


def occurs(hashes, table):
    place = np.minimum(np.searchsorted(table, hashes), len(table) - 1)
    return bool((table[place] == hashes).any())


def from_first_sentence(text):
    """Leaves out what comes before the first sentence or line that starts in sight."""
    if STARTS_A_TEXT.match(text):
        return text
    boundary = SENTENCE_BOUNDARY.search(text)
    return text[boundary.end() :] if boundary else ""


def variety(ids, size=4):
    """Distinct runs of `size` tokens over all such runs."""
    runs = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)]
    return len(set(runs)) / max(1, len(runs))


def shortened(text):
    """Up to the last full sentence."""
    end = max(text.rfind(mark) for mark in (". ", ".\n", '."', "! ", "? "))
    return text[: end + 1]


def select(folder, samples, wanted):
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    table, counts, taken, total = corpus_hashes(folder), Counter(), [], 0
    for line in Path(samples).read_text().splitlines():
        if total >= wanted:
            break
        entry = json.loads(line)
        text = from_first_sentence(tokenizer.decode(entry["ids"])).strip()
        if not entry["ended"]:
            text = shortened(text)
        ids = tokenizer.encode(text).ids
        if "\ufffd" in text:
            counts["not UTF-8"] += 1
        elif occurs(run_hashes(entry["ids"]), table) or occurs(run_hashes(ids), table):
            counts["a run of the corpora"] += 1
        elif len(ids) < SHORTEST:
            counts["too short"] += 1
        elif variety(ids) < 0.82:
            counts["goes round in circles"] += 1
        else:
            counts["taken"] += 1
            taken.append(text)
            total += len(ids)
    text = "\n\n".join(taken) + "\n"
    return text, dict(counts, tokens=len(tokenizer.encode(text).ids), bytes=len(text.encode()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--samples", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--tokens", type=int, default=65000)
    arguments = parser.parse_args()
    text, counts = select(arguments.data, arguments.samples, arguments.tokens)
    Path(arguments.out).write_text(text, encoding="utf-8")
    print(json.dumps(dict(out=arguments.out, **counts)))


if __name__ == "__main__":
    main()
