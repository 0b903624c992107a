"""Texts and prompts to measure the small models on, from the test sets in demo/tasks.

    python world_texts.py --tests demo/tasks --out demo/texts

Writes world.txt (passages and stories, for perplexity and divergence of the decoders),
world-embed.txt (a text a line with the prefix that the encoder was trained with), world-sources.txt
(a source a line with the prefix that the encoder-decoder was trained with) and a few prompts for
latency: world-prompts.jsonl for the decoders, world-source-prompts.jsonl for the encoder-decoder.
"""

import argparse
import json
from pathlib import Path

PROMPTS = 12


def read(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def write_lines(path, lines):
    path.write_text("".join(line + "\n" for line in lines))


def write_prompts(path, prompts):
    rows = ({"id": f"{kind}-{n}", "kind": kind, "text": text} for n, (kind, text) in enumerate(prompts))
    write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    passages = [row["text"] for row in read(arguments.tests, "passages")]
    questions = read(arguments.tests, "questions")
    asked = [row["question"] for row in read(arguments.tests, "retrieval")]
    stories = [row["text"] for row in read(arguments.tests, "classification")]
    sentences = [row["source"] for row in read(arguments.tests, "translation")]
    summaries = [row["text"] for row in read(arguments.tests, "summarization")]
    write_lines(arguments.out / "world.txt", passages + [row["context"] for row in questions])
    embedded = [("passage", passages), ("query", asked), ("topic", stories), ("mood", stories)]
    write_lines(
        arguments.out / "world-embed.txt",
        [f"{prefix}: {text}" for row in zip(*(texts[:60] for _, texts in embedded)) for prefix, text in zip((name for name, _ in embedded), row)],
    )
    sources = [("translate", text) for text in sentences[:120]] + [("summarize", text) for text in summaries[:60]]
    write_lines(arguments.out / "world-sources.txt", [f"{prefix}: {text}" for prefix, text in sources])
    write_prompts(
        arguments.out / "world-prompts.jsonl",
        [("question", f"{row['context']}\nQuestion: {row['question']}\nAnswer:") for row in questions[:PROMPTS]],
    )
    half = PROMPTS // 2
    chosen = [("translation", "translate: " + text) for text in sentences[:half]] + [("summary", "summarize: " + text) for text in summaries[:half]]
    write_prompts(arguments.out / "world-source-prompts.jsonl", chosen)


if __name__ == "__main__":
    main()
