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
from tests.support import image, plan_of, randomise

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


@st.composite
def networks(draw: Draw) -> Network:
    torch.manual_seed(draw(st.integers(0, 1000)))
    return randomise(Network(draw), draw(st.integers(0, 1000))).eval()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.data())
def test_slim_computes_what_masked_computes(data: st.DataObject) -> None:
    program = swdc.trace(data.draw(networks()), image(1, 3, 8, 8))
    kept = {
        group.name: sorted(data.draw(st.sets(st.integers(0, group.width - 1), min_size=1))) for group in program.groups
    }
    plan = plan_of(program, kept)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim, batches=(2,))
    assert certificate.max_relative_error <= certificate.tolerance, certificate
    widths = {group.name: group.width for group in slim.groups}
    assert all(widths.get(name, len(channels)) >= 1 for name, channels in plan.kept.items())
