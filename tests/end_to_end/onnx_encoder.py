"""Checks the graphs of an encoder with onnx and runs them with onnxruntime: cosines as JSON, by file.

python onnx_encoder.py FOLDER TEXT: for each graph the mean cosine of embeddings of lines with those of model.onnx, and the
least one between a line by itself and the same line filled up beside a longer one.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

folder, text = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
lines = [line for line in text.read_text().splitlines() if line.strip()][:40]
longest = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
texts = [tokenizer.encode(line).ids[:longest] for line in lines]
pooling = json.loads((folder / "1_Pooling/config.json").read_text())
assert pooling["pooling_mode_mean_tokens"] and not pooling["pooling_mode_cls_token"]


def embedded(session, batch):
    width = max(map(len, batch))
    ids = np.array([ids + [0] * (width - len(ids)) for ids in batch], np.int64)
    mask = np.array([[1] * len(ids) + [0] * (width - len(ids)) for ids in batch], np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    inputs = {value.name: inputs[value.name] for value in session.get_inputs()}
    [hidden] = session.run(["last_hidden_state"], inputs)
    sums = (hidden.astype(np.float64) * mask[..., None]).sum(1)
    return sums / np.linalg.norm(sums, axis=-1, keepdims=True)


library = next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so*"))
found, first = {"library": str(library)}, None
for path in sorted(folder.glob("onnx/*.onnx")):
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    alone = np.concatenate([embedded(session, [ids]) for ids in texts])
    # Each beside the longest one.
    most = max(texts, key=len)
    beside = np.concatenate([embedded(session, [ids, most])[:1] for ids in texts])
    first = alone if path.name == "model.onnx" else first
    found[path.name] = {
        "to_fp32": float((alone * first).sum(-1).mean()),
        "filled_up": float((alone * beside).sum(-1).min()),
    }
print(json.dumps(found))
