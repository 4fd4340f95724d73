"""PyTorch, captum and Quantus: skipped where they are not installed."""

import numpy as np
import pytest
import relc

torch = pytest.importorskip("torch")
nn = torch.nn


class Block(nn.Module):
    """A basic block with a projection."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
        )
        self.skip = nn.Conv2d(6, 8, 1, stride=2)

    def forward(self, x):
        return torch.relu(self.main(x) + self.skip(x))


def resnet():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    model = nn.Sequential(*layers)
    model(torch.randn(16, 3, 16, 16))  # statistics
    return model.eval()


class Flat(nn.Module):
    """Features and a classifier; captum's LRP knows no Flatten."""

    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def plain():
    """A network without a skip, as captum's LRP needs it."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()]
    return Flat(nn.Sequential(*layers), nn.Linear(8 * 6 * 6, 5)).eval()


def batch():
    torch.manual_seed(2)
    return torch.randn(4, 3, 16, 16)


def check_close(ours, theirs, tolerance=1e-4):
    """Equal up to a fraction of the largest."""
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_from_torch():
    model, x = resnet(), batch()
    model[2].train()
    explainer = relc.from_torch(model, x[:1])
    assert [module.training for module in (model, model[2], model[2].main)] == [False, True, True]
    model.eval()
    check_close(explainer.predict(x), model(x))
    explanation = explainer(x.requires_grad_(), torch.tensor([0, 1, 2, 3]))
    assert len(explanation.joins) == 1 and explainer.input_shape == (None, 3, 16, 16)
    np.testing.assert_array_equal(explanation.relevance, explainer(x.detach().numpy(), [0, 1, 2, 3]).relevance)
    with pytest.raises(relc.RelcError, match="expected a torch.nn.Module"):
        relc.from_torch("model", x)


def test_batch_normalization_is_exported():
    kept = relc.from_torch(resnet(), batch()[:1], "conserve", batchnorm="keep")
    assert kept.report()["batchnorm"] == "keep"
    folded = relc.from_torch(resnet(), batch()[:1], "conserve", batchnorm="fold")
    x = batch()
    assert np.abs(kept(x).relevance - folded(x).relevance).max() > 0, "there was nothing to fold"


def test_gradients_are_torchs():
    model, x = resnet(), batch().requires_grad_()
    explainer = relc.from_torch(model, x[:1].detach(), "gradient")
    model(x)[:, 2].sum().backward()
    check_close(explainer(x, 2, seed="onehot").relevance, x.grad)


def test_saliency_is_captums():
    captum = pytest.importorskip("captum.attr")
    model, x = resnet(), batch()
    theirs = captum.Saliency(model).attribute(x.requires_grad_(), target=1, abs=False)
    check_close(relc.from_torch(model, x[:1].detach(), "gradient")(x, 1, seed="onehot").relevance, theirs)


def test_lrp_is_captums():
    captum = pytest.importorskip("captum.attr")
    model, x, target = plain(), batch(), torch.tensor([0, 1, 2, 4])
    theirs, their_delta = captum.LRP(model).attribute(x, target=target, return_convergence_delta=True)
    ours, our_delta = relc.LRP(model, "epsilon").attribute(x, target=target, return_convergence_delta=True)
    assert isinstance(ours, torch.Tensor) and ours.dtype == x.dtype
    check_close(ours, theirs, 1e-3)
    # The delta is what biases took, by captum's definition.
    check_close(our_delta, their_delta, 1e-3)


def test_lrp_keeps_the_form_of_its_inputs():
    explainer, x = relc.from_torch(resnet(), batch()[:1]), batch()
    lrp = relc.LRP(explainer)
    one = lrp.attribute(x.double(), 1)
    assert one.dtype == torch.float64 and one.shape == x.shape
    (in_tuple,) = lrp.attribute((x,), 1)
    assert torch.equal(in_tuple, lrp.attribute(x, 1))
    as_array, delta = lrp.attribute(x.numpy(), [1] * 4, return_convergence_delta=True)
    np.testing.assert_array_equal(as_array, in_tuple.numpy())
    assert isinstance(delta, np.ndarray) and np.abs(delta).max() < 1e-4
    for wrong in (lambda: lrp.attribute((x, x)), lambda: lrp.attribute(x, "top2"), lambda: lrp.attribute(x, 1, 3)):
        with pytest.raises(relc.RelcError):
            wrong()


def test_explain_func_explains_the_model_it_is_given():
    model, x, y = resnet(), batch().numpy(), np.array([0, 1, 2, 3])
    explainer = relc.from_torch(model, batch()[:1])
    expected = explainer(x, y).relevance
    for given, options in ((None, {"explainer": explainer}), (explainer, {}), (model, {})):
        np.testing.assert_array_equal(relc.explain_func(given, x, y, **options), expected)
    with torch.no_grad():
        model[-1].weight.mul_(-1)
    assert np.abs(relc.explain_func(model, x, y) - expected).max() > 0


def test_quantus_measures_relc():
    quantus = pytest.importorskip("quantus")
    model, x, y = resnet(), batch().numpy(), np.array([0, 1, 2, 3])
    options = {"explainer": relc.from_torch(model, batch()[:1])}
    quiet = {"disable_warnings": True, "display_progressbar": False}
    common = dict(model=model, x_batch=x, y_batch=y, a_batch=None, channel_first=True, device="cpu")
    sparse = quantus.Sparseness(**quiet)(**common, explain_func=relc.explain_func, explain_func_kwargs=options)
    assert len(sparse) == 4 and all(0 < value < 1 for value in sparse)
    given = {**common, "a_batch": relc.explain_func(None, x, y, **options)}
    assert sparse == quantus.Sparseness(**quiet)(**given)
    stable = quantus.MaxSensitivity(nr_samples=2, **quiet)(
        **common, explain_func=relc.explain_func, explain_func_kwargs=options
    )
    assert len(stable) == 4 and np.isfinite(stable).all()
