#!/usr/bin/env python3
"""Speed of an ONNX decoder by a plain loop of Python's onnxruntime, and by quantbench, in turns.

    python3 benches/onnxruntime.py GRAPH.onnx --quantbench target/release/quantbench [--threads 2] [--rounds 5]

Needs `pip install onnxruntime numpy`. The loop does what quantbench does: pp512 is one evaluation of 512 tokens on an
empty cache, tg128 is 128 evaluations of one token; caches are one buffer that is bound as past and as present where every
attention is GroupQueryAttention (--copy gives them as inputs and outputs instead). Prints the median of the paired ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# This file has the name of the package that it measures, and its folder comes first.
sys.path.pop(0)

import numpy
import onnxruntime


class Loop:
    def __init__(self, graph, threads, copy):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.copy = copy
        inputs = {value.name: value for value in self.session.get_inputs()}
        self.wants_positions = "position_ids" in inputs
        self.pasts = [value for name, value in inputs.items() if name.startswith("past")]
        self.presents = [value.name for value in self.session.get_outputs() if value.name.startswith("present")]
        self.kind = numpy.float16 if "float16" in self.pasts[0].type else numpy.float32

    def begin(self, capacity):
        self.length = 0
        size = lambda value, tokens: (1, value.shape[1], tokens, value.shape[3])
        if self.copy:
            self.cache = [numpy.zeros(size(value, 0), self.kind) for value in self.pasts]
            return
        self.binding = self.session.io_binding()
        self.cache = []
        for past, present in zip(self.pasts, self.presents):
            buffer = onnxruntime.OrtValue.ortvalue_from_numpy(numpy.zeros(size(past, capacity), self.kind))
            self.binding.bind_ortvalue_input(past.name, buffer)
            self.binding.bind_ortvalue_output(present, buffer)
            self.cache.append(buffer)

    def read(self, tokens):
        count = len(tokens)
        feed = {
            "input_ids": numpy.array([tokens], numpy.int64),
            "attention_mask": numpy.ones((1, self.length + count), numpy.int64),
        }
        if self.wants_positions:
            feed["position_ids"] = numpy.arange(self.length, self.length + count, dtype=numpy.int64)[None]
        if self.copy:
            feed.update((past.name, value) for past, value in zip(self.pasts, self.cache))
            logits, *self.cache = self.session.run(["logits", *self.presents], feed)
        else:
            for name, value in feed.items():
                self.binding.bind_cpu_input(name, value)
            self.binding.bind_output("logits")
            self.session.run_with_iobinding(self.binding)
            logits = self.binding.get_outputs()[-1].numpy()
        self.length += count
        return logits[0, -1]

    def prompt(self, tokens):
        self.begin(tokens)
        start = time.perf_counter()
        self.read([1] * tokens)
        return tokens / (time.perf_counter() - start)

    def generation(self, tokens):
        self.begin(tokens)
        start = time.perf_counter()
        for _ in range(tokens):
            self.read([1])
        return tokens / (time.perf_counter() - start)


def measured(arguments, folder):
    """Tokens per second of pp512 and tg128 in one run of quantbench, the median of its repetitions."""
    experiment = Path(folder, "experiment.toml")
    experiment.write_text(
        f"""[experiment]
rounds = 1
repetitions = {arguments.repetitions}
[settings]
threads = {arguments.threads}
[workloads]
speed = ["pp512", "tg128"]
cold_load = false
[workloads.quality]
enabled = false
[workloads.latency]
enabled = false
[[models]]
source = {json.dumps(str(Path(arguments.graph).resolve()))}
"""
    )
    environment = dict(os.environ, QUANTBENCH_STORE=str(Path(folder, "runs.sqlite")))
    library = Path(onnxruntime.__file__).parent / "capi"
    found = sorted(library.glob("libonnxruntime.so*")) + sorted(library.glob("libonnxruntime.*.dylib"))
    environment["ORT_DYLIB_PATH"] = str(found[0])
    command = [arguments.quantbench, "run", str(experiment), "--format", "json", "--quiet"]
    run = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    figures = run["summary"]["rows"][0]["figures"]
    return [figures[name]["value"] for name in ("pp512_tokens_per_second", "tg128_tokens_per_second")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph")
    parser.add_argument("--quantbench", default="target/release/quantbench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--copy", action="store_true", help="caches as inputs and outputs")
    arguments = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            loop = Loop(arguments.graph, arguments.threads, arguments.copy)
            repeat = lambda test, tokens: statistics.median(
                [test(tokens) for _ in range(arguments.repetitions + 1)][1:]
            )
            own = [repeat(loop.prompt, 512), repeat(loop.generation, 128)]
            del loop
            pairs.append((own, measured(arguments, folder)))
    for place, test in enumerate(("pp512", "tg128")):
        ratios = [theirs[place] / own[place] for own, theirs in pairs]
        rates = [statistics.median(side[place] for side in sides) for sides in zip(*pairs)]
        print(
            f"{test}: Python {rates[0]:.0f} t/s, quantbench {rates[1]:.0f} t/s, "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    sys.exit(main())
