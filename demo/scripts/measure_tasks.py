"""Accuracy of the small models on demo/tasks, by PyTorch or by llama.cpp.

    python measure_tasks.py --tests demo/tasks --tokenizer DATA/world.json --models DATA
    python measure_tasks.py --tests demo/tasks --tokenizer DATA/world.json --ggufs demo/model --llama-check PATH

An answer counts when it is right to the letter. `words` is the mean F1 of the words of a summary,
translation or caption. Passages are found by the cosine of embeddings; topics and moods by the
nearest embedding of their names, and by the classification head. `rag` gives the chat model the
three passages found, `with the passage` the right one between two others.
"""

import argparse
import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer

import encoders
import model as decoders
from make_tasks import BOS, DESCRIBE, EOS, IM_END, IMAGE_TOKENS, PAD, SUMMARIZE, conversation, read_lines
from world import stories

LONGEST_ANSWER = 96


class Torch:
    """The checkpoints; everything in one batch."""

    def __init__(self, folder, tokenizer):
        self.folder, self.tokenizer = folder, tokenizer
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def has(self, name):
        return (self.folder / f"{name}.pt").exists()

    def model(self, name):
        return (encoders if name in encoders.MODELS else decoders).load(self.folder / f"{name}.pt", self.device)

    def table(self, rows):
        length = max(map(len, rows))
        return torch.tensor([row + [PAD] * (length - len(row)) for row in rows], device=self.device)

    @torch.no_grad()
    def translate(self, rows):
        model, sources = self.model("translate"), self.table(rows)
        padding = sources == PAD
        encoded, tokens = model.encode(sources, padding), torch.full((len(rows), 1), PAD, device=self.device)
        for _ in range(LONGEST_ANSWER):
            new = model.decode(tokens, encoded, padding)[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, new], 1)
            if (tokens == EOS).any(1).all():
                break
        return [until(row, EOS) for row in tokens[:, 1:].tolist()]

    @torch.no_grad()
    def complete(self, name, rows, end, pictures=None, batch=64):
        """Greedy continuations. Rows of pictures hold <pad> where the picture goes."""
        model, answers = self.model(name), []
        image = self.model("see") if pictures is not None else None
        for begin in range(0, len(rows), batch):
            part = rows[begin : begin + batch]
            lengths = torch.tensor([len(row) for row in part], device=self.device)
            tokens = torch.cat([self.table(part), torch.full((len(part), LONGEST_ANSWER), PAD, device=self.device)], 1)
            index = torch.arange(len(part), device=self.device)
            done = torch.zeros(len(part), dtype=torch.bool, device=self.device)
            if image is not None:
                seen = image(torch.from_numpy(np.stack(pictures[begin : begin + batch])).to(self.device))
            for step in range(LONGEST_ANSWER):
                used = tokens[:, : int(lengths.max())]
                x = model.embedding(used)
                if image is not None:
                    start = part[0].index(PAD)
                    x = torch.cat([x[:, :start], seen, x[:, start + IMAGE_TOKENS :]], 1)
                new = model.from_embeddings(x)[index, lengths - 1].argmax(-1)
                tokens[index, lengths] = new
                lengths = lengths + 1
                done |= new == end
                if done.all():
                    break
            answers += [until(row[len(asked) :], end) for asked, row in zip(part, tokens.tolist())]
        return answers

    @torch.no_grad()
    def embed(self, rows):
        """Embeddings and the scores of the classification head."""
        model, means = self.model("embed"), []
        for begin in range(0, len(rows), 64):
            tokens = self.table(rows[begin : begin + 64])
            means.append(model(tokens, tokens == PAD))
        means = torch.cat(means)
        return means.cpu().numpy(), model.classes(means).cpu().numpy()


class Llama:
    """The GGUFs through llama_check."""

    def __init__(self, folder, program, tokenizer):
        self.folder, self.program, self.tokenizer = folder, program, tokenizer

    def path(self, name):
        return str(self.folder / f"quantbench-demo-{name}{'-mmproj' if name == 'see' else ''}-F16.gguf")

    def has(self, name):
        return Path(self.path(name)).exists()

    def run(self, mode, names, lines):
        command = [self.program, mode, *(self.path(name) for name in names)]
        return subprocess.run(command, input="".join(line + "\n" for line in lines), capture_output=True, text=True, check=True).stdout.splitlines()

    def numbers(self, rows):
        return [" ".join(map(str, row)) for row in rows]

    def translate(self, rows):
        return [list(map(int, line.split())) for line in self.run("generate", ["translate"], self.numbers(rows))]

    def complete(self, name, rows, end, pictures=None):
        if pictures is None:
            lines = self.run("generate", [name], self.numbers(rows))
        else:
            lines = self.run("see", [name, "see"], [f"{path}\t{question}" for path, question in pictures])
        return [until(list(map(int, line.split())), end) for line in lines]

    def embed(self, rows):
        read = lambda mode: np.array([list(map(float, line.split())) for line in self.run(mode, ["embed"], self.numbers(rows))])
        return read("embed"), read("classify")


def until(ids, end):
    return ids[: ids.index(end)] if end in ids else ids


def overlap(answer, right):
    """F1 of the words."""
    a, b = Counter(answer.split()), Counter(right.split())
    common = sum((a & b).values())
    return 2 * common / max(1, sum(a.values()) + sum(b.values()))


def scored(answers, rights, words=False):
    figures = {"right": round(100 * sum(a.strip() == r for a, r in zip(answers, rights)) / len(rights), 1), "of": len(rights)}
    if words:
        figures["words"] = round(100 * sum(map(overlap, answers, rights)) / len(rights), 1)
    return figures


