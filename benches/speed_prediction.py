#!/usr/bin/env python3
"""What `quantbench plan` predicts of speed against what `quantbench bench` then measures, on shapes of the catalogue.

    benches/speed_prediction.py [SHAPE...] [--types F16,Q8_0,Q4_K_M] [--deep Q4_K_M] [--depth 4096] [--threads N]
                                [--profile] [--keep FILE] [--prefix COMMAND]

For each shape and type: pp512 and tg32 with an empty context, and for the types of --deep behind so many tokens as well. The plan is asked with
a store of its own, so that nothing is told from what was measured. --profile measures the machine first, --keep adds
what is measured to a file and takes what it has from there, --prefix runs quantbench behind a command, such as 'taskset -c 1'.
Prints every ratio, and for each test how many were inside their intervals and how wide those are. The exit code is 1
where fewer than 90 % are inside, or an interval is wider than 15 %, or 20 % at depth.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUANTBENCH = os.environ.get("QUANTBENCH", str(ROOT / "target" / "release" / "quantbench"))
SHAPES = ["smollm2-135m", "smollm2-360m", "qwen2.5-0.5b", "qwen3-0.6b", "gemma-3-1b", "llama-3.2-1b", "qwen2.5-1.5b"]


def quantbench(prefix: str, environment: dict[str, str], *arguments: str) -> object:
    done = subprocess.run([*shlex.split(prefix), QUANTBENCH, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout)


def predicted(arguments: argparse.Namespace, shape: str, types: list[str]) -> dict[tuple[str, str], dict]:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"QUANTBENCH_STORE": f"{folder}/store.db"}
        threads = ["--threads", str(arguments.threads)] if arguments.threads else []
        context = str(arguments.depth + 512)
        plan = quantbench(arguments.prefix, environment, "plan", f"shape:{shape}", "--quant", ",".join(types), "--context",
                          context, *threads, "--format", "json", "-q")
    found = {}
    for variant in plan["variants"]:
        for test in variant["speed"]["tests"]:
            if "unknown" in test:
                print(f"{shape} {variant['variant']}: {test['unknown']}", file=sys.stderr)
            else:
                found[variant["variant"], test["test"]] = test["tokens_per_second"]
    return found


def measured(arguments: argparse.Namespace, shape: str, kind: str, depth: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"QUANTBENCH_CACHE": folder, "QUANTBENCH_STORE": f"{folder}/store.db"}
        threads = ["-t", str(arguments.threads)] if arguments.threads else []
        repetitions = "3" if depth == 0 else "1"
        rows = quantbench(arguments.prefix, environment, "bench", f"shape:{shape}:{kind}", "-p", "512", "-n", "32", "-d",
                          str(depth), "-r", repetitions, *threads, "-q", "-o", "json")
    at = f" @ d{depth}" if depth else ""
    return {("pp512" if row["n_prompt"] else "tg128") + at: sorted(row["samples_ts"])[len(row["samples_ts"]) // 2] for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=SHAPES)
    parser.add_argument("--types", default="F16,Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q4_0")
    parser.add_argument("--deep", default="Q4_K_M")
    parser.add_argument("--depth", type=int, default=4096)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--prefix", default="")
    arguments = parser.parse_args()
    if arguments.profile:
        threads = ["--threads", str(arguments.threads)] if arguments.threads else []
        quantbench(arguments.prefix, dict(os.environ), "devices", "--measure", *threads, "--format", "json")
    kept = json.loads(arguments.keep.read_text()) if arguments.keep and arguments.keep.exists() else {}
    types = [it for it in arguments.types.split(",") if it]
    deep = [it for it in arguments.deep.split(",") if it]
    tests: dict[str, list[tuple[float, bool, float]]] = {}
    for shape in arguments.shapes:
        predictions = predicted(arguments, shape, list(dict.fromkeys(types + deep)))
        for kind, depth in [(kind, 0) for kind in types] + [(kind, arguments.depth) for kind in deep]:
            key = f"{shape} {kind} {depth}"
            if key not in kept:
                kept[key] = measured(arguments, shape, kind, depth)
                if arguments.keep:
                    arguments.keep.write_text(json.dumps(kept, indent=1))
            for test, rate in kept[key].items():
                prediction = predictions.get((kind, test))
                if prediction is None:
                    continue
                low, value, high = prediction["low"], prediction["value"], prediction["high"]
                inside = low <= rate <= high
                tests.setdefault(test, []).append((rate / value, inside, (high - low) / 2 / value))
                print(f"{shape:14} {kind:7} {test:14} measured {rate:8.2f}, predicted {value:8.2f} "
                      f"({low:.2f} to {high:.2f}), ratio {rate / value:.3f}{'' if inside else '  outside'}", flush=True)
    print("\n| test | compared | inside | ratio, mean | ratio, from | to | half width, widest |\n| --- | --: | --: | --: | --: | --: | --: |")
    good = True
    for test, found in sorted(tests.items()):
        ratios, inside, widths = zip(*found)
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"| {test} | {len(found)} | {sum(inside)} | {mean:.3f} | {min(ratios):.3f} | {max(ratios):.3f} | {max(widths):.1%} |")
        good &= max(widths) <= (0.20 if "@" in test else 0.15)
    everything = [inside for found in tests.values() for _, inside, _ in found]
    print(f"\n{sum(everything)} of {len(everything)} inside")
    return 0 if good and everything and sum(everything) >= 0.9 * len(everything) else 1


if __name__ == "__main__":
    sys.exit(main())
