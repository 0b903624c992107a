"""Writes the test sets of demo/tasks and the training data of the small models.

    python make_tasks.py tests --out demo/tasks --tokenizer DATA/world.json
    python make_tasks.py train --tokenizer DATA/world.json --out DATA [--size 1.0] [--processes 16]

`tests` also trains the tokenizer, on stories that are in neither set. `train` leaves out every
sentence, story and scene that is in a test set; the names in facts differ by themselves
(world/facts.py). Seeds are the constants below, so both steps come out the same everywhere.
"""

import argparse
import json
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from world import facts, scenes, stories, translation

VOCABULARY = 640
SPECIALS = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
BOS, EOS, PAD, IM_START, IM_END = range(5)
TEST_SEED, TRAIN_SEED, TOKENIZER_SEED, HARDER_SEED = 20261125, 20261126, 20261127, 20261128
# What is misspelt in which test set, and the share of the longer words.
MISSPELT = dict(translation=("source", 0.08), summarization=("text", 0.1), classification=("text", 0.3))
COUNTS = dict(translation=200, summarization=100, classification=160, questions=160, passages=200, scenes=80)
SUMMARIZE = "Summarize this in one sentence."
DESCRIBE = "Describe the picture."
IMAGE_TOKENS = 64
LENGTHS = dict(sentence=80, story=176, summary=56, question=40, passage=88, chat=456, scene=256)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def shuffled(random, answer, wrong):
    """The answer among wrong ones, in random order."""
    choices = [answer, *wrong]
    return [choices[i] for i in random.permutation(len(choices))]


def chosen(random, questions, count=1):
    """Some of the questions, those with a wrong answer that is right left out."""
    sound = [q for q in questions if q[1] not in q[2]]
    return [sound[i] for i in random.permutation(len(sound))[:count]]


def train_tokenizer(path):
    """Byte-level BPE as the demo model's, small: 256 bytes, five special tokens, 379 merges."""
    random = np.random.default_rng(TOKENIZER_SEED)
    texts = []
    for _ in range(6000):
        story, fact = stories.story(random), facts.fact(random)
        texts += [story.text, story.summary, fact.text, *translation.pair(random), *(q for q, _, _ in fact.questions[:2])]
        texts.append(scenes.scene(random).caption())
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == VOCABULARY
    tokenizer.save(str(path))


def misspelt(random, text, share):
    """The text with this share of its longer words written wrong: two letters swapped, one left out or doubled.

    Names and the first word of a sentence are left alone.
    """
    words = text.split(" ")
    for place, word in enumerate(words):
        if len(word) < 4 or not word.isalpha() or not word.islower() or random.random() >= share:
            continue
        at, kind = 1 + int(random.integers(len(word) - 2)), random.integers(3)
        wrong = (word[:at] + word[at + 1] + word[at] + word[at + 2 :], word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:])[kind]
        words[place] = wrong
    return " ".join(words)


def clean_tests():
    """The rows of every test set before anything in them is made harder, and the scenes."""
    random = np.random.default_rng(TEST_SEED)
    pairs = {}
    while len(pairs) < COUNTS["translation"]:
        english, german = translation.pair(random)
        if len(english.split()) >= 5:
            pairs[english] = german
    rows = {"translation": [dict(id=i, source=e, target=g) for i, (e, g) in enumerate(pairs.items())]}
    made = [stories.story(random) for _ in range(COUNTS["summarization"])]
    rows["summarization"] = [dict(id=i, text=s.text, summary=s.summary) for i, s in enumerate(made)]
    made = [stories.story(random) for _ in range(COUNTS["classification"])]
    rows["classification"] = [dict(id=i, text=s.text, topic=s.topic, mood=s.mood) for i, s in enumerate(made)]
    rows["questions"] = []
    for i in range(COUNTS["questions"]):
        story = stories.story(random)
        question, answer, wrong = chosen(random, story.questions)[0]
        rows["questions"].append(dict(id=i, context=story.text, question=question, answer=answer, choices=shuffled(random, answer, wrong)))
    passages = [facts.fact(random, test=True) for _ in range(COUNTS["passages"])]
    rows["passages"] = [dict(id=i, text=fact.text) for i, fact in enumerate(passages)]
    rows["retrieval"] = []
    for i, fact in enumerate(passages):
        question, answer, wrong = chosen(random, fact.questions)[0]
        rows["retrieval"].append(dict(id=i, passage=i, question=question, answer=answer, choices=shuffled(random, answer, wrong)))
    drawn, rows["scenes"] = [], []
    for i in range(COUNTS["scenes"]):
        scene = scenes.scene(random)
        asked = chosen(random, scenes.questions(random, scene), 3)
        listed = [dict(question=q, answer=a, choices=shuffled(random, a, w)) for q, a, w in asked]
        rows["scenes"].append(dict(id=i, image=f"scenes/{i:03}.png", caption=scene.caption(), questions=listed))
        drawn.append(scene)
    return rows, drawn


