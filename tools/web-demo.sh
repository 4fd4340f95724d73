#!/usr/bin/env bash
# Builds relc as a page that needs no server's help (examples/web), and tests it in headless Chromium: every picture of the
# demo gets the label and the map that the command gives it.
#
#   tools/web-demo.sh [OUT_DIR]        # target/web unless told otherwise; then: python3 -m http.server -d OUT_DIR/page
#
# As root on Debian 12, whose packages have a compiler with the standard library's source (no target is downloaded), a linker
# for WebAssembly and Chromium. Takes about five minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/web}
page=$out/page
mkdir -p "$page/images"
step() { printf '\n== %s\n' "$*"; }

step "packages"
apt-get update -qq
apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src lld-19 chromium python3-venv >/dev/null
[ -x "$out/venv/bin/python" ] || python3 -m venv "$out/venv"
"$out/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy playwright

step "the module"
env RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$out/build" CARGO_INCREMENTAL=0 \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19 \
    /usr/bin/cargo build --release --locked --manifest-path examples/web/Cargo.toml --target wasm32-unknown-unknown \
    -Zbuild-std=std,panic_abort
cp "$out/build/wasm32-unknown-unknown/release/relc_web.wasm" examples/web/page/* examples/demo/model.onnx "$page"
cp examples/demo/images/*.png "$page/images"
"$out/venv/bin/python" - examples/demo "$page" <<'EOF'
import json, pathlib, sys, tomllib

demo, page = map(pathlib.Path, sys.argv[1:])
preprocess = tomllib.loads((demo / "preprocess.toml").read_text())
description = {
    "model": "model.onnx",
    "labels": (demo / "labels.txt").read_text().split(),
    "preprocess": {key: preprocess[key] for key in ["scale", "mean", "std"]},
    "pictures": sorted(f"images/{picture.name}" for picture in (demo / "images").iterdir()),
}
(page / "demo.json").write_text(json.dumps(description))
EOF
du -h "$page/relc_web.wasm"

step "the command's maps"
cargo build --release --quiet --bin relc
for picture in examples/demo/images/*.png; do
    target/release/relc explain examples/demo/model.onnx "$picture" --preprocess examples/demo/preprocess.toml \
        --preset conserve --seed logit --engine interp-f32 --map-npy "$out/$(basename "$picture" .png).npy" >/dev/null
done

step "the page in Chromium"
"$out/venv/bin/python" tools/web_demo_test.py "$page" "$out"
