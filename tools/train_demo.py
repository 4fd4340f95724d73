#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.6", "numpy>=2.0", "pillow>=10", "onnx>=1.16", "onnxruntime>=1.18"]
# ///
"""Make the demo model of relc: generate pictures, train a small ResNet, export it to ONNX.

Every picture shows one large textured shape on a cluttered background; the class is the kind
of the shape and nothing else. Colours, textures, background and distractors are drawn without
looking at the class, so the pixels that decide it are those of the object, whose mask is known.
The masks are only written beside the sample pictures: the training sees pictures and labels.

Each picture depends on (seed, split, index) alone, so no held-out picture is trained on. Weights
repeat exactly on one machine; rounding makes them differ between CPUs and torch versions.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image, ImageDraw
from torch import nn

SIZE = 64  # height and width of a picture, pixels
OVERSAMPLING = 4  # outlines are drawn at this multiple of SIZE, then averaged
TEXTURES = ["plain", "stripes", "checks", "dots", "noise", "gradient"]
SPLITS = {"train": 0, "held-out": 1}
MIN_CONTRAST = 0.4  # smallest RGB distance (0..sqrt 3) between the object and what is behind it
PREPROCESS = f"""# what the network expects
size = [{SIZE}, {SIZE}]          # height, width
resize = "exact"         # exact | shorter-side-then-centre-crop
layout = "NCHW"          # NCHW | NHWC
channels = "RGB"         # RGB | BGR
scale = {{scale:.15g}}    # multiplied to 0..255 values, before mean and std
mean = {{mean}}
std = {{std}}
"""


def arc(radius, centre=(0.0, 0.0), points=48):
    """f64[points,2]: a circle as a polygon."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1) + np.asarray(centre)


def cross(width=0.3, length=0.95):
    """f64[12,2]: one arm's end and inner corner, turned four times by a quarter."""
    arm = np.array([[length, -width], [length, width], [width, width]])
    return np.concatenate([arm @ np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))])


def heart(points=48):
    """f64[points,2]: the usual trigonometric heart curve."""
    t = np.linspace(0, 2 * np.pi, points, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], 1) / 17


# Per class, in the order of the logits: the polygon to fill and, for some, one to remove again.
SHAPES = {
    "disc": (arc(0.9),),
    "square": (arc(1.0, points=4),),
    "triangle": (arc(1.0, points=3),),
    "star": (arc(1.0, points=10) * np.tile([1.0, 0.42], 5)[:, None],),
    "cross": (cross(),),
    "ring": (arc(1.0), arc(0.55)),
    "crescent": (arc(1.0), arc(0.85, (0.5, 0.0))),
    "heart": (heart(),),
}
CLASSES = list(SHAPES)


def averaged(canvas):
    """f64[SIZE,SIZE] in 0..1: an oversampled drawing, averaged to pixels."""
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX)) / 255.0


def blend(below, above, share):
    """f64[SIZE,SIZE,3]: `above` (a picture or one colour) laid over `below` where `share` is 1."""
    return below + (above - below) * share[:, :, None]


def coverage(kind, centre, radius, angle):
    """f64[SIZE,SIZE] in 0..1: the share of each pixel that the placed shape covers."""
    canvas = Image.new("L", (SIZE * OVERSAMPLING,) * 2)
    draw = ImageDraw.Draw(canvas)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    for polygon, fill in zip(SHAPES[kind], (255, 0)):
        placed = (polygon @ turn * radius + centre) * OVERSAMPLING
        draw.polygon([tuple(p) for p in placed.tolist()], fill=fill)
    return averaged(canvas)


