"""Trains the teacher, or the demo model from the teacher.

    python train.py --data DATA --config teacher --out DATA/teacher.pt --steps 3000 ...
    python train.py --data DATA --config demo --teacher DATA/teacher.pt --out DATA/demo.pt --steps 6000 ...

With --teacher the loss is (1 − mix) · cross-entropy with the text + mix · cross-entropy with the
teacher's distribution (softened by the temperature). The learning rate rises over the first steps, then
falls linearly to zero. With --seconds in place of --steps the number of steps is chosen from the
speed of the first 60; the log names it, and --steps with that number repeats the run.
"""

import argparse
import contextlib
import itertools
import json
import math
import time
from dataclasses import replace

import torch
import torch.nn.functional as F

import data
import model as architecture
from optimizer import Muon


def text_loss(decoder, inputs, targets):
    if not decoder.config.experts:
        return F.cross_entropy(decoder(inputs).float().flatten(0, 1), targets.flatten())
    balances = []
    loss = F.cross_entropy(decoder(inputs, balances=balances).float().flatten(0, 1), targets.flatten())
    return loss + 0.01 * sum(balances) / len(balances)


def distilled_loss(decoder, inputs, targets, teacher_logits, mix, temperature):
    logits = decoder(inputs).float().flatten(0, 1)
    wanted = F.softmax(teacher_logits.float().flatten(0, 1) / temperature, dim=-1)
    found = F.log_softmax(logits / temperature, dim=-1)
    soft = -(wanted * found).sum(-1).mean() * temperature**2
    return (1 - mix) * F.cross_entropy(logits, targets.flatten()) + mix * soft


@torch.no_grad()
def validation_loss(decoder, windows, device, precision, batch=32):
    decoder.eval()
    total, count = 0.0, 0
    for start in range(0, len(windows), batch):
        inputs, targets = data.inputs_and_targets(windows[start : start + batch], device)
        with precision():
            logits = decoder(inputs)
        total += F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum").item()
        count += targets.numel()
    decoder.train()
    return total / count


def rate_factor(step, steps, warmup=100):
    rising = (step + 1) / warmup
    return rising if steps is None or step < warmup else (steps - step) / (steps - warmup)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", choices=architecture.CONFIGS, required=True)
    parser.add_argument("--out", required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--seconds", type=float)
    parser.add_argument("--batch", type=int, default=64, help="windows per step")
    parser.add_argument("--accumulate", type=int, default=1, help="parts a batch is computed in")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--decay", type=float, default=0.1, help="weight decay")
    parser.add_argument("--dropout", type=float, help="instead of the configuration's")
    parser.add_argument("--teacher", help="checkpoint to learn from as well as from the text")
    parser.add_argument("--mix", type=float, default=0.5)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--validate-every", type=int, default=500)
    parser.add_argument("--half", action="store_true", help="store the matrices as F16")
    parser.add_argument("--log", help="JSON lines")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    precision = lambda: torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
    config = architecture.CONFIGS[arguments.config]
    if arguments.dropout is not None:
        config = replace(config, dropout=arguments.dropout)
    decoder = architecture.Decoder(config).to(device).train()
    parameters = sum(p.numel() for p in decoder.parameters())
    optimizer = Muon(decoder, arguments.rate, arguments.decay)
    batches = data.endless_batches(
        data.Documents(arguments.data, "train"), config.context, arguments.batch // arguments.accumulate, arguments.seed, device
    )
    validation = data.Documents(arguments.data, "calibration").windows(config.context)
    compiled = (lambda function: function) if device == "cpu" else torch.compile
    loss_of = compiled(distilled_loss if arguments.teacher else text_loss)
    teach = None
    if arguments.teacher:
        teacher = architecture.load(arguments.teacher, device).to(torch.bfloat16 if device == "cuda" else torch.float32)
        teach = compiled(teacher)

    def log(**entry):
        print(json.dumps(entry), flush=True)
        if arguments.log:
            with open(arguments.log, "a") as file:
                file.write(json.dumps(entry) + "\n")

    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    log(config=arguments.config, parameters=parameters, device=card, arguments=vars(arguments))
    started, recent, warmed = time.time(), [], None
    steps = arguments.steps
    for step in itertools.count():
        for _ in range(arguments.accumulate):
            inputs, targets = next(batches)
            with precision():
                if teach is not None:
                    with torch.no_grad():
                        teacher_logits = teach(inputs)
                    loss = loss_of(decoder, inputs, targets, teacher_logits, arguments.mix, arguments.temperature)
                else:
                    loss = loss_of(decoder, inputs, targets)
            (loss / arguments.accumulate).backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step(rate_factor(step, steps))
        recent.append(loss.detach())
        if step == 9:
            recent[-1].item()
            warmed = time.time()
        if step == 59 and steps is None:
            recent[-1].item()
            left = arguments.seconds - (time.time() - started)
            steps = 60 + max(60, int(left * 50 / (time.time() - warmed)))
            log(chosen_steps=steps)
        last = step + 1 == steps
        if last or (step + 1) % 100 == 0:
            mean = torch.stack(recent).mean().item()
            recent = []
            if not math.isfinite(mean):
                raise SystemExit("the loss is not finite")
            entry = dict(step=step + 1, loss=round(mean, 4), seconds=round(time.time() - started, 1))
            if warmed:
                done = (step - 9) * arguments.batch * config.context
                entry["tokens_per_second"] = round(done / (time.time() - warmed))
            if last or (step + 1) % arguments.validate_every == 0:
                entry["validation"] = round(validation_loss(decoder, validation, device, precision), 4)
            log(**entry)
        if last:
            break
    architecture.save(decoder, arguments.out, torch.float16 if arguments.half else None)
    log(done=arguments.out, tokens=steps * arguments.batch * config.context, seconds=round(time.time() - started, 1))


if __name__ == "__main__":
    main()
