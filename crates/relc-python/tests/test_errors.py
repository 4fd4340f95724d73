"""What does not fit is an error that says so."""

import numpy as np
import pytest
import relc
from conftest import DEMO


def check(expected, call, error=relc.RelcError):
    """The call fails, and what it says holds all of these."""
    with pytest.raises(error) as caught:
        call()
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in str(caught.value)


def test_the_class():
    assert issubclass(relc.RelcError, ValueError) and relc.RelcError.__module__ == "relc"


def test_models_that_are_none(tmp_path):
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    check(["can't import", "text.onnx", "because: "], lambda: relc.compile(text))
    check(["can't import", "no/such.onnx", "because: ", "No such file"], lambda: relc.compile("no/such.onnx"))
    check("can't import the model of 3 bytes", lambda: relc.compile(b"abc"))
    check("can't import the model of 0 bytes", lambda: relc.compile(b""))
    check("", lambda: relc.compile(tmp_path))
    check("", lambda: relc.compile(3), TypeError)


def test_half_a_model(model):
    content = model.read_bytes()
    for length in range(0, len(content), len(content) // 20):
        check("can't import", lambda: relc.compile(content[:length]))


def test_options_that_are_none(model):
    check(["two_levle", "did you mean \"two_level\"?"], lambda: relc.compile(model, "two_levle"))
    check("no/such.toml", lambda: relc.compile(model, "no/such.toml"))
    check("split", lambda: relc.compile(model, split="thirds"))
    check(["batchnorm", "fold-as-zennit"], lambda: relc.compile(model, batchnorm="drop"))
    check(["bias", "exclude"], lambda: relc.compile(model, bias="none"))
    check("jit, interp-f32, interp-f64", lambda: relc.compile(model, engine="gpu"))
    check("cpu, cuda, cuda:N or auto", lambda: relc.compile(model, device="gpu"))
    check("cuda", lambda: relc.compile(model, device="cuda:4711"))
    check(["fp32", "tf32x3"], lambda: relc.compile(model, precision="half"))
    check("the processor computes in fp32", lambda: relc.compile(model, precision="tf32"))
    check("nothing", lambda: relc.compile(model, output="nothing"))
    check("expected sizes from 1", lambda: relc.compile(model, input_shape=(None, 3, 0, 64)))
    check("expected sizes from 1", lambda: relc.compile(model, input_shape="N,3,x"))
    check("", lambda: relc.compile(model, input_shape=(None, 3, 32, 32)))
    check("", lambda: relc.compile(model, hold={"nobody": 1.0}))
    check("there is no preprocessing", lambda: relc.compile(model, preprocess="imagnet"))
    check("got std", lambda: relc.Preprocess(std=[0.0, 1.0, 1.0]))
    check("unknown field", lambda: relc.Preprocess(means=1))


def test_inputs_that_do_not_fit(explainer, x):
    expected = 'expected f32[N,3,64,64] for the model\'s input "input"'
    check(["the input has the shape [8, 3, 64, 32]", expected], lambda: explainer(x[..., :32].copy()))
    check(["[8, 64, 64, 3]", expected], lambda: explainer(x.transpose(0, 2, 3, 1)))
    check(["[0, 3, 64, 64]", expected], lambda: explainer(x[:0]))
    check(expected, lambda: explainer(np.float32(1)))
    check(expected, lambda: explainer.predict(x[0, 0]))
    check("expected numbers", lambda: explainer(x.astype(complex)))
    check("expected numbers", lambda: explainer(np.array(["a", "b"])))
    check("expected numbers", lambda: explainer(None))
    check("", lambda: explainer(np.where(x == x.max(), np.nan, x)))
    check("", lambda: explainer(np.where(x == x.max(), np.inf, x)))
    check("no/such.png", lambda: explainer("no/such.png"))
    check("can't read the picture", lambda: explainer(DEMO / "labels.txt"))


def test_a_picture_without_preprocessing(model):
    check("no preprocessing", lambda: relc.compile(model)(DEMO / "images/00_disc.png"))


def test_targets_that_are_none(explainer, x):
    outside = "is out of range: the model has 8 outputs, 0 to 7"
    for target in (8, -1, 10**6, 10**30, -(10**30), [0] * 7 + [8], [-1] * 8):
        check(outside, lambda: explainer(x, target))
    check("got 3 targets for 8 samples", lambda: explainer(x, [1, 2, 3]))
    check("got 9 targets for 8 samples", lambda: explainer(x, [0] * 9))
    check("got 0 targets for 8 samples", lambda: explainer(x, []))
    check("expected a whole number for each sample", lambda: explainer(x, [0.5] * 8))
    check("expected a whole number for each sample", lambda: explainer(x, np.zeros((8, 2), int)))
    check('got the target "cat"', lambda: explainer(x, "cat"))
    check("top9 is out of range", lambda: explainer(x, "top9"))
    check("", lambda: explainer(x, 1.5), TypeError)


def test_seeds_that_are_none(explainer, x):
    check("onehot", lambda: explainer(x, seed="none"))
    check("the seed has the shape [3]", lambda: explainer(x, seed=[1.0, 2.0, 3.0]))
    check("the seed has the shape [7, 8]", lambda: explainer(x, seed=np.zeros((7, 8))))
    check("leave one out", lambda: explainer(x, 3, seed=np.zeros(8)))


def test_the_native_half_trusts_nobody(explainer, x):
    native = explainer._native
    check("", lambda: native.explain(x.astype(np.float64), "argmax", None), TypeError)
    check("", lambda: native.explain(x, None, None), TypeError)
    strided = native.explain(np.repeat(x, 2, axis=3)[..., ::2], "argmax", None)[0].relevance
    np.testing.assert_array_equal(strided, explainer(x).relevance)
    check("got sample 8, expected 0 to 7", lambda: native.explain(x, 0, None)[0].report(8))
