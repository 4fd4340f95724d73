#!/usr/bin/env bash
# Builds the wheel, installs it into a virtual environment and runs its tests.
#
#   crates/relc-python/ci.sh [VENV]       # target/python/venv unless told otherwise; made if there is none
#
# Needs Python 3.9 or newer with venv and pip. What cargo has compiled with --release serves here as well. Suites that
# need torch, captum or Quantus are skipped where the environment has none: make one that does beforehand.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-$PWD/target}
venv=${1:-$target/python/venv}
export CARGO_TARGET_DIR=$target
python=$venv/bin/python
[ -x "$python" ] || python3 -m venv "$venv"
pip() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

"$python" -c 'import maturin, pytest, nbclient, ipykernel, matplotlib, PIL, onnxruntime' 2>/dev/null ||
    pip 'maturin>=1.9,<2' pytest numpy nbclient ipykernel matplotlib pillow onnxruntime
cargo build --release --bin relc
rm -rf "$target/python/wheels"
"$venv/bin/maturin" build --release --quiet --interpreter "$python" --manifest-path crates/relc-python/Cargo.toml \
    --out "$target/python/wheels"
pip --force-reinstall --no-deps "$target"/python/wheels/relc-*.whl
"$python" -m pytest -q crates/relc-python/tests
