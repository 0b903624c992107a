"""Checks the graphs of a folder with onnx and runs them with onnxruntime: perplexities as JSON, by file.

python onnx_export.py FOLDER TEXT CHUNKS: the definition of llama-perplexity, chunks of 512 tokens, the second half scored.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

CONTEXT = 512

folder, text, chunks = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
beginning = json.loads((folder / "config.json").read_text())["bos_token_id"]
tokens = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text.read_text()).ids
assert tokens[0] == beginning, "a text begins with the token for it"


def negative_log_likelihood(session, chunk):
    inputs = {
        "input_ids": chunk,
        "attention_mask": np.ones_like(chunk),
        "position_ids": np.arange(CONTEXT)[None],
    }
    for value in session.get_inputs():
        if value.name.startswith("past_key_values"):
            kind = np.float16 if "float16" in value.type else np.float32
            inputs[value.name] = np.zeros([1, value.shape[1], 0, value.shape[3]], kind)
    logits = session.run(["logits"], inputs)[0][0].astype(np.float64)
    scored = logits[CONTEXT // 2 : CONTEXT - 1]
    scored -= scored.max(-1, keepdims=True)
    scored -= np.log(np.exp(scored).sum(-1, keepdims=True))
    return -scored[np.arange(len(scored)), chunk[0, CONTEXT // 2 + 1 :]]


def step_by_step(session):
    """The largest difference of a logit between one pass and one token at a time, with the cache."""
    ids = np.array([tokens[:24]], np.int64)
    names = [value.name for value in session.get_inputs() if value.name.startswith("past")]
    empty = {
        value.name: np.zeros([1, value.shape[1], 0, value.shape[3]], np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past")
    }
    positions = np.arange(24)[None]
    whole = session.run(
        ["logits"],
        {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": positions, **empty},
    )[0][0]
    presents = [name.replace("past_key_values", "present") for name in names]
    past, worst = empty, 0.0
    for at in range(24):
        mask = np.ones([1, at + 1], np.int64)
        step = {"input_ids": ids[:, at : at + 1], "attention_mask": mask, "position_ids": positions[:, at : at + 1]}
        logits, *cache = session.run(["logits", *presents], {**step, **past})
        past = dict(zip(names, cache))
        worst = max(worst, float(np.abs(logits[0, 0] - whole[at]).max()))
    return worst


found = {}
for path in sorted(folder.glob("onnx/*.onnx")):
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    losses = []
    for start in range(0, min(len(tokens) // CONTEXT, chunks) * CONTEXT, CONTEXT):
        chunk = np.array([tokens[start : start + CONTEXT]], np.int64)
        chunk[0, 0] = beginning
        losses.append(negative_log_likelihood(session, chunk))
    found[path.name] = float(np.exp(np.concatenate(losses).mean()))
    if path.name == "model.onnx":
        found["step_by_step"] = step_by_step(session)
print(json.dumps(found))
