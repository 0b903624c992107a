#!/usr/bin/env python3
"""Compares quantbench with llama.cpp's own tools, in pairs, in one run on one machine.

Absolute times drift on shared machines; every figure printed here is a ratio of two measurements made
one after the other, or a comparison of values that must be equal.

    benches/against_llama_cpp.py --llama-cpp FOLDER [--only speed,values,quality,ladder,overhead,verdict]
                                 [--model F16.gguf] [--text FILE] [--side-by-side]

FOLDER holds llama-bench, llama-perplexity and llama-quantize, built from the llama.cpp that
vendor/UPSTREAM.toml names (or near it) with GGML_NATIVE=ON. Nothing is kept but what is printed.

`verdict` is `quantbench run` as it is by default against the pipeline of llama.cpp's tools with theirs: time
to the result, and whether both rank the variants alike.
"""

import argparse
import itertools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUANTBENCH = Path(os.environ.get("QUANTBENCH", ROOT / "target" / "release" / "quantbench"))
MODEL = ROOT / "demo" / "model" / "quantbench-demo-F16.gguf"
TEXT = ROOT / "demo" / "texts" / "evaluation.txt"
STANDARD = ROOT / "src" / "dataset" / "standard" / "evaluation"
LADDER = [
    "F16", "F32", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
    "IQ4_NL", "IQ4_XS", "Q3_K_M", "Q2_K",
]


class Bench:
    """The tools, a folder for what they write, and quantbench's own cache and store in it."""

    def __init__(self, llama_cpp: Path, folder: Path, threads: int, model: Path, text: Path, chunks: int):
        self.llama_cpp, self.folder, self.threads = llama_cpp, folder, threads
        self.model, self.text, self.chunks = model, text, chunks
        self.cores: dict[bool, str] = {}  # of quantbench and of the others, where both run at once
        self.environment = dict(
            os.environ,
            QUANTBENCH_CACHE=str(folder / "cache"),
            QUANTBENCH_STORE=str(folder / "runs.sqlite"),
        )

    def run(self, command: list, accept=(0,)) -> tuple[str, float]:
        """Runs a command; returns what it printed and its seconds."""
        start = time.monotonic()
        if self.cores:
            command = ["taskset", "-c", self.cores[command[0] == QUANTBENCH], *command]
        result = subprocess.run(
            [str(part) for part in command], env=self.environment, capture_output=True, text=True
        )
        seconds = time.monotonic() - start
        if result.returncode not in accept:
            sys.exit(f"{command} ended with {result.returncode}:\n{result.stderr[-2000:]}")
        return result.stdout + result.stderr, seconds

    def tool(self, name: str) -> Path:
        return self.llama_cpp / name

    def quantized(self, name: str) -> Path:
        """A variant made by llama-quantize, once."""
        path = self.folder / f"{name}.gguf"
        if name == "F16":
            return self.model
        if not path.exists():
            self.run([self.tool("llama-quantize"), self.model, path, name, self.threads])
        return path


def interval(values: list[float]) -> str:
    ordered = sorted(values)
    return f"median {statistics.median(ordered):.4f} (lowest {ordered[0]:.4f}, highest {ordered[-1]:.4f}, n={len(ordered)})"


def speed(bench: Bench, pairs: int) -> None:
    """pp512 and tg128 of the same files: quantbench over llama-bench, pair by pair."""
    print("## Throughput: quantbench bench / llama-bench, tokens per second, in pairs")
    for name in ["F16", "Q8_0", "Q4_K_M"]:
        path = bench.quantized(name)
        ratios = {"pp512": [], "tg128": []}
        for pair in range(pairs):
            order = ["ours", "theirs"] if pair % 2 == 0 else ["theirs", "ours"]
            found = {}
            for who in order:
                program = [QUANTBENCH, "bench", path] if who == "ours" else [
                    bench.tool("llama-bench"), "-m", path]
                output, _ = bench.run(
                    program + ["-p", 512, "-n", 128, "-r", 5, "-t", bench.threads, "-o", "jsonl"])
                for line in output.splitlines():
                    if line.startswith("{"):
                        row = json.loads(line)
                        test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
                        found[who, test] = statistics.median(row["samples_ts"])
            for test in ratios:
                ratios[test].append(found["ours", test] / found["theirs", test])
        for test, values in ratios.items():
            print(f"{name:8} {test:6} {interval(values)}")