def smooth_noise(rng, cells):
    """f64[SIZE,SIZE] in about -1..1: random values on a grid of cells x cells, interpolated."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float64)


def colour_away_from(rng, other):
    """f64[3] in 0..1: a random colour at least MIN_CONTRAST away from `other`."""
    while np.linalg.norm((colour := rng.uniform(0, 1, 3)) - other) < MIN_CONTRAST:
        pass
    return colour


def texture(rng, colour):
    """f64[SIZE,SIZE,3]: a random pattern between two shades of `colour`."""
    kind = TEXTURES[rng.integers(len(TEXTURES))]
    shade = rng.uniform(0.1, 0.2) * rng.choice([-1, 1], 3)
    angle, phase, period = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2), rng.uniform(4, 9)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    x, y = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    u, v = x * 2 * np.pi / period + phase[0], y * 2 * np.pi / period + phase[1]
    pattern = np.zeros((SIZE, SIZE))
    if kind == "stripes":
        pattern = np.sin(u)
    elif kind == "checks":
        pattern = np.sign(np.sin(u) * np.sin(v))
    elif kind == "dots":
        pattern = np.where(np.cos(u) + np.cos(v) > 0.9, 1.0, -0.5)
    elif kind == "noise":
        pattern = smooth_noise(rng, 16)
    elif kind == "gradient":
        pattern = x / SIZE
    return colour + 0.5 * pattern[:, :, None] * shade


def add_distractors(rng, picture, avoid):
    """Lay large textured patches, lines and small fragments over `picture`, none near colour `avoid`.

    The fragments have a kind drawn anew for each and are too small to be taken for the object.
    """
    for _ in range(rng.integers(1, 4)):
        share = np.clip(6 * (smooth_noise(rng, 5) - rng.uniform(0.1, 0.5)), 0, 1)
        picture = blend(picture, texture(rng, colour_away_from(rng, avoid)), share)
    for _ in range(rng.integers(2, 6)):
        canvas = Image.new("L", (SIZE * OVERSAMPLING,) * 2)
        ends = rng.uniform(0, SIZE * OVERSAMPLING, 4).tolist()
        ImageDraw.Draw(canvas).line(ends, fill=255, width=int(rng.integers(4, 11)))
        picture = blend(picture, colour_away_from(rng, avoid), averaged(canvas))
    for _ in range(rng.integers(4, 11)):
        kind, radius = CLASSES[rng.integers(len(CLASSES))], rng.uniform(1.5, 4.5)
        share = coverage(kind, rng.uniform(0, SIZE, 2), radius, rng.uniform(0, 2 * np.pi))
        picture = blend(picture, colour_away_from(rng, avoid), share)
    return picture


def generate(seed, split, index):
    """One picture: (u8[SIZE,SIZE,3] RGB, bool[SIZE,SIZE] object mask, class number).

    The class is `index mod classes`. It reaches the pixels through `coverage` alone.
    """
    rng = np.random.default_rng([seed, SPLITS[split], index])
    label = index % len(CLASSES)
    radius, angle = rng.uniform(13, 23), rng.uniform(0, 2 * np.pi)
    centre = rng.uniform(radius + 1, SIZE - radius - 1, 2)
    colour = rng.uniform(0, 1, 3)
    picture = texture(rng, colour_away_from(rng, colour)) + 0.1 * smooth_noise(rng, 4)[:, :, None]
    picture = add_distractors(rng, picture, colour)
    inside = coverage(CLASSES[label], centre, radius, angle)
    picture = blend(picture, texture(rng, colour), inside)
    picture = picture + rng.normal(0, rng.uniform(0.01, 0.05), picture.shape)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8), inside >= 0.5, label


def generate_set(seed, split, count):
    """(u8[count,3,SIZE,SIZE], i64[count]): pictures and labels, without the masks."""
    pictures, labels = np.empty((count, 3, SIZE, SIZE), np.uint8), np.empty(count, np.int64)
    for index in range(count):
        picture, _, labels[index] = generate(seed, split, index)
        pictures[index] = picture.transpose(2, 0, 1)
    return torch.from_numpy(pictures), torch.from_numpy(labels)


def conv_bn(inputs, outputs, size, stride):
    """A convolution without bias that keeps the picture's size up to its stride, then BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: identity, or a strided 1x1 projection."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.conv2 = conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs, 3, 1)
        same = stride == 1 and inputs == outputs
        self.downsample = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x):
        return nn.functional.relu(self.conv2(nn.functional.relu(self.conv1(x))) + self.downsample(x))


