"""What the tests share: randomised models, random plans, the way from a model to its certificate, golden text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import fx, nn

import swdc
from swdc.analysis.identities import Identities
from swdc.ir.call import Call
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.graph import SHAPE
from swdc.ir.groups import ChannelGroup, Frozen
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ops import Operator, calls
from swdc.ops.identity import Identity

Module = TypeVar("Module", bound=nn.Module)


class Function(nn.Module):
    """A model whose forward is a function of itself and its inputs; parts are modules, parameters or buffers."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> Any:
        return self.function(self, x, *more)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    """Return a convolution that keeps the size of the feature map unless told otherwise."""
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, **options})


def vector_net(function: Any, width: int = 8, **parts: Any) -> Function:
    """A dense layer to 8 channels, a function of it, and a dense layer that reads what comes of it."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = m.b(function(torch.relu(m.a(x))))
        return result

    return Function(forward, a=nn.Linear(5, 8), b=nn.Linear(width, 2), **parts)


def randomise(model: Module, seed: int = 0) -> Module:
    """Give every parameter and statistic that starts constant random values, and return the model in float64.

    Gains, layer scales and variances are drawn around one half to one and a half, everything else that is constant
    (zero heads, zero biases, running means) from a normal distribution: constants hide errors.
    """
    generator = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or not _is_constant(tensor):
                continue
            positive = name.endswith("running_var") or bool((tensor.flatten()[:1] == 1).all())
            drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(0.5 + drawn if positive else (drawn - 0.5) * 2)
    return model


def _is_constant(tensor: torch.Tensor) -> bool:
    return tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all())


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    """Return a random float64 tensor of the given shape; one sample of 3 x 8 x 8 by default."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape or (1, 3, 8, 8), generator=generator, dtype=torch.float64)


def traced(model: nn.Module, example: Any = None, seed: int = 0, dynamic: Sequence[str] | None = None) -> Program:
    """Return the program of a randomised model in evaluation mode."""
    return swdc.trace(randomise(model, seed).eval(), image() if example is None else example, dynamic=dynamic)


def plan_of(program: Program, kept: dict[str, Sequence[int]]) -> Plan:
    """Return a plan that keeps the given channels, and all of the groups that are not named."""
    widths = {g.name: g.width for g in program.groups}
    channels = {name: tuple(kept.get(name, range(width))) for name, width in widths.items()}
    return Plan(channels, widths, program.hash(), {})


def random_plan(program: Program, seed: int = 0, least: float = 0.2, most: float = 0.8) -> Plan:
    """Return a plan that keeps a random share between ``least`` and ``most`` of every group, at random places."""
    draw = random.Random(seed)
    kept: dict[str, Sequence[int]] = {}
    for group in program.groups:
        number = min(max(1, round(group.width * draw.uniform(least, most))), max(1, group.width - 1))
        kept[group.name] = tuple(sorted(draw.sample(range(group.width), number)))
    return plan_of(program, kept)


def certified(program: Program, plan: Plan | None = None, seed: int = 0) -> tuple[Program, Program]:
    """Mask and slim a program, assert an exact certificate, and return both."""
    chosen = plan or random_plan(program, seed)
    masked, slim = swdc.mask(program, chosen), swdc.slim(program, chosen)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, f"{certificate}\n{program.explain()}"
    return masked, slim


def assert_slims(
    model: nn.Module, example: Any = None, seeds: Sequence[int] = (0, 1), dynamic: Sequence[str] | None = None
) -> Program:
    """Assert that a model has groups, and that random plans give exact certificates; return its program."""
    program = traced(model, example, dynamic=dynamic)
    assert program.groups, program.explain()
    for seed in seeds:
        certified(program, seed=seed)
    return program


