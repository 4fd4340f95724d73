#!/usr/bin/env bash
# Tests relc's HTML pages in headless Chromium (tools/pages_test.py), and the types of their scripts. Pages and screenshots
# are left in OUT_DIR.
#
#   tools/pages.sh [OUT_DIR]           # target/pages unless told otherwise
#
# Installs into OUT_DIR what it needs from PyPI and npm, and as root on Debian Chromium; where there is none, it says so and
# fails with CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/pages}
mkdir -p "$out"

if command -v npm >/dev/null; then
    [ -d "$out/node_modules/typescript" ] || npm install --silent --no-fund --no-audit --prefix "$out" typescript@5
    node "$out/node_modules/typescript/bin/tsc" -p crates/relc-html/web/tsconfig.json
    echo "types of the scripts: checked"
else
    echo "skipped: the types of the scripts, for want of npm"
fi

chromium=${CHROMIUM:-/usr/bin/chromium}
if [ ! -x "$chromium" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 || true
fi
if [ ! -x "$chromium" ]; then
    echo "there is no Chromium at $chromium, which opens the pages; CHROMIUM says where it is" >&2
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi
[ -x "$out/venv/bin/python" ] || python3 -m venv "$out/venv"
"$out/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy onnx playwright axe-playwright-python

cargo build --release --quiet --bin relc
relc=${CARGO_TARGET_DIR:-target}/release/relc
shared=${RELC_SHARED:-../shared}
# A ResNet-50 of random weights has as many nodes and pixels as any; without PyTorch a ResNet-18 has to do.
large=$shared/models/imagenet_resnet18.onnx
if [ -f "$shared/tools/make_models.py" ] && /usr/bin/python3 -c 'import torchvision' 2>/dev/null; then
    large=$out/resnet50.onnx
    [ -f "$large" ] || /usr/bin/python3 "$shared/tools/make_models.py" "$out" resnet50 >/dev/null 2>&1
fi
pages=()
if [ -f "$large" ]; then
    "$relc" explain "$large" examples/demo/images/00_disc.png --target top3 --report "$out/large.html" >/dev/null 2>&1
    "$relc" dump "$large" --format html >"$out/large-compiler.html"
    pages=("$out/large.html" "$out/large-compiler.html")
fi
CHROMIUM=$chromium "$out/venv/bin/python" tools/pages_test.py "$relc" "$out" "${pages[@]}"
