#!/usr/bin/env python3
"""`quantbench tune` against random search over the same space in the same time, and against llama.cpp's defaults.

    benches/tune.py [--pairs MODEL=GOAL,...] [--budget 2min] [--rounds 10] [--seed 1] [--out FILE.json]

For each model and goal: a search by choices and one at random, each within the budget and each with its own proof. Then
what both found and the defaults are measured in fresh interleaved rounds, which neither search saw, with the goal's own
tests, five repetitions each. A win or a loss is a ratio whose 95 % interval (Student, logarithms, paired by round) leaves 1 out; everything else is a
tie. Models may be anything that `quantbench tune` takes. Run it under `taskset -c 1` where others compute, too: both searches
and the rounds then have that processor alone to share.
"""

import argparse
import datetime
import json
import math
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUANTBENCH = os.environ.get("QUANTBENCH", str(ROOT / "target" / "release" / "quantbench"))
PAIRS = "demo=prompt,demo=generation,demo=throughput,shape:smollm2-135m:Q4_0=balanced,shape:smollm2-360m:Q4_K_M=generation,shape:qwen3-0.6b:Q4_0=prompt"
# Student's t, two-sided 95 %, by degrees of freedom.
T = [0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131]


class Failed(Exception):
    pass


def quantbench(folder: Path, *arguments: str) -> dict:
    environment = os.environ | {"QUANTBENCH_STORE": str(folder / "store.sqlite")}
    done = subprocess.run([QUANTBENCH, *arguments, "--format", "json", "-q"], env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise Failed(f"{arguments}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def toml(settings: dict) -> str:
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items() if value is not None) + " }"


def speeds(trial: dict) -> dict[int, float]:
    """Logarithm of the geometric mean of a round's tests."""
    found = {}
    for visit in trial["visits"]:
        rates = []
        for record in visit["speed"]:
            values = sorted(sample["tokens"] / sample["nanoseconds"] for sample in record["samples"])
            rates.append(math.log(values[len(values) // 2]))
        found[visit["round"]] = sum(rates) / len(rates)
    return found


def ratio(one: dict[int, float], other: dict[int, float]) -> tuple[float, float, float]:
    differences = [one[at] - other[at] for at in one.keys() & other.keys()]
    mean = sum(differences) / len(differences)
    variance = sum((it - mean) ** 2 for it in differences) / (len(differences) - 1)
    half = T[min(len(differences) - 1, 15)] * math.sqrt(variance / len(differences))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def fresh(folder: Path, tuned: dict, found: dict[str, dict], rounds: int) -> dict[str, dict[int, float]]:
    models = "".join(
        f'[[models]]\nname = "{name}"\nsource = {json.dumps(tuned["file"])}\nsettings = {toml(settings)}\nquantizations = []\n'
        for name, settings in found.items()
    )
    experiment = folder / "fresh.toml"
    experiment.write_text(
        f"""[experiment]
name = "fresh"
rounds = {rounds}
repetitions = 5
[workloads]
cold_load = false
speed = {json.dumps(tuned["tests"])}
[workloads.latency]
enabled = false
[workloads.quality]
enabled = false
{models}"""
    )
    run = quantbench(folder, "run", str(experiment))["run"]
    return {trial["model"]: speeds(trial) for trial in run["trials"]}


def compared(folder: Path, model: str, goal: str, arguments: argparse.Namespace) -> dict:
    flags = ["--for", goal, "--budget", arguments.budget]
    tuned = quantbench(folder, "tune", model, *flags)
    drawn = quantbench(folder, "tune", model, *flags, "--search", "random", "--seed", str(arguments.seed))
    defaults = tuned["tried"][0]["settings"]
    # What the search found, whatever its proof says.
    best = lambda it: it["finalists"][0]["settings"] if it["finalists"] else defaults
    found = {"defaults": defaults, "choices": best(tuned), "random": best(drawn), "taken": tuned["settings"]}
    measured = fresh(folder, tuned, found, arguments.rounds)
    return {
        "model": model,
        "goal": goal,
        "choices": next((it["in_words"] for it in tuned["tried"] if it["settings"] == found["choices"]), "?"),
        "random": next((it["in_words"] for it in drawn["tried"] if it["settings"] == found["random"]), "?"),
        "proved": tuned["changes_defaults"],
        "tried": [len(tuned["tried"]), len(drawn["tried"])],
        "choices/defaults": ratio(measured["choices"], measured["defaults"]),
        "taken/defaults": ratio(measured["taken"], measured["defaults"]),
        "random/defaults": ratio(measured["random"], measured["defaults"]),
        "choices/random": ratio(measured["choices"], measured["random"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--budget", default="2min")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    rows = []
    for pair in arguments.pairs.split(","):
        model, goal = pair.rsplit("=", 1)
        with tempfile.TemporaryDirectory() as name:
            try:
                row = compared(Path(name), model, goal, arguments)
            except Failed as failure:
                print(f"{model} for {goal}: {failure}", flush=True)
                continue
        rows.append(row)
        show = lambda it: f"{it[0]:.3f} ({it[1]:.3f} to {it[2]:.3f})"
        print(
            f"| {model} | {goal} | `{row['choices']}` | {show(row['choices/defaults'])} | {'yes' if row['proved'] else 'no'} | "
            f"`{row['random']}` | {show(row['random/defaults'])} | {show(row['choices/random'])} |",
            flush=True,
        )
        if arguments.out:
            Path(arguments.out).write_text(json.dumps({"date": str(datetime.date.today()), "budget": arguments.budget, "rows": rows}, indent=1))
    for what in ["choices/defaults", "taken/defaults", "random/defaults", "choices/random"]:
        wins = sum(row[what][1] > 1 for row in rows)
        losses = sum(row[what][2] < 1 for row in rows)
        print(f"{what}: {wins} wins, {len(rows) - wins - losses} ties, {losses} losses")


if __name__ == "__main__":
    main()
