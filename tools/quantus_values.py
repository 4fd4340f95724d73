# /// script
# requires-python = ">=3.10,<3.13"
# dependencies = ["quantus==0.6.0", "numpy<2", "setuptools"]
# ///
"""Values of metrics by Quantus, with which relc-eval's tests compare its own.

Writes crates/relc-eval/tests/data/quantus.json. Inputs are formulas that the test repeats; the model is a softmax over
linear outputs, so that nothing but Quantus is needed. Metrics of random perturbations (sensitivity-n, infidelity,
max-sensitivity) are not among them: Quantus draws them in its own way, and scales infidelity differently.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import quantus
from quantus.functions import similarity_func
from quantus.functions.perturb_func import noisy_linear_imputation
from quantus.metrics.complexity.complexity import Complexity
from quantus.metrics.complexity.sparseness import Sparseness
from quantus.metrics.faithfulness.pixel_flipping import PixelFlipping
from quantus.metrics.faithfulness.region_perturbation import RegionPerturbation
from quantus.metrics.localisation.pointing_game import PointingGame
from quantus.metrics.localisation.relevance_mass_accuracy import RelevanceMassAccuracy
from quantus.metrics.localisation.relevance_rank_accuracy import RelevanceRankAccuracy

SIDE = 8
PIXELS = SIDE * SIDE
QUIET = dict(disable_warnings=True, display_progressbar=False)


class Linear:
    """softmax(W x): what Quantus asks of a model."""

    def __init__(self):
        p, k = np.arange(PIXELS), np.arange(3)[:, None]
        self.weights = (((p * 29 + k * 17) % 64) - 31.5) / 64

    def shape_input(self, x, shape, channel_first=None, batched=False):
        return x.reshape(shape)

    def predict(self, x, **_):
        z = x.reshape(len(x), -1) @ self.weights.T
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=here / "crates/relc-eval/tests/data/quantus.json")
    out = parser.parse_args().out
    p = np.arange(PIXELS)
    picture = (((p * 23) % 64) / 64).reshape(1, 1, SIDE, SIDE)
    maps = [((p * 37 + 5) % 64 + 1) / 64, ((p * 11 + 2) % 64 + 1.0) ** 3 / 64**3]
    mask = ((p // SIDE >= 2) & (p // SIDE < 6) & (p % SIDE >= 3)).reshape(1, 1, SIDE, SIDE)
    model, label = Linear(), np.array([1])
    batch = lambda a: a.astype(np.float64).reshape(1, 1, SIDE, SIDE).copy()
    scalar = lambda values: float(np.asarray(values).ravel()[0])
    results = {"quantus": quantus.__version__, "maps": []}
    for a in maps:
        found = {
            "sparseness": scalar(Sparseness(**QUIET).evaluate_batch(picture, batch(a))),
            "complexity": scalar(Complexity(**QUIET).evaluate_batch(picture, batch(a))),
            "pointing_game": scalar(PointingGame(**QUIET).evaluate_batch(a_batch=batch(a), s_batch=mask)),
            "relevance_mass": scalar(RelevanceMassAccuracy(**QUIET).evaluate_batch(a_batch=batch(a), s_batch=mask)),
            "relevance_rank": scalar(RelevanceRankAccuracy(**QUIET).evaluate_batch(a_batch=batch(a), s_batch=mask)),
        }
        options = dict(perturb_baseline="black", **QUIET)
        regions = RegionPerturbation(patch_size=2, regions_evaluation=10, order="morf", **options)
        drops = regions.evaluate_batch(model=model, x_batch=picture, y_batch=label, a_batch=batch(a))
        found["region_perturbation"] = np.asarray(drops).ravel().tolist()
        flipping = PixelFlipping(features_in_step=3, **options)
        scores = flipping.evaluate_batch(model=model, x_batch=picture, y_batch=label, a_batch=batch(a))
        found["pixel_flipping"] = np.asarray(scores).ravel().tolist()
        gone = np.argsort(-a)[:40]
        imputed = noisy_linear_imputation(arr=picture[0].copy(), indices=gone, noise=0.0)
        found["imputed"] = np.asarray(imputed).ravel().tolist()
        results["maps"].append(found)
    results["spearman"] = scalar(similarity_func.correlation_spearman(maps[0], maps[1]))
    results["pearson"] = scalar(similarity_func.correlation_pearson(maps[0], maps[1]))
    results["cosine"] = 1 - scalar(similarity_func.cosine(maps[0], maps[1]))
    out.write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
