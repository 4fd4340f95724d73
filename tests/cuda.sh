#!/usr/bin/env bash
# Every test of the CUDA back end, on a GPU or on a simulated one, and on a machine with a GPU the ratios that docs/cuda.md wants.
# Needs rustup, a C++ compiler, and Python 3 with venv and pip for NVRTC, unless LD_LIBRARY_PATH has it.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/cuda/venv
if ! "$venv/bin/python" -c 'import nvidia.cuda_nvrtc' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check nvidia-cuda-nvrtc-cu12
fi
nvrtc=$("$venv/bin/python" -c 'import nvidia.cuda_nvrtc as it; print(list(it.__path__)[0])')/lib
export LD_LIBRARY_PATH=$nvrtc${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

CI=true RELC_CUDA_THOROUGH=1 cargo test --release -p relc-tests --test cuda
cargo run --release -p relc-tests --example cuda_cost examples/demo/model.onnx
relc=(cargo run --release --quiet --features relc-cli/cuda --bin relc --)
"${relc[@]}" explain examples/demo/model.onnx examples/demo/images/00_disc.png --device auto \
    --preprocess examples/demo/preprocess.toml --labels examples/demo/labels.txt --out target/cuda/out
for model in examples/demo/model.onnx "$@"; do
    for batch in 1 64; do
        "${relc[@]}" bench "$model" --device auto --batch "$batch" --preset conserve
    done
done
# In turns with PyTorch and zennit, where they are installed and find a GPU.
if python3 -c 'import torch, torchvision, zennit, onnx; assert torch.cuda.is_available()' 2>/dev/null; then
    for precision in fp32 tf32 tf32x3; do
        for batch in 1 64; do
            python3 tools/time_gpu.py resnet50 --batch "$batch" --precision "$precision" -- "${relc[@]}" bench
        done
    done
fi
