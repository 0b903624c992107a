#!/usr/bin/env python3
"""Which variant reaches a speed within a loss of perplexity? `quantbench recommend` and fituna are asked the same, and held to
what many rounds say of the engine that would run the answer: `quantbench bench` for ours, llama-bench for fituna's. The two may be
built for other processors; llama-perplexity tells the loss of both.

    benches/against_fituna.py --fituna FOLDER --llama-cpp FOLDER --model F16.gguf --text FILE
                              [--targets 10] [--repeats 5] [--loss 5] [--chunks 12] [--threads 4] [--jobs 1] [--rounds 30]

`--fituna` is a folder with the Python package (`pip install --target`), `--llama-cpp` has llama-bench, llama-perplexity and
llama-quantize. The targets lie evenly, in logarithms, from 10 % below the slowest variant to 5 % above the fastest. With
`--jobs` as many are asked side by side, each on cores of its own; so is the truth measured, both engines in turns. One line a question is printed as
it is answered, so that an interrupted run is not lost.

An answer is *wrong* where it names a variant that misses the target or the loss, or says that there is none and there is one;
where the truth's own interval of a variant (95 %, of the median) has the target in it, either answer about it is right. *Not the
best*: it meets both, and so does one that loses less.
"""

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).resolve().parent.parent
QUANTBENCH = os.environ.get("QUANTBENCH", str(ROOT / "target" / "release" / "quantbench"))
VARIANTS = ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]  # fituna's own
TOOLS = ["llama-bench", "llama-perplexity", "llama-quantize"]


class Slot:
    """Cores of its own, and the tools bound to them with their number of threads (llama.cpp counts those of the machine)."""

    def __init__(self, folder: Path, llama_cpp: Path, number: int, threads: int, cores: list[int]):
        own = cores[number * threads : (number + 1) * threads]
        self.bound = ["taskset", "-c", ",".join(map(str, own))]
        self.tools = folder / f"tools-{number}"
        self.tools.mkdir()
        for tool in TOOLS:
            count = "" if tool == "llama-quantize" else f"-t {threads}"
            command = f'{" ".join(self.bound)} {llama_cpp / tool} "$@" {count}'
            script = self.tools / tool
            # At times 0.5.0 loses the last lines of its log, and the result with them: fituna would give up.
            script.write_text(f"""#!/bin/sh
log=$(mktemp)
for attempt in 1 2 3; do
    {command} 2>$log >$log.out
    status=$?
    [ {tool} != llama-perplexity ] || grep -q "Final estimate" $log $log.out && break
done
cat $log.out; cat $log >&2
rm $log $log.out
exit $status
""")
            script.chmod(0o755)

    def run(self, command: list, **environment) -> subprocess.CompletedProcess:
        return subprocess.run(self.bound + [str(part) for part in command], capture_output=True, text=True,
                              env=dict(os.environ, **environment))


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """Median with the order statistics that hold it in 95 % of cases."""
    ordered, n = sorted(values), len(values)
    reach = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach) - 1)
    return ordered[low], statistics.median(ordered), ordered[high]


class Truth:
    """Speed and loss of every variant, by llama.cpp's tools."""

    def __init__(self, question, folder: Path, slots: list[Slot]):
        files = {"F16": question.model}  # ours may answer it, where it is fast enough
        for name in VARIANTS:
            files[name] = folder / f"truth-{name}.gguf"
            check(slots[0].run([slots[0].tools / "llama-quantize", question.model, files[name], name]))

        def perplexity(file: Path) -> float:
            slot = question.free.get()
            result = check(slot.run([slot.tools / "llama-perplexity", "-m", file, "-f", question.text, "--chunks", question.chunks]))
            question.free.put(slot)
            return float(re.search(r"Final estimate: PPL = ([0-9.]+)", result.stdout + result.stderr).group(1))

        def rounds(count: int) -> dict[tuple[str, str], list[float]]:
            slot = question.free.get()
            of = {"quantbench": [QUANTBENCH, "bench", "-t", question.threads], "fituna": [slot.tools / "llama-bench"]}
            both = [(who, name) for name in files for who in of]
            speeds: dict[tuple[str, str], list[float]] = {one: [] for one in both}
            for turn in range(count):
                for who, name in both if turn % 2 == 0 else reversed(both):
                    result = check(slot.run(of[who] + ["-m", files[name], "-p", 0, "-n", 128, "-r", 1, "-o", "json"]))
                    speeds[who, name].append(json.loads(result.stdout)[0]["avg_ts"])
            question.free.put(slot)
            return speeds

        with ThreadPoolExecutor(len(slots)) as pool:
            found = dict(zip(files, pool.map(perplexity, files.values())))
            self.loss = {name: found[name] / found["F16"] - 1 for name in files}
            parts = list(pool.map(rounds, [math.ceil(question.rounds / len(slots))] * len(slots)))
        self.speed = {one: median_interval(sum((part[one] for part in parts), [])) for one in parts[0]}

    def meets(self, who: str, name: str, target: float, loss: float) -> bool | None:
        """None: the truth cannot say."""
        low, _, high = self.speed[who, name]
        if self.loss[name] > loss or high < target:
            return False
        return True if low >= target else None

    def judge(self, who: str, answer: str | None, target: float, loss: float) -> str:
        meeting = [name for name in VARIANTS if self.meets(who, name, target, loss)]
        if answer is None:
            return "wrong: there is one" if meeting else "right"
        if self.meets(who, answer, target, loss) is False:
            return "wrong: misses"
        return "not the best" if any(self.loss[name] < self.loss[answer] for name in meeting) else "right"


