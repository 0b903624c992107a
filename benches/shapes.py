#!/usr/bin/env python3
"""Compares a model with shapes of it, in pairs, in one run on one machine: speed and memory do not depend on weights.

    benches/shapes.py --model F16.gguf [--shape smollm2-135m,header] [--types F16,Q8_0,Q4_0] [--pairs 20]

`smollm2-135m` is a name of the catalogue; `header` is a shape of the model's own header, its vocabulary included.
Each pair measures both files one after the other, in turns the one or the other first; what is printed is the ratio
of the shape to the model: the geometric mean with its 95 % interval (bootstrap over pairs), and the ratio of the best
of all measurements, which other work on the machine touches least. Nothing else is kept.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUANTBENCH = Path(os.environ.get("QUANTBENCH", ROOT / "target" / "release" / "quantbench"))


def run(arguments: list, environment: dict) -> tuple[str, float, float]:
    """What quantbench printed, the peak of resident memory of its largest process, bytes, and its processor time, seconds."""
    process = subprocess.Popen(
        [str(part) for part in [QUANTBENCH, *arguments]], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"quantbench {arguments} ended with {os.waitstatus_to_exitcode(status)}")
    scale = 1 if sys.platform == "darwin" else 1024
    return output, usage.ru_maxrss * scale, usage.ru_utime + usage.ru_stime


def measure(path: Path, options: argparse.Namespace, environment: dict) -> dict[str, float]:
    """pp512, tg128, peak and processor time of one file."""
    arguments = ["bench", path, "-p", 512, "-n", 128, "-r", options.repetitions, "-o", "jsonl", "-q"]
    if options.threads:
        arguments += ["-t", options.threads]
    output, peak, seconds = run(arguments, environment)
    found = {"peak RSS": float(peak), "CPU time": seconds}
    for row in map(json.loads, filter(lambda line: line.startswith("{"), output.splitlines())):
        test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
        found[test] = statistics.median(row["samples_ts"])
    return found


def interval(ratios: list[float]) -> str:
    """Geometric mean and its 95 % interval."""
    logs = [math.log(ratio) for ratio in ratios]
    source = random.Random(1)
    means = sorted(statistics.fmean(source.choices(logs, k=len(logs))) for _ in range(5000))
    low, high = (math.exp(means[int(len(means) * share)]) for share in (0.025, 0.975))
    return f"{math.exp(statistics.fmean(logs)):.4f} ({low:.4f} to {high:.4f}, n={len(logs)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--shape", default="smollm2-135m,header")
    parser.add_argument("--types", default="F16,Q8_0,Q4_0")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        environment = dict(
            os.environ, QUANTBENCH_CACHE=str(folder / "cache"), QUANTBENCH_STORE=str(folder / "runs.sqlite"))
        names = {name: f"shape:{options.model if name == 'header' else name}" for name in options.shape.split(",")}
        for kind in options.types.split(","):
            files = {"model": folder / "model.gguf", **{name: folder / f"{name}.gguf" for name in names}}
            for name, path in files.items():
                source = names.get(name, options.model)
                run(["quantize", source, "--to", kind, "-o", path, "--force", "-q"], environment)
            measured: dict[tuple[str, str], list[float]] = {}
            for pair in range(options.pairs):
                order = list(files) if pair % 2 == 0 else list(files)[::-1]
                for name in order:
                    for figure, value in measure(files[name], options, environment).items():
                        measured.setdefault((name, figure), []).append(value)
            for (name, figure), values in measured.items():
                if name != "model":
                    own = measured["model", figure]
                    best = max if figure[:2] in ("pp", "tg") else min
                    ratios = interval([value / other for value, other in zip(values, own)])
                    print(f"{kind:5} shape:{name:12} {figure:8} {ratios}, best {best(values) / best(own):.4f}", flush=True)


if __name__ == "__main__":
    main()
