"""Random networks: a description in plain numbers, and the module that it stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from examples.bench.networks.randomise import randomise_
from swdc.ir.seeding import seed_all
from tests.fuzzing import attention, graphs, integers, maps, movement, pointwise, sequences, tokens
from tests.fuzzing.blocks import ANY, CHANNEL_DIM, TABLE, Block, Draw, Slot, is_like
from tests.fuzzing.precision import WIDE, converted, draw_types, runs

FAMILIES = (attention, graphs, integers, maps, movement, pointwise, sequences, tokens)
"""The modules that fill the table of blocks."""
AGAIN = "again"
"""A step that calls a module of an earlier step once more, on another value."""
LARGEST = 1200
"""Elements of one sample of a value; what makes larger ones is left out."""
WIDEST = 24

STARTS: dict[str, tuple[str, ...]] = {
    "signal": ("map1",), "image": ("map2",), "volume": ("map3",), "tokens": ("token",), "words": ("ids",),
    "vector": ("vector",), "graph": ("node", "edge"), "two images": ("map2", "map2"),
    "image and vector": ("map2", "vector"), "tokens and words": ("token", "ids"), "two vectors": ("vector", "vector"),
    "tokens and vector": ("token", "vector"),
}  # fmt: skip
"""What networks take."""
FIRST = {"map": "conv", "token": "dense", "vector": "dense_of_vector", "node": "dense_of_nodes", "ids": "embedded"}


@dataclass(frozen=True)
class Step:
    """One block, and the seed of its random choices."""

    block: str
    seed: int


@dataclass(frozen=True)
class Spec:
    """A network in plain numbers. Steps that do not suit what came before are left out, so any may be dropped.

    ``types`` are the types that it computes in, as ``draw_types`` writes them.
    """

    start: str
    seed: int
    steps: tuple[Step, ...]
    types: str = WIDE

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain data, ready for JSON."""
        steps = [[s.block, s.seed] for s in self.steps]
        return {"start": self.start, "seed": self.seed, "steps": steps, "types": self.types}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spec:
        """Return the description that ``to_dict`` wrote."""
        return cls(data["start"], data["seed"], tuple(Step(name, seed) for name, seed in data["steps"]), data["types"])

    def without(self, number: int) -> Spec:
        """Return the description without one step."""
        return replace(self, steps=self.steps[:number] + self.steps[number + 1 :])


class Network(nn.Module):
    """A directed graph of parts: each reads earlier values, and heads read all values that no part reads."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.parts = nn.ModuleList()
        self.heads = nn.ModuleList()
        self.steps: list[tuple[int, tuple[int, ...]]] = []
        self.ends: list[int] = []
        self.form = "sum"

    def forward(self, *inputs: Tensor) -> Any:
        """Return the outputs of the heads on the values that no part reads."""
        values = list(inputs)
        for part, sources in self.steps:
            values.append(self.parts[part](*(values[i] for i in sources)))
        outputs = [head(values[i]) for i, head in zip(self.ends, self.heads, strict=True)]
        if self.form == "sum":
            return sum(outputs[1:], outputs[0])
        if self.form == "concat":
            return torch.cat(outputs, 1)
        return {f"out{i}": o for i, o in enumerate(outputs)} if self.form == "dict" else tuple(outputs)


class Head(nn.Module):
    """A dense layer over a value that is flattened or averaged, or the value itself."""

    def __init__(self, draw: Draw, slot: Slot) -> None:
        super().__init__()
        flat = slot.layout != "node" and slot.number > 1 and slot.channels * slot.number <= 120 and draw.flip()
        self.kind = "flat" if flat else "mean"
        if draw.flip(0.05):
            self.kind = "raw"
        self.slot = slot
        self.dense = nn.Linear(slot.channels * (slot.number if flat else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the head on a value."""
        if self.kind == "raw":
            return x
        if self.kind == "flat":
            result: Tensor = self.dense(x.flatten(1))
            return result
        dims = self.slot.spatial
        averaged: Tensor = self.dense(x.mean(dims) if dims else x)
        return averaged


