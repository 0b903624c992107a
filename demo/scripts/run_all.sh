#!/bin/sh
# Remakes everything in demo/ but the prompts: run_all.sh CORPORA DATA
# CORPORA holds the .xz files that demo/README.md lists; DATA is a scratch folder (about 400 MB).
set -e
corpora=$1
data=$2
scripts=$(dirname "$0")
demo=$scripts/..

python3 "$scripts/prepare.py" --corpora "$corpora" --out "$data"

python3 "$scripts/train.py" --data "$data" --config teacher --out "$data/teacher.pt" \
    --steps 2978 --batch 64 --rate 2e-3 --decay 0.5 --seed 1 --log "$data/teacher.log.jsonl"
python3 "$scripts/evaluate.py" --data "$data" --model "$data/teacher.pt" --out "$data/teacher.figures.json"

mkdir -p "$demo/texts" "$demo/model"
for text in "evaluation 20261123" "calibration 20261124"; do
    name=${text% *}
    python3 "$scripts/sample_texts.py" --model "$data/teacher.pt" --out "$data/$name.samples.jsonl" \
        --seed "${text#* }" --documents 512 --temperature 0.9 --top-p 0.95
    python3 "$scripts/select_texts.py" --data "$data" --samples "$data/$name.samples.jsonl" \
        --out "$demo/texts/$name.txt" --tokens 65000
done

python3 "$scripts/train.py" --data "$data" --config demo --teacher "$data/teacher.pt" --out "$data/demo.pt" --half \
    --steps 12756 --batch 32 --rate 3e-3 --decay 0.1 --mix 0.7 --seed 1 --validate-every 1000 --log "$data/demo.log.jsonl"
python3 "$scripts/export_gguf.py" --model "$data/demo.pt" --tokenizer "$data/tokenizer.json" \
    --out "$demo/model/quantbench-demo-F16.gguf"
python3 "$scripts/evaluate.py" --data "$data" --model "$data/demo.pt" --out "$data/demo.figures.json" \
    --text "$demo/texts/evaluation.txt" "$demo/texts/calibration.txt"
