"""Checks that llama.cpp splits text into the same tokens as the tokenizer the model was trained with.

    python check_tokens.py --tokenizer DATA/tokenizer.json --gguf quantbench-demo-F16.gguf \\
        --llama-tokenize PATH --files FILE ...

A string of awkward characters is checked besides the files. Also prints each prompt's length when
--prompts names the prompts file.
"""

import argparse
import ast
import json
import subprocess
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

AWKWARD = (
    "It's they'll WE'RE  two  spaces\n\n\ttabs\t\t, 1234567 3.14 ½ ² 第三章 日本語 émigré naïve Ströpfe — “quotes” … "
    "emoji 🦊👩‍👩‍👧 zero\u200bwidth no\u00a0break\r\nCRLF trailing   \n  { \"json\": [1, 2] } def f(x):\n        return x  ~~ \u0301 العربية हिन्दी   "
)


def llama_tokens(program, gguf, path):
    command = [program, "-m", gguf, "-f", str(path), "--ids", "--no-escape", "--no-parse-special", "--log-disable"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return ast.literal_eval(output[output.index("[") :])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--gguf")
    parser.add_argument("--llama-tokenize")
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--prompts")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    if arguments.llama_tokenize:
        with tempfile.NamedTemporaryFile("wb", suffix=".txt") as awkward:
            awkward.write(AWKWARD.encode())
            awkward.flush()
            for path in [awkward.name, *arguments.files]:
                ours = [0, *tokenizer.encode(Path(path).read_bytes().decode()).ids]
                theirs = llama_tokens(arguments.llama_tokenize, arguments.gguf, path)
                if ours != theirs:
                    place = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
                    raise SystemExit(f"{path}: token {place} differs: {ours[place:place+8]} here, {theirs[place:place+8]} in llama.cpp")
                print(f"{Path(path).name}: {len(ours)} tokens, the same in llama.cpp")
    if arguments.prompts:
        for line in Path(arguments.prompts).read_text(encoding="utf-8").splitlines():
            prompt = json.loads(line)
            print(f"{len(tokenizer.encode(prompt['text']).ids) + 1:4} {prompt['kind']:13} {prompt['id']}")


if __name__ == "__main__":
    main()
