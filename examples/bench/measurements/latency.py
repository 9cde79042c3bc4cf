"""How much faster the slim network runs than the dense one, beside Torch-Pruning's at the same multiply-adds."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from examples.bench.networks.catalogue import versions
from examples.bench.networks.entry import Entry, known
from examples.bench.peer.variants import Variant, dense_and_ours, peers
from examples.bench.running.profiling import compared
from examples.bench.running.row_files import Row
from examples.bench.running.runtimes import SETUPS, Call, Setup, prepared, private_cache, timed_ms
from swdc import export_onnx
from swdc.costs.clock import one_thread
from swdc.errors import brief
from swdc.ir.packages import package
from swdc.networks import resnet20

BATCHES = (1, 16)
METHODS = ("ours", "peer")
AS_PROMISED = 0.95
"""Share of the ratio of multiply-adds below which a speed-up is explained by a profile."""
ONNX_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Network:
    """A network of the bench: what builds it, the side of its images, and what the user must do after pruning."""

    build: Callable[[], nn.Module]
    side: int
    finish: Callable[[nn.Module], None] = lambda model: None


def _torchvision(name: str) -> nn.Module:
    model: nn.Module = getattr(package("torchvision", "vision").models, name)()
    return model


def _tell_width(model: nn.Module) -> None:
    """Tell a vision transformer of torchvision its new width, as the peer's documentation says to."""
    model.hidden_dim = model.conv_proj.out_channels  # type: ignore[union-attr]


NETWORKS: dict[str, Network] = {
    "resnet50": Network(partial(_torchvision, "resnet50"), 224),
    "mobilenet_v2": Network(partial(_torchvision, "mobilenet_v2"), 224),
    "vit_b_16": Network(partial(_torchvision, "vit_b_16"), 224, _tell_width),
    "resnet20-64": Network(partial(resnet20, width=64), 32),
}


@dataclass(frozen=True)
class Settings:
    """What a run is made with: the share of the multiply-adds that is left, the multiple of widths, and paired runs."""

    share: float = 0.25
    round_to: int = 8
    repeats: int = 30
    seed: int = 0

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The settings as rows hold them; rows of the same settings are kept."""
        return {
            "share": self.share, "round_to": self.round_to, "repeats": self.repeats, "seed": self.seed,
            "versions": versions("torchvision"),
        }  # fmt: skip

    def same(self, row: Mapping[str, Any]) -> bool:
        """Whether a row was measured with these settings."""
        return all(row.get(name) == fact for name, fact in self.facts.items())


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells a row from all others of the same settings."""
    return tuple(row.get(name) for name in ("network", "batch", "runtime", "threads", "method"))


def latency(
    names: Iterable[str],
    batches: Sequence[int],
    settings: Settings,
    done: Iterable[Row] = (),
    announce: Callable[[str], None] = lambda text: None,
) -> Iterator[Row]:
    """Yield for each network, batch size, runtime and method the milliseconds of the dense and of the slim network.

    ``mac_ratio`` is the dense network's multiply-adds over the slim one's, ``speedup`` the same of the times: medians
    of paired runs. What fails has a ``reason``. In onnxruntime, a ``profile`` tells which operators take the time
    where the speed-up stays below ``AS_PROMISED`` of the ratio. What is ``done`` is left out.

    Dense, ours and the peer's go the same way: traced, deployed (batch norms folded), exported.
    """
    chosen = [known(name, NETWORKS) for name in names]
    package("torch_pruning", "bench")
    have = {key(row) for row in done}
    for name in chosen:
        units = [(batch, setup) for batch in batches for setup in SETUPS]
        missing = [(b, s) for b, s in units if not {(name, b, s.runtime, s.threads, m) for m in METHODS} <= have]
        if missing:
            announce(f"{name}: building, slimming and exporting")
            with one_thread(), private_cache(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
                warnings.simplefilter("ignore")
                bench = _Bench(name, settings, Path(folder))
                for batch, setup in missing:
                    announce(f"{name}, batch {batch}, {setup.runtime}, {setup.threads} threads")
                    yield from bench.rows(batch, setup)


class _Bench:
    """One network: its variants and their files."""

    def __init__(self, name: str, settings: Settings, folder: Path) -> None:
        self.name, self.settings, self.reasons = name, settings, {"peer": ""}
        network = NETWORKS[name]
        self.shape = 3, network.side, network.side
        inputs = partial(torch.randn, 2, *self.shape)
        model, dense, ours = dense_and_ours(
            Entry(name, network.build, inputs), settings.share, settings.round_to, settings.seed
        )
        self.variants: dict[str, Variant] = {"dense": dense, "ours": ours}
        try:
            self.variants["peer"] = peers(model, inputs(), ours.macs, settings.round_to, network.finish)
        except Exception as error:  # whatever the peer raises is what it gives
            self.reasons["peer"] = brief(error)
        self.files: dict[str, Path] = {}
        for each, variant in self.variants.items():
            self.files[each] = folder / f"{each}.onnx"
            export_onnx(variant.program, self.files[each], batches=(1,), tolerance=ONNX_TOLERANCE)

    def rows(self, batch: int, setup: Setup) -> Iterator[Row]:
        """Yield the rows of one batch size in one runtime, whose variants take turns."""
        images = torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(self.settings.seed))
        reasons = dict(self.reasons)
        calls: dict[str, Call] = {}
        for each, variant in self.variants.items():
            try:
                calls[each] = prepared(setup, variant.program, self.files[each], images)
            except Exception as error:  # a compiler fails in many ways
                reasons[each] = f"{setup.runtime} of the {each} network fails: {brief(error)}"
        times = timed_ms(calls, self.settings.repeats)
        for method in METHODS:
            reason = reasons.get("dense") or reasons.get(method, "")
            row = self._row(batch, setup, method, reason)
            yield row if reason else {**row, **self._measured(row, times, setup, images)}

    def _row(self, batch: int, setup: Setup, method: str, reason: str) -> Row:
        dense, slim = self.variants["dense"].macs, getattr(self.variants.get(method), "macs", None)
        return {
            "network": self.name, "runtime": setup.runtime, "threads": setup.threads, "batch": batch,
            "method": method, "mac_ratio": dense / slim if slim else None, "speedup": None, "dense_ms": None,
            "slim_ms": None, "dense_macs": dense, "slim_macs": slim, "runs": 0, "reason": reason, "profile": [],
            **self.settings.facts,
        }  # fmt: skip

    def _measured(self, row: Row, times: Mapping[str, Sequence[float]], setup: Setup, images: torch.Tensor) -> Row:
        dense, slim = median(times["dense"]), median(times[row["method"]])
        found: Row = {"dense_ms": dense, "slim_ms": slim, "speedup": dense / slim, "runs": len(times["dense"])}
        if setup.runtime == "onnxruntime" and found["speedup"] < AS_PROMISED * row["mac_ratio"]:
            files = self.files["dense"], self.files[row["method"]]
            found["profile"] = compared(*files, images, setup.threads)
        return found
