#!/usr/bin/env bash
# Installs each package of `make dist` where nothing else is (no HOME, no environment, PATH of /usr/bin:/bin; the image) and
# measures two variants of the demo model with it.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$PWD/target/dist
(cd "$dist" && sha256sum --check --quiet SHA256SUMS)
if [ "$(stat -c %s "$dist"/quantbench-*.whl)" -gt 40000000 ]; then
    echo "the wheel is larger than 40 MB" >&2
    exit 1
fi
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

clean() { # name, command
    mkdir -p "$place/home-$1"
    (cd "$place/home-$1" && env -i HOME="$place/home-$1" PATH=/usr/bin:/bin "${@:2}")
}
passed=0
measures() { # name, command that is quantbench
    clean "$@" run --quant F16,Q4_0 --rounds 1 --repetitions 1 --quiet >"$place/$1.txt"
    for variant in 'F16 ref' 'Q4_0'; do
        # The row, not the list of variants or the verdict: the variant, then a size.
        if ! grep -Eq "^[→ ]*$variant +[0-9]+\.[0-9]" "$place/$1.txt"; then
            echo "$1: no row of $variant in its table:" >&2
            cat "$place/$1.txt" >&2
            exit 1
        fi
    done
    echo "$1: ok ($(clean "$1" "${@:2}" --version))"
    passed=$((passed + 1))
}

mkdir "$place/tarball"
tar -xzf "$dist"/quantbench-*-linux-gnu.tar.gz -C "$place/tarball"
if grep -rlaF -e "$PWD" -e "${CARGO_HOME:-$HOME/.cargo}" "$place/tarball"; then
    echo "a path of the machine that built them stands in these files" >&2
    exit 1
fi
# libc, and what GCC's programs need: whatever else a file needs must be in the package.
for library in $(find "$place/tarball" -type f -exec readelf --dynamic {} + 2>/dev/null |
    sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u); do
    case $library in
    libc.so.* | libm.so.* | ld-linux* | libgcc_s.so.* | libstdc++.so.*) ;;
    *)
        if ! compgen -G "$place/tarball/quantbench-*/lib/$library" >/dev/null; then
            echo "$library is needed and not in the package" >&2
            exit 1
        fi
        ;;
    esac
done
measures tarball "$place"/tarball/quantbench-*/quantbench

python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --no-deps --no-index "$dist"/quantbench-*.whl
measures wheel "$place/venv/bin/quantbench"

# uvx, where pip can bring it.
python3 -m venv "$place/uv"
if "$place/uv/bin/pip" install --quiet uv==0.13.9; then
    measures uvx "$place/uv/bin/uv" tool run --offline --no-config --from "$dist"/quantbench-*.whl quantbench
else
    echo "uvx: skipped, pip could not install uv"
fi

if command -v dpkg >/dev/null; then
    dpkg --extract "$dist"/quantbench_*.deb "$place/deb"
    measures deb "$place/deb/usr/bin/quantbench"
else
    echo "deb: skipped, there is no dpkg"
fi
# The image, where podman is and has its base or can fetch it.
base=$(sed -n 's/^FROM //p' packaging/Containerfile)
if command -v podman >/dev/null && { podman image exists "$base" || podman pull --quiet "$base"; } >/dev/null 2>&1; then
    # Nothing of it is fetched, and its commands need no container: where containers are limited, this runs, too.
    podman build --quiet --isolation chroot -f packaging/Containerfile -t quantbench-test-dist "$dist" >/dev/null
    trap 'podman rmi --force quantbench-test-dist >/dev/null; rm -rf "$place"' EXIT
    mkdir "$place/image"
    printf '#!/bin/sh\nexec %s run --rm quantbench-test-dist "$@"\n' "$(command -v podman)" >"$place/image/quantbench"
    chmod +x "$place/image/quantbench"
    clean() { "${@:2}"; } # the image has an environment of its own, and podman needs this one
    measures image "$place/image/quantbench"
else
    echo "image: skipped, there is no podman, or no $base for it"
fi
echo "$passed passed, 0 failed"