class _Builder:
    """Builds a network step by step, with the values that it takes on an example."""

    def __init__(self, spec: Spec) -> None:
        self.draw = Draw(spec.seed)
        self.layouts, self.examples = _inputs(STARTS[spec.start], self.draw)
        self.values = list(self.examples)
        self.network = Network(len(self.values)).double().eval()
        self.slots: dict[int, tuple[Slot, ...]] = {}
        self.taken: list[Step] = []

    def slot(self, number: int) -> Slot:
        return Slot(self.layouts[number], tuple(self.values[number].shape))

    def add(self, step: Step) -> bool:
        """Add a step if it suits; return whether it did."""
        draw = Draw(step.seed)
        seed_all(draw.torch_seed())
        if step.block == AGAIN:
            return self._again(step, draw)
        block = TABLE[step.block]
        sources = self._sources(block, draw)
        if sources is None:
            return False
        slots = tuple(self.slot(i) for i in sources)
        part = block.make(draw, *slots)
        if part is None:
            return False
        randomise_(part, draw.torch_seed())
        return self._call(step, part.double().eval(), None, sources, block.gives or slots[0].layout)

    def _again(self, step: Step, draw: Draw) -> bool:
        """Call an earlier part on other values that suit it."""
        for number in draw.sample(list(self.slots), len(self.slots)):
            wanted = self.slots[number]
            found = [[i for i in range(len(self.values)) if self.slot(i) == slot] for slot in wanted]
            sources = tuple(draw.choice(options) for options in found)
            if (number, sources) not in self.network.steps:
                layout = next(
                    self.layouts[self.network.inputs + i] for i, (n, _) in enumerate(self.network.steps) if n == number
                )
                return self._call(step, self.network.parts[number], number, sources, layout)
        return False

    def _call(self, step: Step, part: nn.Module, number: int | None, sources: tuple[int, ...], layout: str) -> bool:
        with torch.no_grad():
            result = part(*(self.values[i].clone() for i in sources))
        if not _is_usable(result, layout):
            return False
        if number is None:
            self.network.parts.append(part)
            number = len(self.network.parts) - 1
            self.slots[number] = tuple(self.slot(i) for i in sources)
        self.network.steps.append((number, sources))
        self.values.append(result)
        self.layouts.append(layout)
        self.taken.append(step)
        return True

    def _sources(self, block: Block, draw: Draw) -> tuple[int, ...] | None:
        chosen: list[int] = []
        for layout in block.takes:
            wanted = set(CHANNEL_DIM) if layout == ANY else {layout}
            options = [i for i in range(len(self.values)) if self.layouts[i] in wanted]
            if not options:
                return None
            chosen.append(self._recent(options, draw))
        first = self.slot(chosen[0])
        for _ in range(block.more):
            options = [i for i in range(len(self.values)) if is_like(block.relation, first, self.slot(i))]
            others = [i for i in options if i != chosen[0]]
            chosen.append(draw.choice(others if others and draw.flip(0.9) else options))
        return tuple(chosen)

    def _recent(self, options: Sequence[int], draw: Draw) -> int:
        """Return one of the values, mostly a late one, seldom an input."""
        made = [i for i in options if i >= self.network.inputs]
        if made and draw.flip(0.95):
            options = made
        back = 0
        while back + 1 < len(options) and draw.flip(0.35):
            back += 1
        return options[-1 - back]

    def finish(self) -> Network:
        """Add the heads, and return the network."""
        network, draw = self.network, self.draw
        read = {i for _, sources in network.steps for i in sources}
        network.ends = [i for i in range(len(self.values)) if i not in read and self.layouts[i] in CHANNEL_DIM]
        seed_all(draw.torch_seed())
        for end in network.ends:
            network.heads.append(randomise_(Head(draw, self.slot(end)), draw.torch_seed()).double())
        raw = any(head.kind == "raw" for head in network.heads)
        shapes = {self.layouts[end] == "node" for end in network.ends}
        forms = ("tuple", "dict") if raw or len(shapes) > 1 else ("sum", "sum", "concat", "tuple", "dict")
        network.form = draw.choice(forms)
        return network.eval()


def build(spec: Spec) -> tuple[Network, tuple[Tensor, ...]]:
    """Return the network that a description stands for, in its types, and example inputs of two samples."""
    builder = _Builder(spec)
    for step in spec.steps:
        builder.add(step)
    if not builder.taken:
        builder.add(Step(FIRST[builder.layouts[0]], spec.seed))
    return converted(builder.finish(), tuple(builder.examples), spec.types, Draw(f"{spec.seed} parts"))


