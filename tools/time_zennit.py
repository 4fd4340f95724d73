"""Time zennit's explanation of torchvision's ResNets, to compare with `relc bench`; see docs/benchmarks.md.

    pip install torch torchvision zennit
    python tools/time_zennit.py resnet50 --batch 1 --threads 2

Prints the least time of a forward pass and of an explanation (EpsilonPlus and its canonizer) in milliseconds. Run nothing
else meanwhile.
"""
import argparse
import time

import torch
import torchvision
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus
from zennit.torchvision import ResNetCanonizer


def timed(run, runs: int) -> list:
    """The times of some runs, after two that warm up, in milliseconds."""
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["resnet18", "resnet50"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = torchvision.models.get_model(args.model, weights=None).eval()
    x = torch.randn(args.batch, 3, 224, 224)
    with torch.no_grad():
        forward = min(timed(lambda: model(x), args.runs))
    with Gradient(model, EpsilonPlus(canonizers=[ResNetCanonizer()])) as attributor:
        seed = torch.eye(1000)[[0] * args.batch]
        explain = min(timed(lambda: attributor(x.clone(), seed), args.runs))
    print(f"{args.model}, batch {args.batch}: forward {forward:.1f} ms, explanation {explain:.1f} ms")


if __name__ == "__main__":
    main()
