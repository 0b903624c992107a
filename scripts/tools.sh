# Sourced, not run: makes cmake and libclang available to cargo, installing what is missing.
#
# With root and apt-get they come as system packages; otherwise from pip into .tools/, a folder of this
# checkout (git-ignored). Nothing is installed that is there already.

quantbench_tools=$PWD/.tools

quantbench_find_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then return 0; fi
    if ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so'; then return 0; fi
    for folder in /usr/lib/llvm-*/lib /usr/lib64/llvm*/lib /opt/homebrew/opt/llvm/lib \
        /Library/Developer/CommandLineTools/usr/lib "$quantbench_tools"/clang/native; do
        if ls "$folder"/libclang*.so* "$folder"/libclang.dylib >/dev/null 2>&1; then
            export LIBCLANG_PATH="$folder"
            return 0
        fi
    done
    return 1
}

quantbench_find_cmake() {
    if command -v cmake >/dev/null 2>&1; then return 0; fi
    if [ -x "$quantbench_tools/bin/cmake" ]; then
        export PATH="$quantbench_tools/bin:$PATH"
        export PYTHONPATH="$quantbench_tools${PYTHONPATH:+:$PYTHONPATH}"
        return 0
    fi
    return 1
}

quantbench_install() { # apt package, pip package
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing $1 with apt-get" >&2
        apt-get update -qq >&2 && apt-get install -y -qq "$1" >&2 && return 0
    fi
    echo "Installing $2 with pip into .tools/" >&2
    python3 -m pip install --quiet --target "$quantbench_tools" --upgrade "$2" >&2
}

quantbench_find_cmake || { quantbench_install cmake cmake && quantbench_find_cmake; } || {
    echo "cmake is missing and could not be installed; install it and run make again" >&2
    return 1 2>/dev/null || exit 1
}
quantbench_find_libclang || { quantbench_install libclang-dev libclang && quantbench_find_libclang; } || {
    echo "libclang is missing and could not be installed; install it and run make again" >&2
    return 1 2>/dev/null || exit 1
}

# The pip package of libclang has no headers of its own; the compiler's do.
if [ -n "${LIBCLANG_PATH:-}" ] && [ "${LIBCLANG_PATH#"$quantbench_tools"}" != "$LIBCLANG_PATH" ]; then
    quantbench_headers=$(cc -print-file-name=include 2>/dev/null)
    export BINDGEN_EXTRA_CLANG_ARGS="${BINDGEN_EXTRA_CLANG_ARGS:-} -I$quantbench_headers"
fi
