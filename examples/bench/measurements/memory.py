"""What memory it takes to slim a checkpoint of random weights tensor by tensor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from examples.bench.networks.decoder import Decoder
from examples.bench.running.process import MEGABYTE, peak_of_torch, run
from examples.bench.running.row_files import Row
from swdc.artifacts.storage.checkpoint_writer import Described, write_shards
from swdc.ir.weight_sources import part_rows

WIDTH, INNER, HEADS, SHARED, WORDS = 1536, 4096, 16, 4, 32000
SHARD_BYTES = 500 * 10**6


def stream(
    gigabytes: float, folder: Path | None = None, announce: Callable[[str], None] = lambda name: None
) -> Iterator[Row]:
    """Yield the seconds and the megabytes that slimming a checkpoint of about this size takes.

    A decoder of random float32 weights is written to ``folder`` (a temporary one where it is not given); half of its
    parameters go. ``over_torch_mb`` is the peak of the process over that of one that only imports torch.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        dense, small = Path(place) / "dense", Path(place) / "slim"
        announce("writing random weights")
        options = write_random(gigabytes, dense)
        announce("importing torch, importing swdc")
        imported, ours = peak_of_torch(), run("examples.bench.measurements.memory:nothing")[1]
        announce("slimming")
        start = time.perf_counter()
        _, peak = run("swdc.cli:app", command(options, dense, small))
        seconds = time.perf_counter() - start
        yield {
            "checkpoint_mb": _size(dense), "slim_mb": _size(small), "seconds": seconds, "torch_mb": imported,
            "swdc_mb": ours, "peak_mb": peak, "over_torch_mb": peak - imported,
        }  # fmt: skip


def write_random(gigabytes: float, folder: Path) -> dict[str, int]:
    """Write a sharded checkpoint of a decoder with random weights, and return the decoder's options."""
    options = {"width": WIDTH, "inner": INNER, "heads": HEADS, "shared": SHARED, "words": WORDS}
    sizes = [_bytes(Decoder, {**options, "blocks": blocks}) for blocks in (0, 1)]
    options["blocks"] = max(1, round((gigabytes * 1e9 - sizes[0]) / (sizes[1] - sizes[0])))
    with torch.device("meta"):
        state = Decoder(**options).state_dict()
    generator = torch.Generator().manual_seed(0)
    described = {name: Described(tuple(t.shape), t.dtype) for name, t in state.items()}
    parts = {name: _drawn(tuple(t.shape), generator) for name, t in state.items()}
    folder.mkdir(parents=True)
    write_shards(described, parts, folder, SHARD_BYTES)
    return options


def command(options: dict[str, int], dense: Path, small: Path) -> list[str]:
    """Return the arguments of ``swdc`` that slim such a checkpoint."""
    arguments = [item for name, value in options.items() for item in ("--arg", f"{name}={value}")]
    model = f"{Decoder.__module__}:{Decoder.__name__}"
    given = ["slim", model, "--input", "1x16:int64", "--weights", str(dense), "--out", str(small)]
    return [*given, *arguments, "--budget", "parameters"]


def nothing() -> None:
    """Do nothing, in a process that has imported swdc."""


def _drawn(shape: tuple[int, ...], generator: torch.Generator) -> Iterator[torch.Tensor]:
    step = part_rows(shape)
    for first in range(0, shape[0], step):
        yield torch.randn((min(step, shape[0] - first), *shape[1:]), generator=generator) * 0.02


def _bytes(make: Callable[..., torch.nn.Module], options: dict[str, int]) -> int:
    with torch.device("meta"):
        return sum(t.numel() * t.element_size() for t in make(**options).state_dict().values())


def _size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / MEGABYTE