def check(result: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    if result.returncode:
        sys.exit(f"{result.args} ended with {result.returncode}:\n{result.stderr[-2000:]}")
    return result


def ask_fituna(question, slot: Slot, folder: Path, target: float) -> str | None:
    result = slot.run([sys.executable, "-m", "fituna", "run", "--model", question.model, "--target-tps", target,
                       "--max-quality-loss", question.loss * 100, "--ctx", 640, "--gpu", "none", "--llama-bin-dir", slot.tools,
                       "--quality-corpus", question.text, "--ppl-chunks", question.chunks, "--out", folder, "--json"],
                      PYTHONPATH=str(question.fituna))
    if result.returncode in (1, 3):  # a best effort, which misses; an error has no JSON
        if "{" not in result.stdout and result.returncode == 1:
            check(result)
        return None
    return json.loads(check(result).stdout)["config"]["quant"]


def ask_ours(question, slot: Slot, folder: Path, target: float) -> str | None:
    experiment = folder / "experiment.toml"
    experiment.write_text(f"""
quantizations = {json.dumps(VARIANTS)}
[experiment]
name = "fituna"
[settings]
threads = {question.threads}
[workloads]
cold_load = false
speed = ["tg128"]
[workloads.latency]
enabled = false
[workloads.quality]
text = "{question.text}"
chunks = {question.chunks}
[requirements]
min_generation_tps = {target}
max_perplexity_increase = {question.loss}
[[models]]
source = "{question.model}"
""")
    result = slot.run([QUANTBENCH, "recommend", experiment, "--quiet", "--format", "json"],
                      QUANTBENCH_CACHE=str(folder / "cache"), QUANTBENCH_STORE=str(folder / "runs.sqlite"))
    if result.returncode not in (0, 1):
        check(result)
    report = json.loads(result.stdout)
    chosen = report["summary"]["recommendation"]["chosen"]
    return None if chosen is None else report["summary"]["rows"][chosen]["label"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["fituna", "llama-cpp", "model", "text"]:
        parser.add_argument(f"--{name}", type=lambda path: Path(path).resolve(), required=True)
    parser.add_argument("--loss", type=lambda percent: float(percent) / 100, default=0.05)
    for name, default in [("targets", 10), ("repeats", 5), ("chunks", 12), ("threads", 4), ("jobs", 1), ("rounds", 30)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    question = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < question.jobs * question.threads:
        sys.exit(f"{question.jobs} jobs of {question.threads} threads need {question.jobs * question.threads} cores; there are {len(cores)}")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slots = [Slot(folder, question.llama_cpp, number, question.threads, cores) for number in range(question.jobs)]
        question.free = Queue()
        for slot in slots:
            question.free.put(slot)
        truth = Truth(question, folder, slots)
        for variant, loss in truth.loss.items():
            both = [(who, *truth.speed[who, variant]) for who in ["quantbench", "fituna"]]
            speeds = "   ".join(f"{who} {median:.1f} t/s ({low:.1f} to {high:.1f})" for who, low, median, high in both)
            print(f"{variant:8} {speeds}   perplexity {loss:+.2%}", flush=True)
        medians = [median for (_, variant), (_, median, _) in truth.speed.items() if variant in VARIANTS]
        first, last = math.log(0.9 * min(medians)), math.log(1.05 * max(medians))
        targets = [round(math.exp(first + (last - first) * i / (question.targets - 1)), 1) for i in range(question.targets)]

        def ask(job: tuple[int, float, str]) -> tuple[str, str, float]:
            repeat, target, who = job
            slot = question.free.get()
            own = Path(tempfile.mkdtemp(dir=folder))
            start = time.monotonic()
            answer = (ask_ours if who == "quantbench" else ask_fituna)(question, slot, own, target)
            seconds = time.monotonic() - start
            shutil.rmtree(own)
            question.free.put(slot)
            verdict = truth.judge(who, answer, target, question.loss)
            print(f"{repeat} {target:7.1f} {who:10} {answer or 'none':8} {verdict:20} {seconds:6.1f} s", flush=True)
            return who, verdict, seconds

        jobs = [(repeat, target, who) for repeat in range(question.repeats) for target in targets
                for who in (["quantbench", "fituna"] if repeat % 2 == 0 else ["fituna", "quantbench"])]
        with ThreadPoolExecutor(question.jobs) as pool:
            answers = list(pool.map(ask, jobs))
    for who in ["quantbench", "fituna"]:
        own = [answer for answer in answers if answer[0] == who]
        wrong = sum(verdict.startswith("wrong") for _, verdict, _ in own)
        worse = sum(verdict == "not the best" for _, verdict, _ in own)
        print(f"{who}: {wrong} of {len(own)} wrong, {worse} not the best, median {statistics.median(s for _, _, s in own):.1f} s")


if __name__ == "__main__":
    main()
