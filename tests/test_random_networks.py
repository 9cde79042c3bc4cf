"""Random small networks, random plans: whatever is built, the slim program computes what the masked one computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import swdc
from tests.support import assert_equal, image, plan_of, randomise

Draw = Callable[[st.SearchStrategy[Any]], Any]
WIDTHS = (2, 4, 6, 8)


class Network(nn.Module):
    """A random directed graph of feature maps of 8 x 8, and a head that reads all that nothing else reads."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        self.steps: list[tuple[str, list[int], Any]] = []
        self.widths = [3]
        self._add("conv", [0], draw(st.sampled_from(WIDTHS)), draw)
        for _ in range(draw(st.integers(2, 7))):
            self._grow(draw)
        read = {source for _, sources, _ in self.steps for source in sources}
        self.ends = [i for i in range(len(self.widths)) if i not in read]
        self.side = draw(st.sampled_from([1, 2]))
        width = sum(self.widths[i] for i in self.ends) * self.side**2
        self.head = nn.Sequential(
            nn.Linear(width, 6), draw(st.sampled_from([nn.ReLU(), nn.Sigmoid()])), nn.Linear(6, 2)
        )

    def _grow(self, draw: Draw) -> None:
        kinds = ["conv", "norm", "act", "sum", "cat", "gate", "depthwise", "grouped", "shuffle", "cut", "pool"]
        kind, source = draw(st.sampled_from(kinds)), draw(st.integers(1, len(self.widths) - 1))
        width = self.widths[source]
        if (width % 2 and kind in ("grouped", "shuffle")) or (width == 1 and kind == "cut"):
            kind = "conv"
        if kind == "sum":
            same = [i for i in range(1, len(self.widths)) if self.widths[i] == width]
            self._note(kind, [source, draw(st.sampled_from(same))], width)
        elif kind == "cat":
            others = draw(st.lists(st.integers(1, len(self.widths) - 1), min_size=1, max_size=2))
            self._note(kind, [source, *others], width + sum(self.widths[i] for i in others))
        elif kind == "cut":
            at = draw(st.integers(1, width - 1))
            self._note(kind, [source], max(at, width - at), at)
        elif kind in ("shuffle", "act", "pool"):
            choices = {
                "shuffle": [2],
                "act": [F.relu, F.gelu, torch.sigmoid, F.hardswish],
                "pool": [F.max_pool2d, F.avg_pool2d],
            }
            self._note(kind, [source], width, draw(st.sampled_from(choices[kind])))
        else:
            self._add(kind, [source], draw(st.sampled_from(WIDTHS)), draw)

    def _add(self, kind: str, sources: list[int], out: int, draw: Draw) -> None:
        width = self.widths[sources[0]]
        bias = draw(st.booleans())
        padding = draw(st.booleans())
        if kind == "conv":
            module: nn.Module = nn.Conv2d(width, out, 3 if padding else 1, padding=int(padding), bias=bias)
        elif kind == "norm":
            out, module = width, nn.BatchNorm2d(width)
        elif kind == "gate":
            out = width
            module = nn.Sequential(nn.Conv2d(width, 4, 1), nn.ReLU(), nn.Conv2d(4, width, 1), nn.Sigmoid())
        elif kind == "depthwise":
            out = width * (2 if bias and width <= 8 else 1)
            module = nn.Conv2d(width, out, 3, padding=1, groups=width, bias=padding)
        else:
            module = nn.Conv2d(width, 2 * out, 1, groups=2, bias=bias)
            out = 2 * out
        self.parts[str(len(self.steps))] = module
        self._note(kind, sources, out)

    def _note(self, kind: str, sources: list[int], width: int, option: Any = None) -> None:
        self.steps.append((kind, sources, option))
        self.widths.append(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = [x]
        for number, (kind, sources, option) in enumerate(self.steps):
            inputs = [values[i] for i in sources]
            values.append(self._step(str(number), kind, inputs, option))
        ends = torch.cat([values[i] for i in self.ends], 1)
        result: torch.Tensor = self.head(F.adaptive_avg_pool2d(ends, self.side).flatten(1))
        return result

    def _step(self, name: str, kind: str, inputs: list[torch.Tensor], option: Any) -> torch.Tensor:
        x = inputs[0]
        if kind == "sum":
            return x + inputs[1]
        if kind == "cat":
            return torch.cat(inputs, 1)
        if kind == "cut":
            parts = x.split([option, x.shape[1] - option], 1)
            return max(parts, key=lambda part: part.shape[1])
        if kind == "shuffle":
            return x.view(-1, option, x.shape[1] // option, 8, 8).transpose(1, 2).flatten(1, 2)
        if kind == "pool":
            pooled: torch.Tensor = option(x, 3, stride=1, padding=1)
            return pooled
        if kind == "act":
            activated: torch.Tensor = option(x)
            return activated
        made: torch.Tensor = self.parts[name](x)
        return x * made if kind == "gate" else made


class Tokens(nn.Module):
    """A random chain of layers over four tokens, each summed with or put beside an earlier value, and a head."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.parts, self.steps, self.widths = nn.ModuleDict(), [], [5]
        self._add("dense", 8, draw)
        for _ in range(draw(st.integers(2, 7))):
            kind = draw(st.sampled_from(list(TOKEN_STEPS)))
            self._add(kind if self.widths[-1] % 2 == 0 else "dense", draw(st.sampled_from(WIDTHS)), draw)
        self.readout = draw(st.sampled_from(["flat", "mean", "first"]))
        self.head = nn.Linear(self.widths[-1] * (4 if self.readout == "flat" else 1), 2)

    def _add(self, kind: str, out: int, draw: Draw) -> None:
        width, name = self.widths[-1], str(len(self.steps))
        if kind in ("dense", "gate"):
            out = width if kind == "gate" else out
            self.parts[name] = nn.Linear(width, out, bias=draw(st.booleans()))
        elif kind == "mix":
            self.parts[name] = nn.Linear(4, 4)
        elif kind == "norm":
            self.parts[name] = draw(st.sampled_from([nn.LayerNorm, nn.BatchNorm1d]))(width)
        elif kind == "window":
            self.parts[name] = nn.Conv1d(width, width, 3, padding=draw(st.sampled_from([0, 1])), groups=2)
        widths = {"dense": out, "half": width // 2, "beside": width + self.widths[:2][-1]}
        self.steps.append((kind, draw(st.integers(1, max(1, len(self.widths) - 1)))))
        self.widths.append(widths.get(kind, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, parts = [x], dict(self.parts.items())
        for number, (kind, source) in enumerate(self.steps):
            part = parts.get(str(number))
            earlier = values[min(source, len(values) - 1)]
            same = earlier if earlier.shape[1:] == values[-1].shape[1:] else values[-1]
            values.append(TOKEN_STEPS[kind](values[-1], part, values[:2][-1] if kind == "beside" else same))
        last = {"flat": values[-1].flatten(1), "mean": values[-1].mean(1), "first": values[-1][:, 0]}[self.readout]
        result: torch.Tensor = self.head(last)
        return result


TOKEN_STEPS: dict[str, Callable[[torch.Tensor, Any, torch.Tensor], torch.Tensor]] = {
    "dense": lambda x, part, other: part(x),
    "relu": lambda x, part, other: torch.relu(x),
    "sigmoid": lambda x, part, other: torch.sigmoid(x),
    "gate": lambda x, part, other: x * F.softmax(part(x), dim=1),
    "mix": lambda x, part, other: part(x.transpose(1, 2)).permute(0, 2, 1),
    "norm": lambda x, part, other: part(x) if isinstance(part, nn.LayerNorm) else part(x.mT).mT,
    "window": lambda x, part, other: F.pad(part(x.mT), (0, 4))[..., :4].mT,
    "half": lambda x, part, other: x.chunk(2, -1)[0] * torch.sigmoid(x.chunk(2, -1)[1]),
    "sum": lambda x, part, other: x + other,
    "beside": lambda x, part, other: torch.cat([other, x], -1),
    "heads": lambda x, part, other: (x.unflatten(2, (2, -1)).transpose(1, 2) * 2).transpose(1, 2).flatten(2),
    "turn": lambda x, part, other: torch.cat([x[..., 2:], x[..., :2]], -1),
}


@st.composite
def networks(draw: Draw, kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(draw(st.integers(0, 1000)))
    return randomise(kind(draw), draw(st.integers(0, 1000))).eval()


def assert_slim_computes_what_masked_computes(data: st.DataObject, kind: type[nn.Module], *example: int) -> None:
    model = data.draw(networks(kind))
    program = swdc.trace(model, image(1, *example))
    assert_equal(model(image(3, *example, seed=2)), program(image(3, *example, seed=2)))
    kept = {
        group.name: sorted(data.draw(st.sets(st.integers(0, group.width - 1), min_size=1))) for group in program.groups
    }
    plan = plan_of(program, kept)
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan), batches=(2,))
    assert certificate.max_relative_error <= certificate.tolerance, certificate


PROFILE = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@PROFILE
@given(st.data())
def test_feature_maps(data: st.DataObject) -> None:
    assert_slim_computes_what_masked_computes(data, Network, 3, 8, 8)


@PROFILE
@given(st.data())
def test_tokens(data: st.DataObject) -> None:
    assert_slim_computes_what_masked_computes(data, Tokens, 4, 5)
