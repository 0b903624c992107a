"""Trains one of the small models on what `make_tasks.py train` wrote.

    python train_tasks.py translate --data DATA --seconds 240 --batch 1.0
    python train_tasks.py embed|chat|experts ...

The learning rate rises over the first 100 steps and falls linearly to zero: over --steps, or over
--seconds (the log says how many steps that were). `chat` trains a decoder and an image encoder
together and writes chat.pt and see.pt; the others write NAME.pt. Matrices are stored as F16.
"""

import argparse
import contextlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn

import data
import encoders
import model as decoders
from make_tasks import BOS, EOS, PAD
from optimizer import Muon
from world import stories

TEMPERATURE = 0.05  # of the similarities that embeddings are trained by


class Tables:
    """Arrays of one file on the device, from which random rows are taken together."""

    def __init__(self, path, device, keys):
        stored = np.load(path)
        wide = {np.dtype(np.uint16): np.int16}  # every token fits
        self.tables = {key: torch.from_numpy(stored[key].astype(wide.get(stored[key].dtype, stored[key].dtype))).to(device) for key in keys}
        self.count, self.device = len(next(iter(self.tables.values()))), device

    def batch(self, size, generator):
        rows = torch.randint(self.count, (size,), device=self.device, generator=generator)
        return [table[rows].long() if table.dim() < 3 else table[rows] for table in self.tables.values()]


