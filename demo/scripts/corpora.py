"""Reads shared/corpora and turns it into documents, one string each, by split.

The only script that knows the files' formats. Splits of Wikipedia depend on the article's id alone
(`wikipedia_split`), so anyone gets the same ones. Sets meant for evaluation are read here too, but
only so that their text can be kept out of the training documents.
"""

import hashlib
import json
import lzma
import re
from pathlib import Path

CALIBRATION_BUCKETS = range(0, 20)  # 2 % of the articles: watched during training
HELD_OUT_BUCKETS = range(20, 50)  # 3 % of the articles: looked at once, for the final figures
BUCKETS = 1000


def wikipedia_split(article_id):
    """train, calibration or held-out: the first 8 hex digits of SHA-256(id), modulo 1000."""
    bucket = int(hashlib.sha256(article_id.encode()).hexdigest()[:8], 16) % BUCKETS
    if bucket in CALIBRATION_BUCKETS:
        return "calibration"
    return "held-out" if bucket in HELD_OUT_BUCKETS else "train"


def read_text(folder, name):
    with lzma.open(Path(folder) / name, "rt", encoding="utf-8") as file:
        return file.read()


def read_lines(folder, name):
    with lzma.open(Path(folder) / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def clean(text):
    """Strips lines and drops empty ones."""
    lines = (re.sub(r"[ \t\u00a0]+", " ", line).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def is_heading(line):
    return len(line) < 60 and line.endswith(".") and line.count(". ") == 0 and len(line.split()) <= 6


def drop_empty_sections(text):
    """Drops headings with nothing under them: what the extractor leaves of tables and lists."""
    lines = text.split("\n")
    kept = []
    for index, line in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else None
        label = len(line) < 60 and line.startswith('"') and line.endswith('"') and index > 0
        dangling = is_heading(line) and index > 0 and (following is None or is_heading(following))
        if not (label or dangling):
            kept.append(line)
    return "\n".join(kept)


def wikipedia(folder):
    """(split, title, text) of every article."""
    for article in read_lines(folder, "wikipedia-en.jsonl.xz"):
        text = drop_empty_sections(clean(article["text"]))
        yield wikipedia_split(article["id"]), article["title"], text


def question_lines(pairs):
    return "\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in pairs)


def squad(folder):
    """Each paragraph, followed by its questions and first answers."""
    for row in read_lines(folder, "squad1.1-train.jsonl.xz"):
        pairs = [(qa["question"].strip(), qa["answers"][0].strip()) for qa in row["qas"] if qa["answers"]]
        yield clean(row["context"]) + "\n" + question_lines(pairs)


def fairytale_sections(folder):
    """Each section of a story, followed by the questions asked about it."""
    sections = {}
    for row in read_lines(folder, "fairytaleqa-train.jsonl.xz"):
        if row["answers"]:
            pair = (row["question"].strip(), row["answers"][0].strip())
            sections.setdefault(clean(row["context"]), []).append(pair)
    for context, pairs in sections.items():
        yield context + "\n" + question_lines(pairs)


def fairytale_stories(folder, paragraphs_per_document=8):
    """The stories file has no marks between stories, so runs of paragraphs serve as documents."""
    lines = clean(read_text(folder, "fairytaleqa-stories-train.txt.xz")).split("\n")
    for start in range(0, len(lines), paragraphs_per_document):
        yield "\n".join(lines[start : start + paragraphs_per_document])


def african_storybook(folder):
    """Lines there are broken for layout; they are joined again."""
    for row in read_lines(folder, "african-storybook.jsonl.xz"):
        yield re.sub(r"\s+", " ", row["text"]).strip()


def tiny_stories(folder):
    stories = read_text(folder, "tinystories-sample.txt.xz").split("<|endoftext|>")
    for story in stories[1:-1]:  # the piece starts and ends inside a story
        yield clean(story)


def tatoeba(folder):
    """The English side, each sentence once and a document of its own."""
    seen = set()
    for line in read_text(folder, "tatoeba-eng-deu.tsv.xz").split("\n"):
        sentence = line.split("\t")[0].strip()
        if sentence and sentence not in seen:
            seen.add(sentence)
            yield sentence


def scitldr(folder):
    for row in read_lines(folder, "scitldr-train.jsonl.xz"):
        yield clean(row["source"]) + "\nSummary: " + clean(row["targets"][0])


def training_documents(folder):
    """(source, text) of everything trained on, before the check against evaluation text."""
    for split, title, text in wikipedia(folder):
        if split == "train" and len(text) >= 150:
            yield "wikipedia", text
    sources = {
        "squad": squad,
        "fairytale-sections": fairytale_sections,
        "fairytale-stories": fairytale_stories,
        "african-storybook": african_storybook,
        "tinystories": tiny_stories,
        "tatoeba": tatoeba,
        "scitldr": scitldr,
    }
    for name, reader in sources.items():
        for text in reader(folder):
            yield name, text


def articles(folder, wanted_split):
    return [text for split, _, text in wikipedia(folder) if split == wanted_split and len(text) >= 150]


def evaluation_texts(folder):
    """Everything a training paragraph must not share a passage with."""
    yield from articles(folder, "calibration")
    yield from articles(folder, "held-out")
    for name in ("wikitext2-valid.txt.xz", "wikitext2-test.txt.xz"):
        yield read_text(folder, name)
    for name in ("fairytaleqa-stories-val.txt.xz", "fairytaleqa-stories-test.txt.xz"):
        yield read_text(folder, name)
    for row in read_lines(folder, "squad1.1-dev.jsonl.xz"):
        yield row["context"]
    for name in ("scitldr-dev.jsonl.xz", "scitldr-test.jsonl.xz"):
        for row in read_lines(folder, name):
            yield row["source"]
    for name in ("boolq", "lambada-openai", "arc-easy", "arc-challenge", "openbook-qa", "piqa", "winogrande", "copa"):
        for line in read_text(folder, f"{name}.jsonl.xz").split("\n"):
            if line:
                yield " ".join(strings_of(json.loads(line)))


def strings_of(value):
    """Every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        value = value.values()
    if not isinstance(value, (str, int, float, bool, type(None))):
        for item in value:
            yield from strings_of(item)
