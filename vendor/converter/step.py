"""One step of a conversion, which ends when the program that asked for it does.

step.py module NAME ARGUMENTS…   runs a module, such as pip
step.py script PATH ARGUMENTS…   runs a file
step.py fetch                    fetches the package that source.txt names and unpacks the converter, beside this file
"""

import os
import pathlib
import runpy
import sys
import tarfile
import threading


def end_with_parent():
    # Standard input stays open for as long as the parent lives, however it ends.
    os.read(0, 1)
    os._exit(1)


def run_module(name):
    sys.argv.insert(0, name)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def fetch(folder):
    # Nothing of it is built or installed, and it is what its checksum says.
    flags = ["--no-input", "--no-deps", "--no-binary", "llama-cpp-python", "--require-hashes"]
    source = ["--requirement", str(folder / "source.txt"), "--dest", str(folder)]
    sys.argv = ["download", *flags, *source]
    try:
        run_module("pip")
    except SystemExit as end:
        if end.code:
            raise
    unpack(folder)


def unpack(folder):
    wanted = ("convert_hf_to_gguf.py", "conversion/", "gguf-py/gguf/")
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as members:
        for member in members:
            path = member.name.partition("/vendor/llama.cpp/")[2]
            if member.isfile() and path.startswith(wanted) and ".." not in path.split("/"):
                target = folder / "llama.cpp" / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(members.extractfile(member).read())
    archive.unlink()


threading.Thread(target=end_with_parent, daemon=True).start()
kind, *sys.argv = sys.argv[1:]
if kind == "fetch":
    fetch(pathlib.Path(__file__).resolve().parent)
elif kind == "module":
    run_module(sys.argv.pop(0))
else:
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
