"""Time relc's explanation on a GPU against PyTorch's forward pass (eager, and as a CUDA graph) and zennit's, alternately.

    pip install torch torchvision zennit onnx
    python tools/time_gpu.py resnet50 --batch 64 --precision tf32 -- target/release/relc bench
    python tools/time_gpu.py resnet18 --device cpu -- target/release/relc bench      # the same where there is no GPU

The command after -- gets the model's file, `--device`, `--precision`, `--batch`, `--preset` and `--json`. Prints one JSON object:
the least and the median of each in milliseconds for the whole batch, and relc's explanation over the others. Run nothing
else meanwhile.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List

import torch
import torchvision
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer

from time_zennit import timed


def finished(run: Callable[[], object]) -> Callable[[], None]:
    """The same, and what it left on the GPU done."""

    def both() -> None:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return both


def as_graph(model: torch.nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """The forward pass as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        for _ in range(3):
            model(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        model(x)
    return graph.replay


def main() -> None:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["resnet18", "resnet50"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "tf32x3"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--preset", default="conserve")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args(sys.argv[1:split])
    command = sys.argv[split + 1:]
    if not command:
        parser.error("expected -- and the command of relc's bench")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device; take --device cpu to try this script")
    # PyTorch has no three products of TF32: fp32 is its peer.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    torch.manual_seed(0)
    model = torchvision.models.get_model(args.model, weights=None).eval()
    example = torch.randn(1, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{args.model}.onnx"
        names = dict(input_names=["input"], output_names=["logits"])
        torch.onnx.export(model, example, str(file), opset_version=17, dynamic_axes={"input": {0: "N"}}, **names)
        model = model.to(args.device)
        x = torch.randn(args.batch, 3, 224, 224, device=args.device)
        seed = torch.eye(1000, device=args.device)[[0] * args.batch]
        options = ["--device", args.device, "--batch", str(args.batch), "--runs", str(args.runs), "--preset", args.preset]
        if args.device == "cuda":
            options += ["--precision", args.precision]
        replay = as_graph(model, x) if args.device == "cuda" else None
        times: Dict[str, List[float]] = {}

        def add(name: str, measured: List[float]) -> None:
            times.setdefault(name, []).extend(measured)

        for _ in range(args.rounds):
            with torch.no_grad():
                add("torch_forward_ms", timed(finished(lambda: model(x)), args.runs))
            if replay is not None:
                add("graph_forward_ms", timed(finished(replay), args.runs))
            with Gradient(model, EpsilonPlusFlat(canonizers=[ResNetCanonizer()])) as attributor:
                add("zennit_ms", timed(finished(lambda: attributor(x.clone(), seed)), args.runs))
            run = subprocess.run([*command, str(file), *options, "--json"], check=True, capture_output=True, text=True)
            report = json.loads(run.stdout)
            add("explain_ms", report["explain_ms"])
            add("forward_ms", report["forward_ms"])
    result: Dict[str, object] = {name: {"min": min(v), "median": statistics.median(v)} for name, v in times.items()}
    for name in times:
        if name not in ("explain_ms", "forward_ms"):
            result[f"explain_over_{name[:-3]}"] = min(times["explain_ms"]) / min(times[name])
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    print(json.dumps({"device": device, "precision": args.precision, "batch": args.batch, **result}))


if __name__ == "__main__":
    main()
