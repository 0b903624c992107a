#!/usr/bin/env python3
"""How often answers flip, and which divergence predicts it: along a text, or along the reference's answers.

    benches/flips.py MODEL-F16.gguf QUESTIONS.jsonl... [--variants Q8_0,Q4_K_M,...] [--limit N] [--chunks N]

QUESTIONS hold one object a line: `query`, `choices`, `gold` (from 0), as mosaicml/llm-foundry's copies of ARC and PIQA.
A question flips where a variant's choice is not the reference's. Two runs of quantbench differ in their text alone;
each predictor is ranked against the share of flips (Spearman), its interval and that of the difference of the two come
from drawing questions and variants anew. Nothing is kept but what is printed.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUANTBENCH = os.environ.get("QUANTBENCH", str(ROOT / "target" / "release" / "quantbench"))
VARIANTS = (
    "Q8_0,Q6_K,Q5_K_M,Q5_0,Q4_1,Q4_K_M,Q4_0,IQ4_NL,IQ4_XS,Q3_K_L,Q3_K_M,Q3_K_S,IQ3_M,imatrix:IQ3_XXS,Q2_K"
)
DRAWS = 2000


def task(path: Path, limit: int | None) -> str:
    """A task that chooses: without a format, as lm-evaluation-harness asks."""
    return f"""
[[workloads.tasks]]
name = {json.dumps(path.stem)}
kind = "question-answering"
dataset = {json.dumps(str(path.resolve()))}
fields = {{ choices = "choices", gold = "gold" }}
template = "{{{{ query }}}}\\nAnswer:"
format = "none"
{f"limit = {limit}" if limit else ""}
"""


def run(folder: Path, arguments: argparse.Namespace, text: str, tasks: str) -> list[dict]:
    """One run of quality, and of tasks where there are some; its trials."""
    variants = ["F16", *arguments.variants.split(",")]
    experiment = folder / f"{text}.toml"
    experiment.write_text(f"""
quantizations = {json.dumps(variants)}
reference = "F16"
[experiment]
name = "flips"
rounds = 1
[workloads]
cold_load = false
speed = []
[workloads.latency]
enabled = false
[workloads.quality]
text = "{text}"
precision = 0
{f"chunks = {arguments.chunks}" if arguments.chunks else ""}
{tasks}
[[models]]
name = "model"
source = {json.dumps(str(arguments.model.resolve()))}
""")
    environment = dict(
        os.environ, QUANTBENCH_CACHE=str(folder / "cache"), QUANTBENCH_STORE=str(folder / "runs.sqlite")
    )
    command = [QUANTBENCH, "run", str(experiment), "--quiet", "--format", "json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode not in (0, 1):
        sys.exit(f"{command} ended with {result.returncode}:\n{result.stderr[-2000:]}")
    return json.loads(result.stdout)["run"]["trials"]


def ranks(values: list[float]) -> list[float]:
    """Ranks from 0, ties share their mean."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for position in order[start:end]:
            found[position] = (start + end - 1) / 2
        start = end
    return found


def spearman(one: list[float], other: list[float]) -> float:
    """Pearson's correlation of the ranks; 0 where one of them does not vary."""
    one, other = ranks(one), ranks(other)
    mean = (len(one) - 1) / 2
    covariance = sum((a - mean) * (b - mean) for a, b in zip(one, other))
    spread = (sum((a - mean) ** 2 for a in one) * sum((b - mean) ** 2 for b in other)) ** 0.5
    return covariance / spread if spread else 0.0


def interval(values: list[float]) -> str:
    ordered = sorted(values)
    low, high = (ordered[round(fraction * (len(ordered) - 1))] for fraction in (0.025, 0.975))
    return f"[{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("questions", type=Path, nargs="+")
    parser.add_argument("--variants", default=VARIANTS)
    parser.add_argument("--texts", default="standard,answers")
    parser.add_argument("--limit", type=int, help="questions of each file")
    parser.add_argument("--chunks", type=int)
    arguments = parser.parse_args()
    texts = arguments.texts.split(",")
    kld: dict[str, dict[str, float]] = {}
    flips: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for position, text in enumerate(texts):
            tasks = "".join(task(path, arguments.limit) for path in arguments.questions)
            trials = run(Path(folder), arguments, text, "" if position else tasks)
            reference = next(trial for trial in trials if trial["is_reference"])
            for trial in trials:
                if trial is reference or "divergence" not in (trial.get("quality") or {}):
                    continue
                kld.setdefault(trial["label"], {})[text] = trial["quality"]["divergence"]["kld"]["mean"]
                if not position:
                    pairs = zip(reference["tasks"], trial["tasks"])
                    flips[trial["label"]] = [
                        a != b for one, other in pairs for a, b in zip(one["answers"], other["answers"])
                    ]
    labels = sorted(kld, key=lambda label: kld[label][texts[0]])
    questions = len(flips[labels[0]])
    print(f"{questions} questions; flipped, per cent; mean KLD, nats")
    print("  ".join(["variant".ljust(16), "flipped", *(text.rjust(9) for text in texts)]))
    for label in labels:
        share = 100 * sum(flips[label]) / questions
        print("  ".join([label.ljust(16), f"{share:7.2f}", *(f"{kld[label][text]:9.5f}" for text in texts)]))

    def correlations(labels: list[str], drawn: list[int]) -> list[float]:
        shares = [float(sum(flips[label][question] for question in drawn)) for label in labels]
        return [spearman([kld[label][text] for label in labels], shares) for text in texts]

    generator = random.Random(1)
    draws = []
    for _ in range(DRAWS):
        drawn_labels = generator.choices(labels, k=len(labels))
        draws.append(correlations(drawn_labels, generator.choices(range(questions), k=questions)))
    for position, (text, found) in enumerate(zip(texts, correlations(labels, list(range(questions))))):
        print(f"rank correlation with {text}: {found:+.3f} {interval([draw[position] for draw in draws])}")
    if len(texts) == 2:
        print(f"difference {texts[1]} - {texts[0]}: {interval([draw[1] - draw[0] for draw in draws])}")


if __name__ == "__main__":
    main()
