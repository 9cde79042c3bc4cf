"""A YOLO11n that loses half of its multiply-adds, and stays a ``.pt`` that ultralytics loads, validates and exports.

    pip install ultralytics && python examples/yolo/slim_yolo11.py --out yolo

The network starts from random weights and learns to find circles, squares and triangles that are drawn on the spot.
Then swdc removes channels, and ultralytics' own trainer trains the slim network on. ultralytics is licensed under the
AGPL-3.0. It is no dependency of swdc; this script alone imports it.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import nn

import swdc

os.environ.setdefault("YOLO_OFFLINE", "true")  # nothing is asked for over the network
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

SHAPES = ("circle", "square", "triangle")
KEPT = ("C2PSA",)
"""Blocks with attention, which stores sizes that belong together. It and their first layer keep all channels."""


def draw(folder: Path, images: int, side: int, seed: int) -> None:
    """Write images with one to three shapes each, and their boxes as ultralytics reads them: class, centre, size."""
    random = torch.Generator().manual_seed(seed)
    pixels, labels = folder / "images", folder / "labels"
    pixels.mkdir(parents=True, exist_ok=True)
    labels.mkdir(exist_ok=True)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=random))

    for index in range(images):
        picture = Image.new("RGB", (side, side), tuple(number(0, 90) for _ in range(3)))
        pencil, rows = ImageDraw.Draw(picture), []
        for _ in range(number(1, 4)):
            kind, size = number(0, len(SHAPES)), number(side // 6, side // 3)
            left, top = number(0, side - size), number(0, side - size)
            box, colour = (left, top, left + size, top + size), tuple(number(120, 256) for _ in range(3))
            if SHAPES[kind] == "circle":
                pencil.ellipse(box, fill=colour)
            elif SHAPES[kind] == "square":
                pencil.rectangle(box, fill=colour)
            else:
                pencil.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=colour)
            place = ((left + size / 2) / side, (top + size / 2) / side, size / side, size / side)
            rows.append(" ".join([str(kind), *(f"{value:.6f}" for value in place)]))
        picture.save(pixels / f"{index}.png")
        (labels / f"{index}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def data_set(folder: Path, images: int, side: int) -> Path:
    """Draw images to learn from and others to be judged by; return the file that ultralytics takes as `data=`."""
    draw(folder / "train", images, side, seed=0)
    draw(folder / "val", images // 2, side, seed=1)
    file = folder / "shapes.yaml"
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(SHAPES))
    text = f"path: {folder.resolve()}\ntrain: train/images\nval: val/images\nnames:\n{names}"
    file.write_text(text, encoding="utf-8")
    return file


def trainer_of(network: nn.Module) -> type[DetectionTrainer]:
    """Return ultralytics' trainer for a network that exists; its own builds one from the YAML, in the old widths."""

    class OfNetwork(DetectionTrainer):  # type: ignore[misc]  # ultralytics has no types
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
            return network

    return OfNetwork


def slimmed(network: nn.Module, side: int, sparsity: float) -> nn.Module:
    """Return a detector of ultralytics' own classes with a share of the multiply-adds removed, and print the proof."""
    network = copy.deepcopy(network).float().eval().requires_grad_(True)
    network.model[-1].dynamic = True  # otherwise it keeps the anchors of one call for the next
    program = swdc.trace(network, torch.randn(2, 3, side, side))
    kept = [name for name, module in network.named_modules() if type(module).__name__ in KEPT]
    ignore = [f"{name}.{part}.*" for name in kept for part in ("cv1", "*attn")]
    # The two halves that C3k2 takes of a layer must stay equally wide: the same share of every group does that.
    plan = swdc.plan(program, sparsity, budget="macs", scope="group", round_to=8, ignore=ignore)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    print(certificate)
    if not certificate.exact:
        sys.exit(1)
    small = swdc.transplant(slim, network)
    small.model[-1].dynamic = False
    return small


def milliseconds(networks: list[nn.Module], side: int, runs: int = 50) -> list[float]:
    """Return the fastest run of one image for each network: in PyTorch, in turns, with the batch norms folded."""
    folded = [copy.deepcopy(network).float().eval().fuse() for network in networks]
    image, times = torch.rand(1, 3, side, side), [[] for _ in networks]
    with torch.inference_mode():
        for _ in range(runs):
            for network, taken in zip(folded, times, strict=True):
                start = time.perf_counter()
                network(image)
                taken.append(1000 * (time.perf_counter() - start))
    return [min(taken) for taken in times]


def main() -> None:
    """Train, cut, train on, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("yolo"), help="folder for the images, trainings and files")
    parser.add_argument("--images", type=int, default=256, help="images to learn from; half as many to be judged by")
    parser.add_argument("--side", type=int, default=96, help="pixels of a side, a multiple of 32")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the first training, and of the recovery")
    parser.add_argument("--sparsity", type=float, default=0.5, help="share of the multiply-adds that goes")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    out = args.out.resolve()
    settings = {"data": str(data_set(out / "shapes", args.images, args.side)), "imgsz": args.side, "device": "cpu"}
    training = {
        **settings, "epochs": args.epochs, "batch": 16, "workers": 0, "plots": False, "verbose": False,
        "project": str(out), "exist_ok": True, "optimizer": "AdamW", "lr0": 2e-3, "warmup_epochs": 1,
        "close_mosaic": args.epochs,
    }  # fmt: skip

    rows, networks = [], []

    def judge(name: str, detector: YOLO) -> None:
        networks.append(copy.deepcopy(detector.model))  # ultralytics folds batch norms of the one that it validates
        found = detector.val(**settings, plots=False, verbose=False, project=str(out), name="val", exist_ok=True)
        parameters = sum(parameter.numel() for parameter in networks[-1].parameters())
        rows.append((name, found.box.map50, found.box.map, parameters))

    dense = YOLO("yolo11n.yaml")
    dense.train(**training, name="dense")
    dense = YOLO(out / "dense" / "weights" / "last.pt")
    network = slimmed(dense.model, args.side, args.sparsity)
    judge("dense", dense)
    cut = YOLO("yolo11n.yaml")
    cut.model = copy.deepcopy(network)
    judge("slim", cut)
    YOLO("yolo11n.yaml").train(**training, name="slim", trainer=trainer_of(network))
    recovered = YOLO(out / "slim" / "weights" / "last.pt")
    judge("recovered", recovered)
    print(f"{'':10} {'mAP50':>7} {'mAP50-95':>9} {'parameters':>11} {'ms':>6}")
    for (name, half, mean, parameters), ms in zip(rows, milliseconds(networks, args.side), strict=True):
        print(f"{name:10} {half:7.3f} {mean:9.3f} {parameters:11,} {ms:6.1f}")
    print("exported", YOLO(out / "slim" / "weights" / "last.pt").export(format="onnx", imgsz=args.side))


if __name__ == "__main__":
    main()