def experiment(bench: Bench, name: str, variants: list[str], speed_tests: list[str], rounds: int,
               chunks: int | None) -> Path:
    """Writes an experiment on the model."""
    path = bench.folder / f"{name}.toml"
    limit = f"chunks = {chunks}" if chunks else ""
    path.write_text(f"""
quantizations = {json.dumps(variants)}
[experiment]
name = "{name}"
rounds = {rounds}
[settings]
threads = {bench.threads}
[workloads]
cold_load = false
speed = {json.dumps(speed_tests)}
[workloads.latency]
enabled = false
[workloads.quality]
text = "{bench.text}"
{limit}
[[models]]
name = "model"
source = "{bench.model}"
""")
    return path


def our_run(bench: Bench, path: Path) -> tuple[dict, float]:
    output, seconds = bench.run([QUANTBENCH, "run", path, "--quiet", "--format", "json"], accept=(0, 1))
    return json.loads(output[output.index("{"):]), seconds


def find_trials(report: dict) -> list[dict]:
    return (report.get("run") or report)["trials"]


def values(bench: Bench) -> None:
    """Perplexity and divergence of the same file and text."""
    print("## Values: quantbench and llama-perplexity on the same file and text")
    variants = ["F16", "Q8_0", "Q4_K_M"]
    report, _ = our_run(bench, experiment(bench, "values", variants, [], 1, None))
    base = bench.folder / "base.kld"
    for trial in find_trials(report):
        name = trial["quantization"]
        path = bench.quantized(name)
        command = [bench.tool("llama-perplexity"), "-m", path, "-t", bench.threads]
        if name == "F16":
            output, _ = bench.run(command + ["-f", bench.text, "--kl-divergence-base", base])
            theirs = float(re.search(r"Final estimate: PPL = ([\d.]+)", output)[1])
            kld = "n/a"
        else:
            output, _ = bench.run(command + ["--kl-divergence", "--kl-divergence-base", base])
            theirs = float(re.search(r"Mean PPL\(Q\)\s*:\s*([\d.]+)", output)[1])
            kld = re.search(r"Mean\s+KLD:\s*([-\d.]+)", output)[1]
        quality = trial["quality"]
        ours = quality["perplexity"]["mean"]
        divergence = quality.get("divergence")
        our_kld = f"{divergence['kld']['mean']:.6f}" if divergence else "reference"
        # Not by rounding: 9.78849 and 9.78851 agree, although they round apart.
        same = abs(ours - theirs) <= 5e-5 * theirs
        print(f"{name:8} PPL ours {ours:.4f} theirs {theirs:.4f} equal to 4 digits: {same};"
              f" KLD ours {our_kld} theirs {kld}")


def theirs_quality(bench: Bench, variants: list[str], chunks: int | None) -> float:
    """Seconds of llama-perplexity's passes: the base once, then each variant against it."""
    base, total = bench.folder / "base.kld", 0.0
    limit = ["--chunks", chunks] if chunks else []
    for name in variants:
        command = [bench.tool("llama-perplexity"), "-m", bench.quantized(name), "-t", bench.threads]
        if name == "F16":
            command += ["-f", bench.text, "--kl-divergence-base", base] + limit
        else:
            command += ["--kl-divergence", "--kl-divergence-base", base] + limit
        total += bench.run(command)[1]
    base.unlink()
    return total


