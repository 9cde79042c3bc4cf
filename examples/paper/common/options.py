"""The options of the scripts on the command line."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Options:
    """The options that all scripts share; ``None`` means the paper's setting."""

    data: Path
    out: Path
    epochs: int | None
    subset: int | None
    seeds: int
    methods: tuple[str, ...]
    targets: tuple[float, ...]
    width: int | None
    batch: int | None
    device: str
    memory_format: torch.memory_format
    command: str


def parser(description: str | None, **defaults: object) -> argparse.ArgumentParser:
    """Return a parser of the shared options, to which a script adds its own; ``defaults`` are its settings."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--data", type=Path, required=True, metavar="ROOT", help="folder of the data sets")
    made.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="folder for rows and pictures")
    made.add_argument("--epochs", type=_positive, help="epochs of training; fine-tuning shrinks in proportion")
    made.add_argument("--subset", type=_positive, metavar="N", help="train on N images only")
    made.add_argument("--seeds", type=_positive, default=1, metavar="N", help="networks trained for each point")
    made.add_argument("--methods", nargs="+", default=(), metavar="METHOD", help="train these only")
    made.add_argument(
        "--targets", nargs="+", type=_percent, default=(), metavar="PERCENT", help="shares to remove, in percent"
    )
    made.add_argument("--width", type=_positive, help="feature maps that the first layer writes")
    made.add_argument("--batch", type=_positive, help="images in a batch")
    made.add_argument("--device", default="cpu", help="where torch computes: cpu, cuda, cuda:1")
    made.add_argument("--threads", type=_positive, default=torch.get_num_threads(), help="threads of torch on the CPU")
    made.add_argument(
        "--channels-last", action="store_true",
        help="weights channels last: a fifth faster on a CPU, but torch can hang there at widths under 16",
    )  # fmt: skip
    made.set_defaults(**defaults)
    return made


def options_of(found: argparse.Namespace) -> Options:
    """Return the shared options of what a parser found, and set the number of threads."""
    torch.set_num_threads(found.threads)
    return Options(
        found.data, found.out, found.epochs, found.subset, found.seeds, tuple(found.methods), tuple(found.targets),
        found.width, found.batch, found.device,
        torch.channels_last if found.channels_last else torch.preserve_format, command(found),
    )  # fmt: skip


def command(found: argparse.Namespace, words: Sequence[str] | None = None) -> str:
    """Return the command line, with names in place of the folders of this machine."""
    given = list(sys.argv[1:] if words is None else words)
    places = {str(found.data): "ROOT", str(found.out): "DIR"}
    return shlex.join(["python", f"examples/paper/{Path(sys.argv[0]).name}", *(places.get(w, w) for w in given)])


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return number


def _percent(text: str) -> float:
    share = round(float(text) / 100, 6)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 100 percent, got {text}")
    return share
