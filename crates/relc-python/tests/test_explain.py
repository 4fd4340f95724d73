"""What an explainer computes, against the command, ONNX Runtime and itself."""

import subprocess

import numpy as np
import pytest
import relc
from conftest import DEMO, PICTURES


def check_command(command, tmp_path, explainer, target, *options):
    """Relevance and maps are the command's, to the bit."""
    files = {name: tmp_path / f"{name}.npy" for name in ("relevance", "map")}
    subprocess.run(
        [command, "explain", DEMO / "model.onnx", *PICTURES, "--preprocess", DEMO / "preprocess.toml", *options]
        + ["--relevance-npy", files["relevance"], "--map-npy", files["map"]],
        check=True,
        capture_output=True,
    )
    explanations = explainer(PICTURES, target)
    if not isinstance(explanations, list):
        explanations = [explanations]
    for name, file in files.items():
        ours, theirs = np.stack([getattr(e, name) for e in explanations]), np.load(file)
        np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs, strict=True)


def test_the_command_gives_the_same(command, tmp_path, explainer):
    check_command(command, tmp_path, explainer, None)


def test_the_command_gives_the_same_for_several_targets(command, tmp_path, explainer):
    check_command(command, tmp_path, explainer, "top3", "--target", "top3")


def test_the_command_gives_the_same_by_other_options(command, tmp_path, model):
    paper = relc.compile(model, "paper", split="half", batchnorm="keep", preprocess=DEMO / "preprocess.toml")
    check_command(
        command, tmp_path, paper, None, "--preset", "paper", "--split", "half", "--batchnorm", "keep"
    )
    box = relc.compile(model, "epsilon_gamma_box", preprocess=DEMO / "preprocess.toml")
    check_command(command, tmp_path, box, None, "--preset", "epsilon_gamma_box")


