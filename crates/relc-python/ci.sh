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

"$python" -c 'import pytest, nbclient, ipykernel, matplotlib, PIL, onnxruntime, ray' 2>/dev/null ||
    pip pytest numpy nbclient ipykernel matplotlib pillow onnxruntime 'ray[data]'
cargo build --release --bin relc
rm -rf "$target/python/wheels"
# As `pip install ./crates/relc-python` does it, but for how far it is optimised, if that is to take less time.
CARGO_PROFILE_RELEASE_OPT_LEVEL=${RELC_WHEEL_OPT_LEVEL:-3} \
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$target/python/wheels" ./crates/relc-python
pip --force-reinstall --no-deps "$target"/python/wheels/relc-*.whl
"$python" -m pytest -q crates/relc-python/tests
