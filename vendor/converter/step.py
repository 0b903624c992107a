"""One step of a conversion, which ends when the program that asked for it does.

step.py module NAME ARGUMENTS…   runs a module, such as pip
step.py script PATH ARGUMENTS…   runs a file
step.py unpack FOLDER            unpacks the converter from the only source package in FOLDER
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
if kind == "unpack":
    unpack(pathlib.Path(sys.argv[0]))
elif kind == "module":
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