def draw_spec(
    seed: int, least: int = 1, most: int = 7, start: str | None = None, blocks: Iterable[str] | None = None
) -> Spec:
    """Return the description of a random network that a seed stands for, of so many blocks after the first layers.

    ``start`` (one of ``STARTS``) and ``blocks`` leave less to chance.
    """
    draw = Draw(seed)
    start = start or draw.choice(list(STARTS))
    builder = _Builder(Spec(start, seed, ()))
    for layout in list(builder.layouts):
        if layout in FIRST:
            builder.add(Step(FIRST[layout], draw.torch_seed()))
    names = sorted(TABLE) if blocks is None else list(blocks)
    wanted = len(builder.taken) + draw.randint(least, most)
    for _ in range(40 * most):
        if len(builder.taken) >= wanted:
            break
        builder.add(Step(_next_block(builder, names, draw), draw.torch_seed()))
    spec = Spec(start, seed, tuple(builder.taken))
    narrower = replace(spec, types=draw_types(draw))
    return narrower if narrower == spec or _can_be(narrower) else spec


def _can_be(spec: Spec) -> bool:
    """Whether a network can be in narrow types: nothing in it jumps, and torch runs it."""
    jumps = any(step.block in TABLE and TABLE[step.block].family == integers.DISCRETE for step in spec.steps)
    return not jumps and runs(*build(spec))


def _next_block(builder: _Builder, names: Sequence[str], draw: Draw) -> str:
    """Return a block that reads what there is; every third makes new channels, which can be cut in any case."""
    first = [FIRST[layout] for layout in builder.layouts if layout in FIRST]
    if first and draw.flip(0.35):
        return AGAIN if draw.flip(0.2) else first[-1]
    there = {ANY, *builder.layouts}
    suited = [name for name in names if there.issuperset(TABLE[name].takes)] or list(names)
    if draw.flip():
        return draw.choice(suited)
    family = draw.choice(sorted({TABLE[name].family for name in suited}))
    return draw.choice([name for name in suited if TABLE[name].family == family])


def _inputs(layouts: Sequence[str], draw: Draw) -> tuple[list[str], list[Tensor]]:
    """Return the layouts and the example inputs of a network."""
    seed_all(draw.torch_seed())
    nodes = draw.randint(4, 7)
    shapes = [_shape(layout, nodes, draw) for layout in layouts]
    return [layout.rstrip("123") for layout in layouts], list(random_inputs(layouts, shapes))


def random_inputs(layouts: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """Return random inputs in float64; words are of the whole vocabulary, and edges run between all nodes."""
    sizes = {layout: shape[0] for layout, shape in zip(layouts, shapes, strict=True)}
    values: list[Tensor] = []
    for layout, shape in zip(layouts, shapes, strict=True):
        if layout in ("ids", "edge"):
            values.append(torch.randint(0, sequences.VOCABULARY if layout == "ids" else sizes["node"], shape))
        else:
            values.append(torch.randn(shape, dtype=torch.float64))
    return tuple(values)


def _shape(layout: str, nodes: int, draw: Draw) -> tuple[int, ...]:
    channels = draw.randint(2, 5)
    if layout == "ids":
        return (2, draw.randint(3, 5))
    if layout == "edge":
        return (2, draw.randint(6, 9) + nodes)
    if layout == "vector":
        return (2, channels)
    if layout == "node":
        return (nodes, channels)
    if layout == "token":
        return (2, draw.randint(3, 6), channels)
    sizes = {"map1": [draw.randint(4, 8)], "map2": draw.one_of([4, 4], [4, 6], [5, 3], [6, 4]), "map3": [2, 4, 3]}
    return (2, channels, *sizes[layout])


def _is_usable(value: Tensor, layout: str) -> bool:
    """Whether a value is small enough, has channels and positions, and says something."""
    if value.dim() < (3 if layout == "map" else {"token": 3}.get(layout, 2)) or value.dim() > 5 or not value.numel():
        return False
    small = value[0].numel() <= LARGEST and value.shape[CHANNEL_DIM[layout]] <= WIDEST
    return small and bool(value.isfinite().all()) and 1e-3 < float(value.abs().max()) < 1e3
