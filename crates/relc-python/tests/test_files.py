"""Signals, tables, volumes and videos are read from the files that the command reads."""

import gzip
import json
import subprocess

import numpy as np
import pytest
import relc
from conftest import ROOT
from PIL import Image, ImageSequence
from relc._inputs import _together

SIGNAL = ROOT / "examples/signal"
VOLUME = ROOT / "examples/volume"


@pytest.fixture(scope="module")
def of_signals():
    return relc.compile(SIGNAL / "model.onnx")


@pytest.fixture(scope="module")
def of_volumes():
    return relc.compile(VOLUME / "model.onnx")


def columns(name):
    """f32[3,360] of a CSV of the examples."""
    return np.loadtxt(SIGNAL / name, np.float32, delimiter=",", skiprows=1).T


def test_columns_are_the_channels_of_a_signal(of_signals):
    x = columns("wide.csv")
    of_array, of_file = of_signals(x), of_signals(SIGNAL / "wide.csv")
    assert of_file.targets.tolist() == [1]
    assert of_file.map.shape == (1, 360)
    assert np.array_equal(of_file.relevance, of_array.relevance)
    both = of_signals([SIGNAL / "wide.csv", str(SIGNAL / "pause.csv")])
    assert both.targets.tolist() == [1, 2]
    assert np.array_equal(both.relevance[0], of_file.relevance[0])


def test_arrays_in_files_have_a_batch_or_none(of_signals, tmp_path):
    batch = np.stack([columns("wide.csv"), columns("regular.csv")])
    np.save(tmp_path / "batch.npy", batch)
    np.save(tmp_path / "one.npy", batch[0])
    expected = of_signals(batch).relevance
    assert np.array_equal(of_signals(tmp_path / "batch.npy").relevance, expected)
    assert np.array_equal(of_signals(tmp_path / "one.npy").relevance, expected[:1])


def test_values_are_normalised_if_the_preprocessing_says_so(of_signals, tmp_path):
    x = columns("wide.csv")
    np.save(tmp_path / "raw.npy", x * 4 + np.float32([[0], [1], [2]]))
    own = relc.Preprocess(arrays=True, mean=[0.0, 1.0, 2.0], std=[4.0])
    expected = of_signals(x).map
    got = of_signals(tmp_path / "raw.npy", preprocess=own).map
    assert np.allclose(got, expected, atol=1e-3 * np.abs(expected).max())
    with pytest.raises(relc.RelcError, match="2 values of mean and std.*expected 1 or 3"):
        of_signals(tmp_path / "raw.npy", preprocess=relc.Preprocess(arrays=True, mean=[0.0, 1.0]))


def test_volumes_come_from_nifti(of_volumes):
    data = gzip.decompress((VOLUME / "ball.nii.gz").read_bytes())
    x = np.frombuffer(data, "<f4", 16 * 24 * 28, 352).reshape((16, 24, 28), order="F")
    of_file = of_volumes(VOLUME / "ball.nii.gz")
    assert of_file.map.shape == (1, 16, 24, 28)
    assert np.array_equal(of_file.relevance, of_volumes(x[None]).relevance)


def test_videos_are_animations_or_folders_of_frames(of_volumes, tmp_path):
    frames = VOLUME / "frames.toml"
    of_gif = of_volumes(VOLUME / "ball.gif", preprocess=frames)
    assert of_gif.targets.tolist() == [1]
    with Image.open(VOLUME / "ball.gif") as gif:
        for i, frame in enumerate(ImageSequence.Iterator(gif)):
            frame.convert("L").save(tmp_path / f"{i}.png")
    of_folder = of_volumes(tmp_path, preprocess=str(frames))
    assert np.array_equal(of_folder.relevance, of_gif.relevance)
    with pytest.raises(relc.RelcError, match="no preprocessing"):
        of_volumes(VOLUME / "ball.gif")
    for i in range(10, 31):
        (tmp_path / f"{i}.png").unlink()
    with pytest.raises(relc.RelcError, match="10 frame.*at least 16"):
        of_volumes(tmp_path, preprocess=frames)


def test_files_that_do_not_fit_are_sentences(of_signals, of_volumes, explainer):
    for model, path, says in [
        (of_signals, VOLUME / "ball.nii.gz", "is no volume"),
        (of_volumes, SIGNAL / "wide.csv", "is no signal and no table"),
        (explainer, SIGNAL / "wide.csv", "is no signal and no table"),
        (of_signals, SIGNAL / "none.csv", "none.csv"),
        (of_signals, SIGNAL, "a folder"),
    ]:
        with pytest.raises(relc.RelcError, match=says):
            model(path, preprocess="none")


def test_samples_of_several_sizes_are_no_batch():
    small, large = np.zeros((1, 3, 8, 8), np.float32), np.ones((2, 3, 8, 9), np.float32)
    assert _together([small, small]).shape == (2, 3, 8, 8)
    with pytest.raises(relc.RelcError, match=r"\(3, 8, 8\), \(3, 8, 9\).*one size"):
        _together([small, large])


def test_the_command_computes_the_same(command, of_volumes, tmp_path):
    for name, options in [("ball.nii.gz", []), ("ball.gif", ["--preprocess", VOLUME / "frames.toml"])]:
        args = [command, "explain", VOLUME / "model.onnx", VOLUME / name, "--out", tmp_path, "--json", "-", *options]
        report = json.loads(subprocess.run(args, check=True, capture_output=True, text=True).stdout)
        preprocess = options[1] if options else None
        expected = np.load(f"{report['results'][0]['folder']}/map.npy")
        assert np.array_equal(of_volumes(VOLUME / name, preprocess=preprocess).map[0], expected)