def test_onnx_runtime_gives_the_same_logits(explainer, model, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {explainer.input_name: x})
    np.testing.assert_allclose(explainer.predict(x), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(explainer(x).logits, explainer.predict(x))


def test_an_exported_explainer_gives_the_same_in_onnx_runtime(explainer, x):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(explainer.to_onnx("input", seed="onehot"))
    targets = np.arange(len(x)) % explainer.outputs
    relevance, maps = session.run(["relevance", "map"], {"input": x, "target": targets})
    explanation = explainer(x, targets, seed="onehot")
    np.testing.assert_allclose(relevance, explanation.relevance, atol=1e-4 * np.abs(relevance).max())
    np.testing.assert_allclose(maps, explanation.map, atol=1e-4 * np.abs(maps).max())
    with pytest.raises(relc.RelcError, match="0 to 7"):
        explainer.to_onnx(8)
    with pytest.raises(relc.RelcError, match="expected the target"):
        explainer.to_onnx("top3")


def test_bytes_are_the_file_to_the_bit(explainer, model, x):
    expected = explainer(x).relevance
    content = model.read_bytes()
    for given in (content, bytearray(content), memoryview(content)):
        np.testing.assert_array_equal(relc.compile(given)(x).relevance, expected)


def test_an_artifact_is_the_model_to_the_bit(model, x, tmp_path):
    saved = relc.compile(model, "paper", split="half", save=tmp_path / "model.relc")
    expected = saved(x)
    for artifact in [tmp_path / "model.relc", (tmp_path / "model.relc").read_bytes()]:
        loaded = relc.compile(artifact)
        assert loaded.preset == saved.preset == "paper (modified)"
        np.testing.assert_array_equal(loaded(x).relevance, expected.relevance)
    (tmp_path / "model.relc").write_bytes((tmp_path / "model.relc").read_bytes()[:-1])
    with pytest.raises(relc.RelcError, match="a damaged artifact"):
        relc.compile(tmp_path / "model.relc")


def test_batches_change_nothing(explainer, x):
    together = explainer(x)
    for sample in range(len(x)):
        alone = explainer(x[sample])
        assert alone.relevance.shape == (1, 3, 64, 64)
        np.testing.assert_array_equal(alone.relevance[0], together.relevance[sample])


def test_relevance_is_conserved(explainer, x):
    explanation = explainer(x)
    assert explainer.is_conserving
    assert explanation.conservation_error.shape == (8,)
    assert (explanation.conservation_error < 1e-5).all()
    sums = explanation.relevance.sum(axis=(1, 2, 3), dtype=np.float64)
    targets = explanation.logits[np.arange(8), explanation.targets]
    np.testing.assert_allclose(sums, targets, rtol=1e-4)


def test_targets(explainer, x):
    logits = explainer.predict(x)
    np.testing.assert_array_equal(explainer(x).targets, logits.argmax(axis=1))
    np.testing.assert_array_equal(explainer(x, 3).targets, [3] * 8)
    np.testing.assert_array_equal(explainer(x, np.int64(3)).relevance, explainer(x, 3).relevance)
    each = explainer(x, [0, 1, 2, 3, 4, 5, 6, 7])
    np.testing.assert_array_equal(each.targets, range(8))
    np.testing.assert_array_equal(each.relevance[3], explainer(x, 3).relevance[3])
    np.testing.assert_array_equal(each.relevance, explainer(x, np.arange(8)).relevance)
    top = explainer(x, "top3")
    assert [type(e) for e in top] == [relc.Explanation] * 3
    np.testing.assert_array_equal(top[1].targets, np.argsort(-logits, axis=1)[:, 1])
    assert [e.targets[0] for e in explainer(x, "3,5")] == [3, 5]
    assert isinstance(explainer(x, "argmax"), relc.Explanation)


def test_seeds(explainer, x):
    ones = explainer(x, 2, seed="onehot")
    tensor = np.zeros((8, 8), np.float32)
    tensor[:, 2] = 1
    np.testing.assert_array_equal(explainer(x, seed=tensor).relevance, ones.relevance)
    np.testing.assert_array_equal(explainer(x, seed=tensor[0].tolist()).relevance, ones.relevance)
    assert (ones.seed, explainer.seed, explainer(x, 2, seed="contrast").seed) == ("onehot", "logit", "contrast")


def test_ledger_and_joins(explainer, x):
    explanation = explainer(x[:2])
    assert len(explanation.ledger) == 2
    for sample, ledger in enumerate(explanation.ledger):
        total = ledger["total"]
        assert abs(total["seed"] - explanation.logits[sample].max()) < 1e-5
        for node in ledger["nodes"]:
            lost = node["bias"] + node["stabiliser"] + node["clipped"] + node["padding"]
            assert abs(node["in"] - node["out"] - lost) <= 1e-4 * node["magnitude_in"]
    assert len(explanation.joins) == 6
    for join in explanation.joins:
        assert join.name and join.fork and len(join.skip_share) == 2
        assert all(0 < share < 1 for share in join.skip_share)
    assert explanation.warnings == [[], []]


def test_what_an_explainer_says_of_itself(explainer):
    assert explainer.input_shape == (None, 3, 64, 64)
    assert (explainer.preset, explainer.engine, explainer.outputs) == ("two_level", "jit", 8)
    assert len(explainer.report()["joins"]) == 6


def test_the_interpreter_agrees(explainer, model, x):
    exact = relc.compile(model, engine="interp-f64")(x[:1])
    np.testing.assert_allclose(explainer(x[:1]).relevance, exact.relevance, atol=1e-4 * exact.relevance.max())


def test_without_a_gpu_auto_is_the_processor(model):
    with pytest.warns(RuntimeWarning, match="the processor is used, in fp32: .*CUDA"):
        explainer = relc.compile(model, device="auto", precision="tf32")
    assert explainer.engine == "jit"


def test_presets_by_name_and_from_a_file(model, x, tmp_path):
    assert relc.compile(model).preset == "two_level" and "paper" in relc.presets()
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ndescription = "mine"\nextends = "paper"\n')
    paper = relc.compile(model, "paper")
    np.testing.assert_array_equal(relc.compile(model, file)(x[:1]).relevance, paper(x[:1]).relevance)


def test_composites(model, x):
    for name, composite in relc.composites.items():
        explainer = relc.compile(model, composite, preprocess=DEMO / "preprocess.toml")
        assert explainer.preset == f"{name} (modified)"
        assert np.isfinite(explainer(x[:1]).relevance).all()
    with pytest.raises(KeyError, match="beta_smooth.*epsilon_plus_flat"):
        relc.composites["beta_smooth"]
