#!/bin/sh
# Builds quantbench for other machines of this architecture and puts together the folder to copy there:
#
#     target/portable/quantbench/quantbench    the program
#                               /lib           llama.cpp's libraries, and GCC's of OpenMP, which few machines have
#                               /backends      a module for every kind of processor; a module of another back end,
#                                              such as libggml-cuda.so, may be put beside them
set -eu

target=target/portable
folder=$target/quantbench

# llama-cpp-sys-2 fails on links of an earlier build whose libraries are gone.
if [ -d "$target" ]; then
    find "$target" -type l ! -exec test -e {} \; -exec rm {} +
fi

# No path of this machine in what is given to others: another folder makes the same bytes.
# RUSTFLAGS without target-cpu overrides .cargo/config.toml.
RUSTFLAGS="-C strip=symbols --remap-path-prefix=$PWD=/quantbench"
mapped="-ffile-prefix-map=$PWD=/quantbench"
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$crates=/crates"
    mapped="$mapped -ffile-prefix-map=$crates=/crates"
done
export RUSTFLAGS
export CFLAGS="${CFLAGS:-} $mapped" CXXFLAGS="${CXXFLAGS:-} $mapped"
# A crate draws a number when it is compiled: the same one, so that the same sources make the same bytes.
export CONST_RANDOM_SEED=quantbench
cargo build --release --locked --features portable --target-dir "$target"

built=$(ls -td "$target"/release/build/llama-cpp-sys-2-*/out/backends | head -n 1)
rm -rf "$folder"
mkdir -p "$folder/lib" "$folder/backends"
cp "$target/release/quantbench" "$folder/"
# -L: under the names that programs ask for stand links to names with the whole version.
cp -L "${built%/backends}"/lib/lib*.so.[0-9] "$folder/lib/" 2>/dev/null ||
    cp -L "${built%/backends}"/lib/lib*.[0-9].dylib "$folder/lib/"
cp "$built"/* "$folder/backends/"
if [ "$(uname)" = Linux ]; then
    strip --strip-unneeded "$folder"/lib/* "$folder"/backends/*
fi
openmp=$("${CC:-cc}" -print-file-name=libgomp.so.1)
if [ -e "$openmp" ]; then
    cp -L "$openmp" "$folder/lib/"
fi
"$folder/quantbench" --version
echo "$folder is complete; copy it to the other machine."
