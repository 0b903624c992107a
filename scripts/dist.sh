#!/usr/bin/env bash
# Packages of the portable build for this architecture (Linux), in target/dist:
#
#     quantbench-VERSION-py3-none-manylinux_*.whl    pip, uvx
#     quantbench-VERSION-ARCH-linux-gnu.tar.gz       to unpack anywhere; packaging/Containerfile makes an image of it
#     quantbench_VERSION-1_ARCH.deb                  apt
#     quantbench-VERSION-ARCH-linux-gnu.cdx.json     what is in them (CycloneDX)
#     SHA256SUMS
#
# The same sources and tools make the same bytes. Nothing is published.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/portable.sh # builds, and leaves the flags in the environment: maturin calls cargo again

# Tools, pinned: in target/tools.
tools=$PWD/target/tools
build_tool() { # crate, version
    if [ "$("$tools/bin/$1" --version 2>/dev/null)" = "${3:-$2}" ]; then return; fi
    RUSTFLAGS='' CFLAGS='' CXXFLAGS='' cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" "$1@$2"
}
build_tool cargo-deb 3.8.0
build_tool cargo-cyclonedx 0.5.9 "cargo-cyclonedx-cyclonedx 0.5.9"
if [ ! -x "$tools/py/bin/auditwheel" ]; then
    python3 -m venv "$tools/py"
    "$tools/py/bin/pip" install --quiet maturin==1.16.0 auditwheel==6.8.2
fi
export PATH="$tools/bin:$tools/py/bin:$PATH"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
arch=$(uname -m)
name=quantbench-$version-$arch-linux-gnu
# Not exported: build scripts of C code run again when it changes, and llama.cpp takes minutes.
date=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
dist=target/dist
rm -rf "$dist"
mkdir -p "$dist"

# What is in it, and under which licences.
SOURCE_DATE_EPOCH=$date cargo cyclonedx --quiet --format json --spec-version 1.5 --features portable --no-build-deps \
    --override-filename crates.cdx
mv crates.cdx.json "$dist/"
scripts/third_party.py "$dist/crates.cdx.json" "$dist/$name.cdx.json" target/portable/THIRD-PARTY.txt
rm "$dist/crates.cdx.json"

# The tarball.
mkdir "$dist/$name"
cp -r "$folder/." LICENSE README.md CHANGELOG.md target/portable/THIRD-PARTY.txt "$dist/$name/"
cp -r docs/schema "$dist/$name/"
tar --create --sort=name --format=gnu --mtime="@$date" --owner=0 --group=0 --numeric-owner \
    --mode='u=rwX,go=rX' --directory "$dist" "$name" | gzip --best --no-name >"$dist/$name.tar.gz"
rm -r "${dist:?}/$name"

# The Debian package: [package.metadata.deb] in Cargo.toml says what goes where.
SOURCE_DATE_EPOCH=$date cargo deb --quiet --no-build --no-strip --output "$dist/"

# The wheel. Its .data/data becomes the prefix where pip puts bin/quantbench, which looks in ../lib/quantbench.
# maturin's own audit takes libllama for a library of the system, and its repair would add a renamed copy: it is told to
# skip, and auditwheel says from the symbols which glibc and libstdc++ are the oldest that do.
prefix=$dist/quantbench.data/data
mkdir -p "$prefix/lib/quantbench" "$prefix/share/doc/quantbench"
cp -r "$folder/lib" "$folder/backends" "$prefix/lib/quantbench/"
cp LICENSE target/portable/THIRD-PARTY.txt "$prefix/share/doc/quantbench/"
mkdir -p "$prefix/share/quantbench"
cp -r docs/schema "$prefix/share/quantbench/"
trap 'rm -f packaging/*.cdx.json' EXIT # maturin takes none from elsewhere
cp "$dist/$name.cdx.json" packaging/
wheel() { # platform
    (cd packaging && maturin build --quiet --release --target-dir ../target/portable --out "../$dist" --auditwheel skip \
        --compatibility "$1" --compression-level 9 --sbom-include "$name.cdx.json")
}
wheel linux
platform=$(auditwheel show --json "$dist"/*.whl | python3 -c 'import json, sys; print(json.load(sys.stdin)["sym_tag"])')
rm "$dist"/*.whl
wheel "$platform"
rm -r "$dist/quantbench.data"

(cd "$dist" && sha256sum -- *.* >SHA256SUMS)
ls -l "$dist"