def quality(bench: Bench, pairs: int) -> None:
    """Time of perplexity and divergence over several variants, whole processes."""
    print("## Quality: seconds of quantbench / seconds of llama-perplexity's passes, same chunks")
    variants = ["F16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "IQ4_XS", "Q2_K"]
    path = experiment(bench, "quality", variants, [], 1, 60)
    our_run(bench, path)  # makes the variants, so that neither side pays for it
    theirs_quality(bench, variants, 60)
    ratios = []
    for _ in range(pairs):
        ours = our_run(bench, path)[1]
        theirs = theirs_quality(bench, variants, 60)
        ratios.append(ours / theirs)
        print(f"ours {ours:.1f} s, theirs {theirs:.1f} s")
    print(interval(ratios))


def ladder(bench: Bench, pairs: int) -> None:
    """The whole job for 15 variants: quantize, load, speed, perplexity, divergence."""
    print("## Ladder: 15 variants, quantbench run / llama-quantize + llama-bench + llama-perplexity")
    ratios = []
    for _ in range(pairs):
        subprocess.run(["rm", "-rf", bench.folder / "cache"], check=True)
        path = experiment(bench, "ladder", LADDER, ["pp512", "tg128"], 5, 100)
        ours = our_run(bench, path)[1]
        for made in bench.folder.glob("*.gguf"):
            made.unlink()
        start = time.monotonic()
        for name in LADDER:
            file = bench.quantized(name)
            bench.run([bench.tool("llama-bench"), "-m", file, "-t", bench.threads, "-o", "jsonl"])
        theirs = time.monotonic() - start + theirs_quality(bench, LADDER, 100)
        ratios.append(ours / theirs)
        print(f"ours {ours:.1f} s, theirs {theirs:.1f} s")
    print(interval(ratios))


def default_experiment(bench: Bench, text: Path | None) -> Path:
    """The ladder with nothing but defaults, on a text if one was named."""
    path = bench.folder / "verdict.toml"
    quality = f'[workloads.quality]\ntext = "{text}"\n' if text else ""
    path.write_text(f"""
quantizations = {json.dumps(LADDER)}
[experiment]
name = "verdict"
[settings]
threads = {bench.threads}
{quality}
[[models]]
name = "model"
source = "{bench.model}"
""")
    return path


def our_figures(trials: list[dict]) -> dict:
    """By figure and variant: value."""
    found = {"KLD": {}, "pp512": {}, "tg128": {}}
    for trial in trials:
        name = trial["label"]
        divergence = (trial.get("quality") or {}).get("divergence")
        if divergence:
            found["KLD"][name] = divergence["kld"]["mean"]
        rates = {}
        for visit in trial["visits"]:
            for record in visit["speed"]:
                test = record["test"]
                samples = [it["tokens"] * 1e9 / it["nanoseconds"] for it in record["samples"]]
                rates.setdefault(test, []).append(statistics.median(samples))
        for test in ("pp512", "tg128"):
            if test in rates:
                found[test][name] = statistics.median(rates[test])
    return found


def their_figures(bench: Bench) -> tuple[dict, dict]:
    """By figure and variant: value and standard error; and seconds by tool."""
    found = {"KLD": {}, "pp512": {}, "tg128": {}}
    seconds = {"llama-quantize": 0.0, "llama-bench": 0.0, "llama-perplexity": 0.0}
    base = bench.folder / "base.kld"
    for name in LADDER:
        start = time.monotonic()
        file = bench.quantized(name)
        seconds["llama-quantize"] += time.monotonic() - start
        output, took = bench.run(
            [bench.tool("llama-bench"), "-m", file, "-t", bench.threads, "-o", "jsonl"])
        seconds["llama-bench"] += took
        for line in output.splitlines():
            if line.startswith("{"):
                row = json.loads(line)
                test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
                samples = row["samples_ts"]
                error = statistics.stdev(samples) / math.sqrt(len(samples))
                found[test][name] = (statistics.mean(samples), error)
    for name in LADDER:
        command = [bench.tool("llama-perplexity"), "-m", bench.quantized(name), "-t", bench.threads]
        if name == "F16":
            command += ["-f", bench.text, "--kl-divergence-base", base, "--chunks", bench.chunks]
        else:
            command += ["--kl-divergence", "--kl-divergence-base", base, "--chunks", bench.chunks]
        output, took = bench.run(command)
        seconds["llama-perplexity"] += took
        print(f"  {name}: {sum(seconds.values()):.1f} s so far", file=sys.stderr, flush=True)
        if name != "F16":
            kld = re.search(r"Mean\s+KLD:\s*([-\d.e]+)\s*±\s*([\d.e-]+)", output)
            found["KLD"][name] = (float(kld[1]), float(kld[2]))
    base.unlink()
    return found, seconds


def verdict(bench: Bench, text: Path | None) -> None:
    """Time to the finished table and ranking, ours by default against the pipeline."""
    print(f"## Verdict: quantbench run by default / llama-quantize + llama-bench + llama-perplexity ({bench.chunks} chunks)")
    subprocess.run(["rm", "-rf", bench.folder / "cache"], check=True)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(their_figures, bench) if bench.cores else None
        report, ours = our_run(bench, default_experiment(bench, text))
        print(f"ours {ours:.1f} s")
        times, _ = bench.run([QUANTBENCH, "show", "last", "--times"])
        print(times, flush=True)
        own = our_figures(find_trials(report))
        theirs, seconds = pending.result() if pending else their_figures(bench)
    total = sum(seconds.values())
    parts = ", ".join(f"{tool} {took:.1f} s" for tool, took in seconds.items())
    print(f"theirs {total:.1f} s ({parts}); ours / theirs {ours / total:.3f}")
    for figure, values in theirs.items():
        separated, other = 0, []
        # What is the reference in one of them has no divergence there.
        for one, two in itertools.combinations([name for name in values if name in own[figure]], 2):
            (a, error_a), (b, error_b) = values[one], values[two]
            if abs(a - b) <= 1.96 * math.hypot(error_a, error_b):
                continue
            separated += 1
            if (own[figure][one] - own[figure][two]) * (a - b) <= 0:
                other.append(f"{one} and {two}: ours {own[figure][one]:.5g} and {own[figure][two]:.5g},"
                             f" theirs {a:.5g} ± {error_a:.2g} and {b:.5g} ± {error_b:.2g}")
        print(f"{figure}: {separated} pairs that their errors separate, {len(other)} of them in another order")
        for line in other:
            print(f"  {line}")


def processor_seconds(pid: int) -> float | None:
    """User and system time of a process, its children left out."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None


def overhead(bench: Bench) -> None:
    """Processor time of orchestrator and monitor while workers measure; start of the program."""
    print("## Overhead")
    path = experiment(bench, "overhead", ["F16", "Q8_0", "Q4_K_M"], ["pp512", "tg128"], 5, 100)
    our_run(bench, path)
    start = time.monotonic()
    process = subprocess.Popen([QUANTBENCH, "run", path, "--quiet", "--format", "json"],
                               env=bench.environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    used = 0.0
    while process.poll() is None:
        used = processor_seconds(process.pid) or used
        time.sleep(0.05)
    seconds = time.monotonic() - start
    print(f"orchestrator and monitor: {used:.2f} s of processor in {seconds:.1f} s,"
          f" {100 * used / seconds:.2f} % of one core")
    starts = [bench.run([QUANTBENCH, "--version"])[1] * 1e3 for _ in range(20)]
    print(f"quantbench --version: median {statistics.median(starts):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llama-cpp", type=Path, default=os.environ.get("LLAMA_CPP_BIN"), required="LLAMA_CPP_BIN" not in os.environ)
    parser.add_argument("--only", default="speed,values,quality,ladder,overhead")
    parser.add_argument("--model", type=Path, default=MODEL, help="an F16 GGUF instead of the demo's")
    parser.add_argument("--text", type=Path, help="a text instead of the demo's; of verdict: instead of ours by default")
    parser.add_argument("--chunks", type=int, default=100, help="of verdict: chunks that llama-perplexity scores")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--side-by-side", action="store_true",
                        help="of verdict: both at once, each on half of the cores and in the same disturbances")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        text = arguments.text.resolve() if arguments.text else TEXT
        model = arguments.model.resolve()
        bench = Bench(Path(arguments.llama_cpp), folder, arguments.threads, model, text, arguments.chunks)
        if arguments.side_by_side:
            cores = sorted(os.sched_getaffinity(0))
            half = len(cores) // 2
            if arguments.only != "verdict" or half < arguments.threads:
                sys.exit(f"--side-by-side is of verdict, with at most {half} --threads here")
            bench.cores = {True: ",".join(map(str, cores[:half])), False: ",".join(map(str, cores[half:]))}
        for part in arguments.only.split(","):
            if part == "speed":
                speed(bench, 2 * arguments.pairs)
            elif part == "values":
                values(bench)
            elif part == "quality":
                quality(bench, arguments.pairs)
            elif part == "ladder":
                ladder(bench, max(1, arguments.pairs // 2))
            elif part == "overhead":
                overhead(bench)
            elif part == "verdict":
                # Theirs reads one file: what ours evaluates on by default.
                if arguments.text is None and model != MODEL.resolve():
                    bench.text = folder / "standard.txt"
                    files = sorted(STANDARD.glob("*.txt"))
                    bench.text.write_text("\n".join(file.read_text() for file in files))
                verdict(bench, arguments.text and text)
            else:
                sys.exit(f"--only {part}: parts are speed, values, quality, ladder, overhead and verdict")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