def assert_exact(model: nn.Module, example: Any = None, seeds: Sequence[int] = (0, 1)) -> Program:
    """Assert that random plans change nothing but rounding in float64, 1e-12 at most; return the program."""
    program = traced(model, example)
    assert program.groups, program.explain()
    for seed in seeds:
        plan = random_plan(program, seed)
        certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan), batches=(1, 2, 3, 5))
        assert certificate.exact, f"{certificate}\n{program.explain()}"
        ordinary = [c.relative_error for c in certificate.comparisons if c.mode != "corners"]  # huge numbers round more
        assert max(ordinary) <= 1e-12, certificate
    return program


def assert_same(expected: Any, actual: Any, tolerance: float = 1e-12) -> None:
    """Assert that two nested outputs agree to a relative tolerance."""
    assert flat_outputs(expected), "there is nothing to compare"
    assert relative_error(expected, actual) <= tolerance


def assert_equal(expected: Any, actual: Any) -> None:
    """Assert that two nested outputs agree bit by bit."""
    one, other = flat_outputs(expected), flat_outputs(actual)
    assert one
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b), f"largest difference {(a - b).abs().max():.3e}"


def members(program: Program) -> list[set[str]]:
    """Return for each group its members as ``tensor[dim]``."""
    return [{f"{m.tensor}[{m.dim}]" for m in group.members} for group in program.groups]


def group_with(program: Program, slot: str) -> ChannelGroup:
    """Return the one group that has the member ``tensor[dim]``."""
    found = [g for g in program.groups if slot in {f"{m.tensor}[{m.dim}]" for m in g.members}]
    assert len(found) == 1, f"{slot} is in {[g.name for g in found]}\n{program.explain()}"
    return found[0]


def frozen_at(program: Program, tensor: str, dim: int) -> list[Frozen]:
    """Return what is frozen of one dimension of one tensor."""
    return [f for f in program.frozen if (f.tensor, f.dim) == (tensor, dim)]


def reason_at(program: Program, tensor: str, dim: int) -> str:
    """Return the one reason why a dimension of a tensor is frozen."""
    found = frozen_at(program, tensor, dim)
    assert len(found) == 1, f"{tensor}[{dim}]: {found}\n{program.explain()}"
    return str(found[0].reason)


def operators(program: Program) -> list[str]:
    """Return the operators and leaf modules of a program, in order."""
    return [
        str(n.target) if n.op == "call_function" else type(program.get_submodule(str(n.target))).__name__
        for n in program.graph.nodes
        if n.op in ("call_function", "call_module")
    ]


def call_of(program: Program, name: str) -> tuple[Operator, Call]:
    """Return the one call of an operator, and what is known of that operator."""
    found = [(operator, call) for operator, call in calls(program).values() if call.operator == name]
    assert len(found) == 1, f"{name} is called {len(found)} times by\n{text(program)}"
    return found[0]


def identity_of(program: Program, name: str) -> Identity | None:
    """Return what the one call of an operator gives back, ``None`` where it computes something."""
    return Identities(program, {}).of(call_of(program, name)[1].node)


def text(program: Program) -> str:
    """Return a readable dump of a program: nodes with operators, arguments and shapes, modules, and tensors.

    The batch is written ``N``.
    """
    lines = [_line(node) for node in program.graph.nodes]
    lines += ["", *(f"{path}: {module}" for path, module in program.leaves.items())]
    lines += ["", *(f"{name}: {tuple(t.shape)}" for name, t in program.tensors.items())]
    return re.sub(rf"\b{program.facts.batch}\b", "N", "\n".join(lines)) + "\n"


def _line(node: fx.Node) -> str:
    kinds = {"placeholder": "input", "get_attr": f"tensor {node.target}", "output": "output"}
    arguments = [str(a) for a in node.args] + [f"{k}={v}" for k, v in node.kwargs.items()]
    called = "" if node.op in ("placeholder", "get_attr") else f"({', '.join(arguments)})"
    shape = "" if node.op in ("get_attr", "output") else f"  {_plain(node.meta.get(SHAPE))}"
    return f"{node.name} = {kinds.get(node.op, node.target)}{called}{shape}"


def _plain(shape: Any) -> str:
    if isinstance(shape, tuple):
        return "(" + ", ".join(_plain(s) for s in shape) + ")"
    return str(shape)
