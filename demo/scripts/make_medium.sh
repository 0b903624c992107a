#!/bin/sh
# Makes the medium model, which is not committed: make_medium.sh DATA OUT.gguf
# DATA is the folder that prepare.py has filled (the first step of run_all.sh).
set -e
data=$1
out=$2
scripts=$(dirname "$0")

python3 "$scripts/train.py" --data "$data" --config medium --out "$data/medium.pt" --half \
    --steps 3136 --batch 64 --rate 2e-3 --decay 0.3 --seed 1 --log "$data/medium.log.jsonl"
python3 "$scripts/evaluate.py" --data "$data" --model "$data/medium.pt" --out "$data/medium.figures.json"
python3 "$scripts/export_gguf.py" --model "$data/medium.pt" --tokenizer "$data/tokenizer.json" \
    --name "quantbench medium" --out "$out"
