#!/usr/bin/env bash
# Chromium for the tests of pages, from Debian's packages if it is not there. Ends with 1 and the reason where it cannot be had.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" > /dev/null; then exit 0; fi
done
if ! command -v apt-get > /dev/null || [ "$(id -u)" != 0 ]; then
    echo "no Chromium: install the package chromium (this is not root on a Debian)" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } > /dev/null || {
    echo "no Chromium: apt-get could not install the package chromium" >&2
    exit 1
}