def predicted(logits, targets, wanted):
    """Mean cross-entropy over the targets that are wanted."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    return (losses * wanted).sum() / wanted.sum().clamp(min=1)


class Translate:
    """Sentences and summaries with one encoder-decoder; the source says which is wanted."""

    def __init__(self, arguments, device):
        self.model = encoders.EncoderDecoder(encoders.TranslatorConfig()).to(device)
        self.sentences = Tables(arguments.data / "translation.npz", device, ["source", "target"])
        self.stories = Tables(arguments.data / "story.npz", device, ["summary_source", "summary_target"])
        self.sizes = int(384 * arguments.batch), int(96 * arguments.batch)

    def batch(self, generator):
        return [*self.sentences.batch(self.sizes[0], generator), *self.stories.batch(self.sizes[1], generator)]

    def one(self, source, target):
        inputs = torch.cat([torch.full_like(target[:, :1], PAD), target[:, :-1]], 1)
        return predicted(self.model(source, source == PAD, inputs), target, target != PAD)

    def loss(self, source, target, story, summary):
        return self.one(source, target) + 0.5 * self.one(story, summary)

    def save(self, out):
        encoders.save(self.model, "translate", out / "translate.pt")


class Embed:
    """Questions close to their passage, texts close to the name of their class; classes also from a head."""

    def __init__(self, arguments, device):
        self.model = encoders.TextEncoder(encoders.TextEncoderConfig()).to(device)
        self.facts = Tables(arguments.data / "fact.npz", device, ["question", "passage"])
        self.stories = Tables(arguments.data / "story.npz", device, ["topic_text", "topic", "mood_text", "mood"])
        self.sizes = int(512 * arguments.batch), int(96 * arguments.batch)
        tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
        names = [[BOS, *tokenizer.encode(name).ids, EOS] for name in stories.TOPIC_NAMES + stories.MOOD_NAMES]
        self.names = torch.tensor([row + [PAD] * (12 - len(row)) for row in names], device=device)

    def batch(self, generator):
        return [*self.facts.batch(self.sizes[0], generator), *self.stories.batch(self.sizes[1], generator)]

    def embedded(self, tokens):
        mean = self.model(tokens, tokens == PAD)
        return F.normalize(mean, dim=-1), self.model.classes(mean)

    def loss(self, question, passage, topic_text, topic, mood_text, mood):
        (asked, _), (found, _), (names, _) = (self.embedded(tokens) for tokens in (question, passage, self.names))
        likeness = asked @ found.mT / TEMPERATURE
        right = torch.arange(len(question), device=question.device)
        loss = (F.cross_entropy(likeness, right) + F.cross_entropy(likeness.mT, right)) / 2
        count = len(stories.TOPIC_NAMES)
        for text, label, classes in ((topic_text, topic, slice(0, count)), (mood_text, mood, slice(count, None))):
            embedding, scores = self.embedded(text)
            near = F.cross_entropy(embedding @ names[classes].mT / TEMPERATURE, label)
            loss = loss + near + F.cross_entropy(scores[:, classes].float(), label)
        return loss

    def save(self, out):
        encoders.save(self.model, "embed", out / "embed.pt")


class Chat:
    """Answers about stories, facts and pictures. Other tokens count a little: they teach the language."""

    OTHERS = 0.1

    def __init__(self, arguments, device):
        self.decoder = decoders.Decoder(decoders.CONFIGS["chat"]).to(device)
        self.image = encoders.ImageEncoder(encoders.ImageEncoderConfig()).to(device)
        self.model = nn.ModuleDict(dict(decoder=self.decoder, image=self.image))
        chats = ("story", "fact", "scene")
        self.tables = [Tables(arguments.data / f"{kind}.npz", device, ["chat", "said", *(["picture"] if kind == "scene" else [])]) for kind in chats]
        self.sizes = [int(size * arguments.batch) for size in (48, 48, 96)]
        first = self.tables[2].tables["chat"][0].tolist()
        self.start = first.index(PAD)  # every picture stands at the same place

    def batch(self, generator):
        return [row for table, size in zip(self.tables, self.sizes) for row in table.batch(size, generator)]

    def answered(self, inputs, tokens, said):
        targets, said = tokens[:, 1:], said[:, 1:].float()
        wanted = torch.where(targets == PAD, 0.0, said.clamp(min=self.OTHERS))
        return predicted(self.decoder.from_embeddings(inputs[:, :-1]), targets, wanted)

    def loss(self, story, story_said, fact, fact_said, scene, scene_said, picture):
        text, said = torch.cat([story, fact]), torch.cat([story_said, fact_said])
        loss = self.answered(self.decoder.embedding(text), text, said)
        words, patches = self.decoder.embedding(scene), self.image(picture)
        before, after = words[:, : self.start], words[:, self.start + patches.shape[1] :]
        return loss + self.answered(torch.cat([before, patches.type_as(words), after], 1), scene, scene_said)

    def save(self, out):
        decoders.save(self.decoder, out / "chat.pt", torch.float16)
        encoders.save(self.image, "see", out / "see.pt")


class Experts:
    """Plain text, as the demo model is trained."""

    def __init__(self, arguments, device):
        self.model = decoders.Decoder(decoders.CONFIGS["experts"]).to(device)
        documents = data.Documents(arguments.data / "experts", "train")
        self.batches = data.endless_batches(documents, self.model.config.context, int(64 * arguments.batch), arguments.seed, device)

    def batch(self, generator):
        return next(self.batches)

    def loss(self, inputs, targets):
        balances = []
        loss = F.cross_entropy(self.model(inputs, balances=balances).float().flatten(0, 1), targets.flatten())
        return loss + 0.01 * sum(balances) / len(balances)

    def save(self, out):
        decoders.save(self.model, out / "experts.pt", torch.float16)


TASKS = dict(translate=Translate, embed=Embed, chat=Chat, experts=Experts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--seconds", type=float)
    parser.add_argument("--batch", type=float, default=1.0, help="times the batch sizes in the code")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    precision = lambda: torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
    task = TASKS[arguments.task](arguments, device)
    optimizer = Muon(task.model, arguments.rate, arguments.decay)
    generator = torch.Generator(device).manual_seed(arguments.seed)
    loss_of = torch.compile(task.loss) if device == "cuda" else task.loss
    parameters = sum(p.numel() for p in task.model.parameters())
    print(json.dumps(dict(task=arguments.task, parameters=parameters, device=device)), flush=True)

    recent, step, started = [], 0, time.time()
    while True:
        done = step / arguments.steps if arguments.steps else (time.time() - started) / arguments.seconds
        if done >= 1:
            break
        with precision():
            loss = loss_of(*task.batch(generator))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step(min((step + 1) / 100, 1 - done))
        recent.append(loss.detach())
        step += 1
        if step % 500 == 0 or step == arguments.steps:
            mean, recent = torch.stack(recent).mean().item(), []
            if not math.isfinite(mean):
                raise SystemExit("the loss is not finite")
            print(json.dumps(dict(task=arguments.task, step=step, loss=round(mean, 4), seconds=round(time.time() - started, 1))), flush=True)
    task.save(arguments.out)
    print(json.dumps(dict(done=arguments.task, steps=step, seconds=round(time.time() - started, 1))), flush=True)


if __name__ == "__main__":
    main()