def write_tests(out):
    """Texts to translate, summarize and classify get spelling mistakes, scenes are shaken: neither is trained on."""
    rows, drawn = clean_tests()
    random = np.random.default_rng(HARDER_SEED)
    for name, (key, share) in MISSPELT.items():
        for row in rows[name]:
            row[key] = misspelt(random, row[key], share)
    (out / "scenes").mkdir(parents=True, exist_ok=True)
    for name, listed in rows.items():
        write_lines(out / f"{name}.jsonl", listed)
    for row, scene in zip(rows["scenes"], drawn):
        Image.fromarray(scenes.draw(scenes.shaken(random, scene))).save(out / row["image"], optimize=True)


def padded(rows, length, dtype=np.uint16, fill=PAD):
    """One row each, those too long left out; also which were kept."""
    kept = [i for i, row in enumerate(rows) if len(row) <= length]
    table = np.full((len(kept), length), fill, dtype=dtype)
    for place, i in enumerate(kept):
        table[place, : len(rows[i])] = rows[i]
    return table, kept


def padded_pairs(left, right, left_length, right_length):
    fits = [i for i in range(len(left)) if len(left[i]) <= left_length and len(right[i]) <= right_length]
    take = lambda rows, length: padded([rows[i] for i in fits], length)[0]
    return take(left, left_length), take(right, right_length)


def ids(tokenizer, text):
    return tokenizer.encode(text).ids


def conversation(tokenizer, turns, image=False):
    """Tokens of a chat in ChatML, and which of them the model has to say. An image's places hold <pad>."""
    tokens, said = [BOS], [0]

    def add(new, saying):
        tokens.extend(new)
        said.extend([saying] * len(new))

    for index, (user, answer) in enumerate(turns):
        after = f"{user}<|im_end|>\n<|im_start|>assistant\n"
        if image and index == 0:
            add([*ids(tokenizer, "<|im_start|>user\n"), *[PAD] * IMAGE_TOKENS, *ids(tokenizer, "\n" + after)], 0)
        else:
            add(ids(tokenizer, "<|im_start|>user\n" + after), 0)
        add([*ids(tokenizer, answer), IM_END], 1)
        add(ids(tokenizer, "\n"), 0)
    return tokens, said


def chat_tables(conversations, length):
    fits = [c for c in conversations if len(c[0]) <= length]
    return padded([c[0] for c in fits], length)[0], padded([c[1] for c in fits], length, np.uint8, 0)[0]


def translation_rows(tokenizer, random, count, tests):
    pairs = []
    while len(pairs) < count:
        pair = translation.pair(random)
        if pair[0] not in tests:
            pairs.append(pair)
    sources = [[*ids(tokenizer, "translate: " + e), EOS] for e, _ in pairs]
    return dict(zip(("source", "target"), padded_pairs(sources, [[*ids(tokenizer, g), EOS] for _, g in pairs], LENGTHS["sentence"], LENGTHS["sentence"])))


def story_rows(tokenizer, random, count, tests):
    """Stories as summaries to write, classes to find, and chats."""
    made = []
    while len(made) < count:
        story = stories.story(random)
        if story.text not in tests:
            made.append(story)
    sources = [[*ids(tokenizer, "summarize: " + s.text), EOS] for s in made]
    source, target = padded_pairs(sources, [[*ids(tokenizer, s.summary), EOS] for s in made], LENGTHS["story"], LENGTHS["summary"])
    fits = [s for s in made if len(ids(tokenizer, s.text)) <= LENGTHS["story"] - 8]
    texts = lambda prefix: padded([[BOS, *ids(tokenizer, prefix + s.text), EOS] for s in fits], LENGTHS["story"])[0]
    chats = []
    for story in made:
        turns = [(q, a) for q, a, _ in chosen(random, story.questions, 4)]
        turns.insert(random.integers(5), (SUMMARIZE, story.summary))
        turns[0] = (f"{story.text}\n{turns[0][0]}" if turns[0][0] == SUMMARIZE else f"{story.text}\nQuestion: {turns[0][0]}", turns[0][1])
        chats.append(conversation(tokenizer, turns))
    tokens, said = chat_tables(chats, LENGTHS["chat"])
    return dict(
        summary_source=source, summary_target=target, topic_text=texts("topic: "), mood_text=texts("mood: "),
        topic=np.array([stories.TOPIC_NAMES.index(s.topic) for s in fits], dtype=np.uint8),
        mood=np.array([stories.MOOD_NAMES.index(s.mood) for s in fits], dtype=np.uint8),
        chat=tokens, said=said,
    )


