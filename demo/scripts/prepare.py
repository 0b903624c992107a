"""Splits the corpora, trains the tokenizer on the training split and writes token files.

    python prepare.py --corpora DIR --out DATA

DATA gets tokenizer.json, {train,calibration,held-out}.bin (uint16 tokens, every document wrapped in
<s> … </s>) with .offsets.npy (where each document starts), calibration.txt and held-out.txt (plain
text, articles separated by blank lines), blimp.npz and prepare.json (the counts). Nothing in DATA
is for publication: it is the corpora in another form.
"""

import argparse
import json
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import corpora

VOCABULARY = 4096
BOS, EOS = 0, 1
OVERLAP_WORDS = 13


def word_ngrams(text, size=OVERLAP_WORDS):
    """Hashes of every run of `size` words, case and punctuation aside."""
    words = [zlib.crc32(word.encode()) for word in re.findall(r"\w+", text.lower())]
    if len(words) < size:
        return set()
    array = np.array(words, dtype=np.uint64)
    total = np.zeros(len(array) - size + 1, dtype=np.uint64)
    for offset in range(size):
        total = total * np.uint64(6364136223846793005) + array[offset : len(array) - size + 1 + offset]
    return set(total.tolist())


def without_evaluation_text(documents, folder, counts):
    """Drops training paragraphs that share 13 words in a row with any evaluation text."""
    forbidden = set()
    for text in corpora.evaluation_texts(folder):
        forbidden |= word_ngrams(text)
    counts["evaluation_ngrams"] = len(forbidden)
    for source, text in documents:
        kept = []
        for line in text.split("\n"):
            if word_ngrams(line).isdisjoint(forbidden):
                kept.append(line)
            else:
                counts["dropped_paragraphs:" + source] += 1
        if kept and (len(kept) == text.count("\n") + 1 or len("\n".join(kept)) >= 150):
            yield source, "\n".join(kept)


def train_tokenizer(texts):
    """Byte-level BPE over GPT-2's pre-tokenizer, which llama.cpp knows as "gpt-2"."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    assert (tokenizer.token_to_id("<s>"), tokenizer.token_to_id("</s>")) == (BOS, EOS)
    return tokenizer


def write_tokens(tokenizer, texts, path):
    """Writes the documents one after the other; returns the number of tokens."""
    pieces, offsets, position = [], [0], 0
    for start in range(0, len(texts), 4096):
        for encoding in tokenizer.encode_batch(texts[start : start + 4096]):
            ids = np.array([BOS, *encoding.ids, EOS], dtype=np.uint16)
            pieces.append(ids)
            position += len(ids)
            offsets.append(position)
    np.concatenate(pieces).tofile(path.with_suffix(".bin"))
    np.save(path.with_suffix(".offsets.npy"), np.array(offsets, dtype=np.uint32))
    return position


def write_blimp(tokenizer, folder, path):
    """Token ids of all 67,000 pairs, padded with -1, good and bad sentence in turn."""
    rows = corpora.read_lines(folder, "blimp.jsonl.xz")
    sentences = [sentence for row in rows for sentence in (row["good"], row["bad"])]
    ids = [[BOS, *encoding.ids] for encoding in tokenizer.encode_batch(sentences)]
    table = np.full((len(ids), max(map(len, ids))), -1, dtype=np.int16)
    for index, row in enumerate(ids):
        table[index, : len(row)] = row
    names = {key: np.array([row[key] for row in rows]) for key in ("phenomenon", "paradigm")}
    np.savez_compressed(path, tokens=table, **names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    counts = Counter()
    documents = corpora.training_documents(arguments.corpora)
    documents = list(without_evaluation_text(documents, arguments.corpora, counts))
    for source, text in documents:
        counts["documents:" + source] += 1
        counts["characters:" + source] += len(text)
    texts = {
        "train": [text for _, text in documents],
        "calibration": corpora.articles(arguments.corpora, "calibration"),
        "held-out": corpora.articles(arguments.corpora, "held-out"),
    }
    tokenizer = train_tokenizer(texts["train"])
    tokenizer.save(str(out / "tokenizer.json"))
    for split, split_texts in texts.items():
        counts["tokens:" + split] = write_tokens(tokenizer, split_texts, out / split)
        counts["all_characters:" + split] = sum(map(len, split_texts))
        counts["all_bytes:" + split] = sum(len(text.encode()) for text in split_texts)
        if split != "train":
            (out / f"{split}.txt").write_text("\n\n".join(split_texts) + "\n", encoding="utf-8")
            counts["documents:" + split] = len(split_texts)
    write_blimp(tokenizer, arguments.corpora, out / "blimp.npz")
    (out / "prepare.json").write_text(json.dumps(counts, indent=1) + "\n")
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
