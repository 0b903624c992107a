#!/usr/bin/env python3
"""What `quantbench plan` predicts against what a run then takes: peak resident memory, Linux only.

    benches/plan.py [MODEL.gguf...] [--variants F16,Q8_0,Q4_0] [--contexts 512,2048] [--cache-types f16,q8_0,q4_0]
                    [--no-mmap]

For each model, variant, context and type of cache: the plan's peak, then one visit that reads a prompt as long as the
context, which fills the cache and every compute buffer. A miss is further off than 2 % or 16 MiB, whichever is more.
Where files are mapped, what was measured holds the pages, too, that weights were repacked from; the system takes those
back when memory is short, so that a plan does not count them: they are subtracted, and shown. Without models, the demo's; contexts beyond what a model was trained for are left out. Nothing is kept but what is
printed; the exit code is 1 if anything was missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUANTBENCH = os.environ.get("QUANTBENCH", str(ROOT / "target" / "release" / "quantbench"))
DEMOS = ["quantbench-demo-F16", "quantbench-demo-embed-F16", "quantbench-demo-experts-F16", "quantbench-demo-translate-F16"]
MIB = 1 << 20


def quantbench(environment: dict[str, str], *arguments: str) -> dict:
    done = subprocess.run([QUANTBENCH, *arguments, "--format", "json"], env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout)


def peaks(value: object) -> list[int]:
    """Every peak in a record, however deep."""
    if isinstance(value, dict):
        own = [value["peak_rss_bytes"]] if value.get("peak_rss_bytes") else []
        return own + [peak for inner in value.values() for peak in peaks(inner)]
    if isinstance(value, list):
        return [peak for inner in value for peak in peaks(inner)]
    return []


def measured(folder: Path, environment: dict[str, str], model: str, variants: list[str], context: int, cache: str, mmap: bool) -> list[dict]:
    experiment = folder / "plan.toml"
    experiment.write_text(f"""
quantizations = {json.dumps(variants)}
[experiment]
name = "plan"
rounds = 1
[settings]
cache_type_k = "{cache}"
cache_type_v = "{cache}"
mmap = {json.dumps(mmap)}
[workloads]
cold_load = false
speed = ["pp{context}"]
[workloads.latency]
enabled = false
[workloads.quality]
enabled = false
[[models]]
name = "m"
source = {json.dumps(model)}
""")
    return quantbench(environment, "run", str(experiment))["run"]["trials"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[str(ROOT / "demo" / "model" / f"{name}.gguf") for name in DEMOS])
    parser.add_argument("--variants", default="F16,Q8_0,Q4_0,Q4_K_M")
    parser.add_argument("--contexts", default="512,2048,8192")
    parser.add_argument("--cache-types", default="f16,q8_0,q4_0")
    parser.add_argument("--no-mmap", action="store_true")
    arguments = parser.parse_args()
    variants = arguments.variants.split(",")
    misses = compared = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = os.environ | {
            "QUANTBENCH_CACHE": str(folder / "cache"), "QUANTBENCH_STORE": str(folder / "runs.sqlite"),
        }
        for model in map(os.path.abspath, arguments.models):
            limit = quantbench(environment, "inspect", model)["context_length"] or 512
            contexts = sorted({min(int(it), limit) for it in arguments.contexts.split(",")})
            for context in contexts:
                for cache in arguments.cache_types.split(","):
                    ask = ["plan", model, "--context", str(context), "--cache-types", cache, "--quant", ",".join(variants)]
                    plan = quantbench(environment, *ask)["variants"]
                    trials = measured(folder, environment, model, variants, context, cache, not arguments.no_mmap)
                    for planned, trial in zip(plan, trials, strict=True):
                        memory, found = planned["memory"][0], peaks(trial)
                        where = f"{Path(model).stem} {planned['variant']} {context} {cache}"
                        if "unknown" in memory or not found:
                            print(f"{where}: planned {memory.get('unknown', 'ok')}, measured {max(found, default=None)}", flush=True)
                            continue
                        repacked = sum(it["weights_bytes"] for it in memory["buffers"] if "REPACK" in it["buffer"])
                        mapped = 0 if arguments.no_mmap else repacked
                        peak, real = memory["needed"][0]["peak_bytes"], max(found) - mapped
                        compared += 1
                        is_miss = abs(peak - real) > max(real * 0.02, 16 * MIB)
                        misses += is_miss
                        parts = [memory[f"{it}_bytes"] / MIB for it in ("weights", "kv", "compute", "process")]
                        print(f"{where}: planned {peak / MIB:.1f}, measured {real / MIB:.1f} + {mapped / MIB:.1f} MiB, {(peak - real) / MIB:+.1f}"
                              f" ({', '.join(f'{it:.1f}' for it in parts)}){'  MISS' if is_miss else ''}", flush=True)
    print(f"{misses} of {compared} missed")
    return 1 if misses or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