class ShapeNet(nn.Module):
    """f32[N,3,64,64] -> logits f32[N,classes]; three stages of two blocks at 32, 16 and 8 pixels."""

    def __init__(self):
        super().__init__()
        self.conv1, self.maxpool = conv_bn(3, 16, 3, 1), nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(16, 16, 1), BasicBlock(16, 16, 1))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32, 1))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, len(CLASSES))

    def forward(self, x):
        x = self.maxpool(nn.functional.relu(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def normalise(pictures, mean, std):
    """u8[N,3,H,W] -> f32[N,3,H,W] as the network expects it."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
    return (pictures.to(torch.float32) * (1 / 255) - mean) / std


def train(model, pictures, labels, mean, std, args):
    """SGD with a one-cycle learning rate; each batch is turned and flipped, which keeps its classes."""
    steps = len(labels) // args.batch
    optimiser = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, args.epochs * steps, pct_start=0.2)
    for epoch in range(args.epochs):
        start, total, order = time.monotonic(), 0.0, torch.randperm(len(labels))
        for step in range(steps):
            chosen = order[step * args.batch : (step + 1) * args.batch]
            batch = normalise(pictures[chosen], mean, std)
            batch = torch.rot90(batch, torch.randint(4, ()).item(), (2, 3))
            if torch.rand(()) < 0.5:
                batch = batch.flip(3)
            loss = nn.functional.cross_entropy(model(batch), labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1:2}/{args.epochs}: loss {total / steps:.4f}, {seconds:.0f} s", flush=True)
    model.eval().to(memory_format=torch.contiguous_format)


def export(model, path):
    """Write the network as ONNX opset 17 with a symbolic batch axis, BatchNorms folded by the exporter."""
    torch.onnx.export(
        model, (torch.zeros(2, 3, SIZE, SIZE),), str(path), dynamo=False, opset_version=17,
        input_names=["input"], output_names=["logits"], dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
    )
    onnx.checker.check_model(str(path), full_check=True)


def verify(model, path, inputs):
    """Logits f32[N,classes] of the exported file; raises where they differ from torch's."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"input": b.numpy()})[0] for b in inputs.split(100)])
    with torch.no_grad():
        expected = np.concatenate([model(b).numpy() for b in inputs.split(100)])
    difference = float(np.abs(logits - expected).max() / np.abs(expected).max())
    print(f"onnxruntime against torch on {len(inputs)} pictures: relative difference {difference:.1e}")
    if difference > 1e-4:
        raise RuntimeError(f"the exported model differs from torch by {difference:.1e}, expected <= 1e-4")
    return logits


def write_samples(out, seed, logits):
    """Save the first pictures of the held-out set with their masks, as they come; list their results."""
    results = []
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    probabilities = torch.softmax(torch.from_numpy(logits).double(), 1)
    for index, (share, best) in enumerate(zip(*(t.tolist() for t in probabilities.max(1)))):
        picture, mask, label = generate(seed, "held-out", index)
        name = f"{index:02}_{CLASSES[label]}.png"
        Image.fromarray(picture).save(out / "images" / name)
        Image.fromarray(mask.astype(np.uint8) * 255).save(out / "masks" / name)
        result = {"file": name, "predicted": CLASSES[best], "probability": round(share, 4)}
        results.append(result | {"correct": best == label})
    return results


def parse_arguments():
    """The command line's options."""
    formatter, about = argparse.ArgumentDefaultsHelpFormatter, __doc__.split("\n", 1)[0]
    parser = argparse.ArgumentParser(description=about, formatter_class=formatter)
    demo = Path(__file__).resolve().parents[1] / "examples" / "demo"
    parser.add_argument("--out", type=Path, default=demo, help="folder to write")
    for name, value, text in (
        ("seed", 1, "of the pictures, the weights and the order of training"),
        ("train", 10000, "pictures to train on"),
        ("held-out", 4000, "pictures to test on"),
        ("samples", 16, "held-out pictures to save, from the first on"),
        ("epochs", 10, "passes over the training pictures"),
        ("batch", 32, "pictures per step"),
        ("threads", 1, "CPU threads for torch"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=text)
    args = parser.parse_args()
    if not len(CLASSES) <= args.samples <= args.held_out or args.train < args.batch:
        parser.error(f"need {len(CLASSES)} <= --samples <= --held-out and --batch <= --train")
    return args


def main():
    """Generate, train, export, verify and write everything below --out."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    start = time.monotonic()
    pictures, labels = generate_set(args.seed, "train", args.train)
    held_out, truth = generate_set(args.seed, "held-out", args.held_out)
    values = pictures.to(torch.float32) / 255
    mean, std = ([round(v, 4) for v in f(values, (0, 2, 3)).tolist()] for f in (torch.mean, torch.std))
    print(f"{args.train} + {args.held_out} pictures in {time.monotonic() - start:.0f} s", flush=True)
    model = ShapeNet().to(memory_format=torch.channels_last)
    train(model, pictures, labels, mean, std, args)
    args.out.mkdir(parents=True, exist_ok=True)
    model_path = args.out / "model.onnx"
    export(model, model_path)
    logits = verify(model, model_path, normalise(held_out, mean, std))
    right = torch.from_numpy(logits).argmax(1) == truth
    per_class = [round(right[truth == i].double().mean().item(), 5) for i in range(len(CLASSES))]
    samples = write_samples(args.out, args.seed, logits[: args.samples])
    (args.out / "preprocess.toml").write_text(PREPROCESS.format(scale=1 / 255, mean=mean, std=std))
    (args.out / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    summary = {
        "accuracy": round(right.double().mean().item(), 5),
        "held_out_pictures": args.held_out,
        "accuracy_per_class": dict(zip(CLASSES, per_class)),
        "seed": args.seed,
        "training": {"pictures": args.train, "epochs": args.epochs, "batch": args.batch},
        "parameters": sum(p.numel() for p in model.parameters()),
        "classes": CLASSES,
        "torch": torch.__version__.split("+")[0],
        "samples": samples,
        "misclassified_samples": [s["file"] for s in samples if not s["correct"]],
    }
    (args.out / "model.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"accuracy {summary['accuracy']:.4f} on {args.held_out} held-out pictures; {summary['parameters']} "
          f"parameters, {model_path.stat().st_size} bytes, {time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
