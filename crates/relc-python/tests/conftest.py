"""What the suites share: the demo model and its pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
import relc

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "examples/demo"
PICTURES = sorted((DEMO / "images").glob("*.png"))


@pytest.fixture(scope="session")
def model():
    """The demo network's file."""
    return DEMO / "model.onnx"


@pytest.fixture(scope="session")
def explainer(model):
    return relc.compile(model, preprocess=DEMO / "preprocess.toml")


@pytest.fixture(scope="session")
def x():
    """Values as a prepared picture has them: float32 [8, 3, 64, 64]."""
    return np.random.default_rng(0).normal(size=(8, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="session")
def command():
    """The command `relc`, which computes the same."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = target / "release" / "relc"
    if not path.exists():
        pytest.skip("the command is not built: cargo build --release --bin relc")
    return path