def fact_rows(tokenizer, random, count, tests):
    """Facts as passages to find and as chats over three passages."""
    made = [facts.fact(random) for _ in range(count)]
    asked = [chosen(random, fact.questions)[0][0] for fact in made]
    question, passage = padded_pairs(
        [[BOS, *ids(tokenizer, "query: " + q), EOS] for q in asked], [[BOS, *ids(tokenizer, "passage: " + f.text), EOS] for f in made],
        LENGTHS["question"], LENGTHS["passage"],
    )
    chats = []
    for start in range(0, count - 2, 2):
        group = made[start : start + 3]
        context = "\n".join(group[i].text for i in random.permutation(3))
        turns = [(q, a) for fact in group for q, a, _ in chosen(random, fact.questions, 2)]
        turns = [turns[i] for i in random.permutation(len(turns))]
        turns[0] = (f"{context}\nQuestion: {turns[0][0]}", turns[0][1])
        chats.append(conversation(tokenizer, turns))
    tokens, said = chat_tables(chats, LENGTHS["chat"])
    return dict(question=question, passage=passage, chat=tokens, said=said)


def scene_rows(tokenizer, random, count, tests):
    pictures, chats = [], []
    while len(chats) < count:
        scene = scenes.scene(random)
        if scene.caption() in tests:
            continue
        turns = [(q, a) for q, a, _ in chosen(random, scenes.questions(random, scene), 4)]
        turns.insert(random.integers(len(turns) + 1), (DESCRIBE, scene.caption()))
        tokens, said = conversation(tokenizer, turns, image=True)
        if len(tokens) <= LENGTHS["scene"]:
            pictures.append(scenes.draw(scene))
            chats.append((tokens, said))
    tokens, said = chat_tables(chats, LENGTHS["scene"])
    return dict(picture=np.stack(pictures), chat=tokens, said=said)


def text_rows(tokenizer, random, count, tests):
    """Plain documents for the mixture of experts: a story or a fact, then questions with answers."""
    documents = []
    while len(documents) < count:
        made = stories.story(random) if random.random() < 0.6 else facts.fact(random)
        if made.text in tests:
            continue
        lines = [f"Question: {q}\nAnswer: {a}" for q, a, _ in chosen(random, made.questions, 3)]
        if isinstance(made, stories.Story) and random.random() < 0.5:
            lines.insert(0, "Summary: " + made.summary)
        documents.append([BOS, *ids(tokenizer, "\n".join([made.text, *lines])), EOS])
    lengths = np.array([len(d) for d in documents], dtype=np.uint32)
    return dict(tokens=np.concatenate([np.array(d, dtype=np.uint16) for d in documents]), lengths=lengths)


ROWS = dict(  # kind: (what writes it, how many)
    translation=(translation_rows, 600_000),
    story=(story_rows, 100_000),
    fact=(fact_rows, 180_000),
    scene=(scene_rows, 60_000),
    text=(text_rows, 120_000),
)


def part(path, tests, job):
    kind, index, count = job
    random = np.random.default_rng([TRAIN_SEED, list(ROWS).index(kind), index])
    return kind, ROWS[kind][0](Tokenizer.from_file(str(path)), random, count, tests)


def test_texts():
    keys = dict(translation="source", summarization="text", classification="text", questions="context", scenes="caption")
    rows, _ = clean_tests()
    return {row[key] for name, key in keys.items() for row in rows[name]}


def write_documents(folder, split, tokens, lengths):
    folder.mkdir(parents=True, exist_ok=True)
    tokens.tofile(folder / f"{split}.bin")
    np.save(folder / f"{split}.offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint32))


def write_training(out, tokenizer, size, processes):
    out.mkdir(parents=True, exist_ok=True)
    parts = 32
    jobs = [(kind, index, max(8, int(count * size / parts))) for index in range(parts) for kind, (_, count) in ROWS.items()]
    tables = {kind: [] for kind in ROWS}
    with Pool(processes) as pool:
        for kind, rows in pool.imap(partial(part, tokenizer, test_texts()), jobs):
            tables[kind].append(rows)
    for kind, made in tables.items():
        if kind == "text":
            last = made.pop()
            write_documents(out / "experts", "calibration", last["tokens"], last["lengths"])
            write_documents(out / "experts", "train", *(np.concatenate([rows[key] for rows in made]) for key in ("tokens", "lengths")))
            continue
        joined = {key: np.concatenate([rows[key] for rows in made]) for key in made[0]}
        np.savez(out / f"{kind}.npz", **joined)
        print(kind, {key: value.shape for key, value in joined.items()}, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["tests", "train"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--size", type=float, default=1.0)
    parser.add_argument("--processes", type=int)
    arguments = parser.parse_args()
    if arguments.step == "tests":
        train_tokenizer(arguments.tokenizer)
        write_tests(arguments.out)
    else:
        write_training(arguments.out, arguments.tokenizer, arguments.size, arguments.processes)


if __name__ == "__main__":
    main()
