#!/usr/bin/env python3
"""What a package of quantbench contains that others wrote, told twice: as an SBOM and as the texts of the licences.

third_party.py CRATES.json SBOM.json NOTICES.txt

CRATES.json is cargo-cyclonedx's; it knows crates only. SBOM.json is that and llama.cpp with ggml, whose versions
vendor/UPSTREAM.toml has, and GCC's OpenMP library. NOTICES.txt has the licence of each.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

NAMES = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense)", re.IGNORECASE)


def upstream(key):
    return re.search(rf'^{key} = "(.*)"', Path("vendor/UPSTREAM.toml").read_text(), re.MULTILINE)[1]


def native():
    """Components that are no crates."""
    gcc = subprocess.run(
        [os.environ.get("CC", "cc"), "-dumpfullversion"], capture_output=True, text=True, check=True
    ).stdout.strip()
    for name, version, licence, url in [
        ("llama.cpp", upstream("version"), "MIT", "https://github.com/ggml-org/llama.cpp"),
        ("ggml", upstream("ggml_version"), "MIT", "https://github.com/ggml-org/ggml"),
        ("libgomp", gcc, "GPL-3.0-or-later WITH GCC-exception-3.1", "https://gcc.gnu.org"),
    ]:
        yield {
            "type": "library",
            "bom-ref": f"{name}@{version}",
            "name": name,
            "version": version,
            "scope": "required",
            "licenses": [{"expression": licence}],
            "externalReferences": [{"type": "website", "url": url}],
        }


def texts(folder):
    """The licences in a crate's folder, and llama.cpp's and those of what it carries below it."""
    folders = [folder, *(path for path in (folder / "llama.cpp",) if path.is_dir())]
    files = [path for each in folders for path in each.iterdir()]
    files += (folder / "llama.cpp" / "vendor").rglob("*")
    return sorted(path for path in files if path.is_file() and NAMES.match(path.name))


def notices(components, folders):
    """One text after the other, each once, under the names of those who are under it."""
    holders, contents = {}, {}
    for component in components:
        name = f"{component['name']} {component['version']}"
        folder = folders.get((component["name"], component["version"]))
        found = texts(folder) if folder else []
        for path in found:
            text = path.read_text(errors="replace").strip()
            key = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
            holders.setdefault(key, set()).add(
                name if path.parent == folder else f"{name}: {path.relative_to(folder).parent}"
            )
            contents.setdefault(key, text)
        if not found:
            licence = component.get("licenses", [{}])[0]
            terms = licence.get("expression", "see its source")
            where = " ".join(one["url"] for one in component.get("externalReferences", []))
            text = f"{terms}. Its package has no text of it; source: {where}"
            holders.setdefault(text, set()).add(name)
            contents.setdefault(text, text)
    yield "quantbench contains the following, under these licences.\n"
    for key in sorted(holders, key=lambda key: min(holders[key])):
        yield "\n" + "=" * 100 + "\n" + "\n".join(sorted(holders[key])) + "\n\n" + contents[key] + "\n"


def main():
    source, sbom, text = sys.argv[1:]
    # Nothing of this machine: cargo-cyclonedx names the folder of the checkout.
    bom = json.loads(Path(source).read_text().replace(f"path+file://{Path.cwd()}", "path+file:///quantbench"))
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--locked", "--format-version", "1"], capture_output=True, check=True
        ).stdout
    )
    folders = {
        (package["name"], package["version"]): Path(package["manifest_path"]).parent
        for package in metadata["packages"]
    }
    added = list(native())
    crates = bom["components"]
    bom["components"] = crates + added
    for entry in bom["dependencies"]:
        if "#llama-cpp-sys-2@" in entry["ref"]:
            entry.setdefault("dependsOn", []).extend(component["bom-ref"] for component in added)
    bom["dependencies"] += [{"ref": component["bom-ref"]} for component in added]
    Path(sbom).write_text(json.dumps(bom, indent=1) + "\n")
    # llama.cpp's licence is in its crate's folder.
    Path(text).write_text("".join(notices(crates + added[2:], folders)))


main()