def translate(backend, tests, tokenizer):
    figures = {}
    for name, prefix, source, target in (("translation", "translate: ", "source", "target"), ("summarization", "summarize: ", "text", "summary")):
        rows = read_lines(tests / f"{name}.jsonl")
        answers = backend.translate([[*tokenizer.encode(prefix + row[source]).ids, EOS] for row in rows])
        figures[name] = scored([tokenizer.decode(ids) for ids in answers], [row[target] for row in rows], words=True)
    return figures


def embed(backend, tests, tokenizer):
    """Figures, and for each question of retrieval.jsonl the passages from nearest to farthest."""
    embedded = lambda prefix, texts: backend.embed([[BOS, *tokenizer.encode(prefix + text).ids, EOS] for text in texts])
    unit = lambda vectors: vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    passages, asked = read_lines(tests / "passages.jsonl"), read_lines(tests / "retrieval.jsonl")
    found = unit(embedded("passage: ", [row["text"] for row in passages])[0])
    order = np.argsort(-(unit(embedded("query: ", [row["question"] for row in asked])[0]) @ found.T), axis=1)
    rank = np.array([list(row).index(question["passage"]) for row, question in zip(order, asked)])
    figures = {"retrieval": {"first": round(100 * (rank == 0).mean(), 1), "in first three": round(100 * (rank < 3).mean(), 1), "mrr": round((1 / (rank + 1)).mean(), 3), "of": len(asked)}}
    rows, start = read_lines(tests / "classification.jsonl"), 0
    for key, names in (("topic", stories.TOPIC_NAMES), ("mood", stories.MOOD_NAMES)):
        vectors, scores = embedded(f"{key}: ", [row["text"] for row in rows])
        right = np.array([names.index(row[key]) for row in rows])
        near = (unit(vectors) @ unit(embedded("", names)[0]).T).argmax(1)
        head = scores[:, start : start + len(names)].argmax(1)
        start += len(names)
        figures[key] = {"nearest name": round(100 * (near == right).mean(), 1), "head": round(100 * (head == right).mean(), 1), "of": len(rows)}
    return figures, order


def chat(backend, tests, tokenizer, order):
    def ask(contexts, questions):
        rows = [conversation(tokenizer, [(f"{c}\n{q}", "")])[0][:-2] for c, q in zip(contexts, questions)]
        return [tokenizer.decode(ids) for ids in backend.complete("chat", rows, IM_END)]

    questions, stories_ = read_lines(tests / "questions.jsonl"), read_lines(tests / "summarization.jsonl")
    passages, asked = [row["text"] for row in read_lines(tests / "passages.jsonl")], read_lines(tests / "retrieval.jsonl")
    put = lambda rows: ["Question: " + row["question"] for row in rows]
    figures = {
        "questions": scored(ask([row["context"] for row in questions], put(questions)), [row["answer"] for row in questions]),
        "summarization": scored(ask([row["text"] for row in stories_], [SUMMARIZE] * len(stories_)), [row["summary"] for row in stories_], words=True),
    }
    answers = [row["answer"] for row in asked]
    between = ["\n".join(passages[(row["passage"] + shift) % len(passages)] for shift in (-1, 0, 1)) for row in asked]
    figures["with the passage"] = scored(ask(between, put(asked)), answers)
    if order is not None:
        figures["rag"] = scored(ask(["\n".join(passages[i] for i in places[:3]) for places in order], put(asked)), answers)
    if backend.has("see"):
        figures |= scenes(backend, tests, tokenizer)
    return figures


def scenes(backend, tests, tokenizer):
    rows, figures = read_lines(tests / "scenes.jsonl"), {}
    asked = [(row["image"], q["question"], q["answer"]) for row in rows for q in row["questions"]]
    captions = [(row["image"], DESCRIBE, row["caption"]) for row in rows]
    for name, items in (("scene questions", asked), ("captions", captions)):
        tokens = [conversation(tokenizer, [(question, "")], image=True)[0][:-2] for _, question, _ in items]
        if isinstance(backend, Torch):
            pictures = [np.array(Image.open(tests / image)) for image, _, _ in items]
        else:
            pictures = [(tests / image, question) for image, question, _ in items]
        answers = backend.complete("chat", tokens, IM_END, pictures)
        figures[name] = scored([tokenizer.decode(ids) for ids in answers], [right for _, _, right in items], words=name == "captions")
    return figures


def experts(backend, tests, tokenizer):
    rows = read_lines(tests / "questions.jsonl")
    asked = [[BOS, *tokenizer.encode(f"{row['context']}\nQuestion: {row['question']}\nAnswer:").ids] for row in rows]
    newline = tokenizer.encode("\n").ids[0]
    answers = [tokenizer.decode(until(ids, EOS)) for ids in backend.complete("experts", asked, newline)]
    return {"questions, completed": scored(answers, [row["answer"] for row in rows])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--ggufs", type=Path)
    parser.add_argument("--llama-check")
    parser.add_argument("--only", nargs="*", default=["translate", "embed", "experts", "chat"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    backend = Torch(arguments.models, tokenizer) if arguments.models else Llama(arguments.ggufs, arguments.llama_check, tokenizer)
    figures, order = {}, None
    for name in arguments.only:
        if not backend.has(name):
            continue
        if name == "embed":
            figures[name], order = embed(backend, arguments.tests, tokenizer)
        elif name == "chat":
            figures[name] = chat(backend, arguments.tests, tokenizer, order)
        else:
            figures[name] = (translate if name == "translate" else experts)(backend, arguments.tests, tokenizer)
        print(json.dumps({name: figures[name]}), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
