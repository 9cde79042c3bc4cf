"""Element-wise operators: broadcasting, residual sums, and what a dead channel becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from swdc.analysis.identities import Identities
from swdc.ir.program import Program
from swdc.ops import calls, lookup
from swdc.ops.elementwise import Pointwise
from swdc.ops.identity import Evaluation, Identity
from tests.support import (
    Function,
    assert_slims,
    certified,
    conv,
    group_with,
    identity_of,
    image,
    members,
    plan_of,
    random_plan,
    reason_at,
    traced,
)

Activation = Callable[[torch.Tensor], torch.Tensor]

KEEP_ZERO: dict[str, Activation] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "tanh": torch.tanh,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "leaky_relu": F.leaky_relu,
    "softsign": F.softsign,
    "hardshrink": F.hardshrink,
    "tanhshrink": F.tanhshrink,
    "abs": torch.abs,
    "sin": torch.sin,
    "square": torch.square,
    "neg": torch.neg,
    "expm1": torch.expm1,
    "clamp": lambda x: x.clamp(-1, 1),
    "erf": torch.erf,
    "power": lambda x: x**3,
    "atan": torch.atan,
    "scaled": lambda x: x * 3 / 2,
    "double": lambda x: x + x,
    "self_gated": lambda x: x * torch.sigmoid(x),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "comparison": lambda x: x * ((x > 0) & (x < 1)),
    "negated": lambda x: x * ~(x > 0),
    "maximum": lambda x: torch.maximum(x, 0.1 * x),
    "cast": lambda x: x.to(torch.float32).to(torch.float64),
    "copy": lambda x: x.clone().contiguous().detach() + x,
    "divided": lambda x: x / (1 + x.abs()),
}
GIVE_A_CONSTANT: dict[str, Activation] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "cos": torch.cos,
    "exp": torch.exp,
    "logsigmoid": F.logsigmoid,
    "plus": lambda x: x + 1,
    "minus": lambda x: 2 - x,
    "threshold": lambda x: F.threshold(x, 0.5, 0.25),
    "clamped": lambda x: x.clamp(min=0.5),
    "power": lambda x: (x + 2) ** 2,
    "log1p": lambda x: torch.log1p(x * x + 1),
    "where": lambda x: torch.where(x >= 0, x + 1, x),
    "root": lambda x: (x * x + 2).sqrt(),
    "cast": lambda x: F.softplus(x).to(torch.float32),
    "floor": lambda x: torch.div(x * x + 3, 2, rounding_mode="floor"),
    "quotient": lambda x: (x * x + 1) / (x.abs() + 3),
    "nested": lambda x: torch.exp(torch.sigmoid(x)),
}


@pytest.mark.parametrize("name", KEEP_ZERO)
def test_zero_stays_zero_up_to_a_padded_convolution(name: str) -> None:
    model = Function(lambda m, x: m.d(KEEP_ZERO[name](m.c(x))), c=conv(3, 6), d=conv(6, 2))
    program = traced(model)
    assert [group.width for group in program.groups] == [6]
    certified(program)


@pytest.mark.parametrize("name", GIVE_A_CONSTANT)
def test_a_constant_is_folded_into_a_dense_layer(name: str) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = GIVE_A_CONSTANT[name](m.a(x))
        return m.b(y.to(m.b.weight.dtype))

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(4, 5))
    assert [group.width for group in program.groups] == [8], program.explain()
    assert program.coupling.constants
    certified(program)


@pytest.mark.parametrize("name", ["sigmoid", "plus", "where"])
def test_a_constant_before_a_padded_convolution_is_frozen(name: str) -> None:
    program = traced(Function(lambda m, x: m.d(GIVE_A_CONSTANT[name](m.c(x))), c=conv(3, 6), d=conv(6, 2)))
    assert "its dead value is not a constant that can be folded" in reason_at(program, "c.weight", 0)


NOT_DEFINED: dict[str, Activation] = {
    "reciprocal": torch.reciprocal,
    "log": lambda x: torch.log(x.abs()),
    "rsqrt": lambda x: torch.rsqrt(x.abs()),
    "ratio": lambda x: (x + 1) / x,
    "self_ratio": lambda x: x / x,
    "inverse": lambda x: 1 / x,
    "power": lambda x: x.abs() ** -1,
}


@pytest.mark.parametrize("name", NOT_DEFINED)
def test_what_is_not_defined_at_zero_is_frozen(name: str) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(m.n(NOT_DEFINED[name](m.c(x))))  # the norm would make a zero of any number, but not of infinity

    program = traced(Function(forward, c=conv(3, 6), n=nn.BatchNorm2d(6), d=conv(6, 2)))
    assert "is not defined for a dead channel" in reason_at(program, "c.weight", 0)


def test_a_residual_sum_couples_both_sides() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.d(torch.relu(y + m.c(torch.relu(m.b(y)))))

    program = assert_slims(Function(forward, a=conv(3, 6), b=conv(6, 4), c=conv(4, 6), d=conv(6, 2)))
    assert members(program) == [
        {"a.weight[0]", "a.bias[0]", "b.weight[1]", "c.weight[0]", "c.bias[0]", "d.weight[1]"},
        {"b.weight[0]", "b.bias[0]", "c.weight[1]"},
    ]


def test_summed_branches_of_a_lenet() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(torch.relu(m.stem(x)), 2)
        z = F.max_pool2d(torch.relu(m.left(y)), 2) + F.max_pool2d(torch.relu(m.right(y)), 2)
        return F.log_softmax(m.head(torch.relu(m.last(z)).flatten(1)), 1)

    model = Function(
        forward, stem=conv(1, 6, 5), left=conv(6, 8), right=conv(6, 8), last=nn.Conv2d(8, 12, 4), head=nn.Linear(12, 4)
    )
    program = assert_slims(model, image(1, 1, 16, 16))
    assert [group.width for group in program.groups] == [6, 8, 12]
    assert {"left.weight[0]", "right.weight[0]", "last.weight[1]"} <= members(program)[1]


def test_a_sum_with_the_input_is_frozen() -> None:
    program = traced(Function(lambda m, x: m.d(x + m.c(x)), c=conv(3, 3), d=conv(3, 2)))
    assert "is the model's input" in reason_at(program, "c.weight", 0)


def test_one_channel_spread_over_many_freezes_nothing_but_itself() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(y * torch.sigmoid(m.spatial(y)))

    program = assert_slims(Function(forward, c=conv(3, 6), spatial=conv(6, 1), d=conv(6, 2)))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "spatial.weight[1]", "d.weight[1]"}]


def test_a_sum_with_one_channel_spread_over_many_is_not_zero() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(y + m.spatial(y))

    program = traced(Function(forward, c=conv(3, 6), spatial=conv(6, 1), d=conv(6, 2)))
    assert "its dead value" in reason_at(program, "c.weight", 0)


def test_squeeze_and_excitation() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        gate = torch.sigmoid(m.up(torch.relu(m.down(y.mean((2, 3), keepdim=True)))))
        return m.d(y * gate)

    parts = {"c": conv(3, 8), "down": conv(8, 4, 1), "up": conv(4, 8, 1), "d": conv(8, 2)}
    program = assert_slims(Function(forward, **parts))
    assert group_with(program, "c.weight[0]") is group_with(program, "up.weight[0]")
    assert group_with(program, "down.weight[0]").width == 4


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64])
def test_buffers_of_any_kind_are_cut_along(dtype: torch.dtype) -> None:
    keep = torch.tensor([1, 0, 1, 1, 1, 1, 0, 1]).view(8, 1, 1).to(dtype)
    program = traced(Function(lambda m, x: m.d(m.c(x) * m.keep), c=conv(3, 8), d=conv(8, 2), keep=keep))
    _, slim = certified(program, plan_of(program, {"c": [0, 1, 2]}))
    assert torch.equal(slim.get_buffer("keep"), keep[:3])


def test_masked_fill_keeps_channels_that_it_does_not_change() -> None:
    def forward(value: float) -> Any:
        return lambda m, x: m.d(m.c(x).masked_fill(x[:, :1] > 0, value))

    assert_slims(Function(forward(0.0), c=conv(3, 6), d=conv(6, 2)))
    program = traced(Function(forward(1.0), c=conv(3, 6), d=conv(6, 2)))
    assert "its dead value" in reason_at(program, "c.weight", 0)


def test_different_constants_in_one_concatenation() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(torch.cat([torch.sigmoid(y), torch.relu(y), F.softplus(m.c(x))], 1))

    program = traced(Function(forward, a=nn.Linear(5, 6), c=nn.Linear(5, 4), b=nn.Linear(16, 2)), image(3, 5))
    for seed in range(3):
        certified(program, random_plan(program, seed))


def test_every_name_has_a_case() -> None:
    assert len(Pointwise.names) == len(set(Pointwise.names))


def vectors(function: Callable[..., torch.Tensor], **parts: Any) -> Function:
    """Two dense layers to 8 channels, a function of both, and a dense layer that reads it."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(function(torch.relu(m.a(x)), torch.tanh(m.c(x))))

    return Function(forward, a=nn.Linear(5, 8), c=nn.Linear(5, 8), b=nn.Linear(8, 2), **parts)


ZEROS: list[Callable[..., torch.Tensor]] = [
    lambda y, z: torch.addcmul(y, z, z.exp(), value=0.5),
    lambda y, z: torch.addcdiv(y, z, z.exp() + 1),
    lambda y, z: torch.lerp(y, z, 0.3),
    lambda y, z: torch.lerp(y, z, z.sigmoid()),
    lambda y, z: torch.minimum(y, z) + torch.fmax(y, z),
    lambda y, z: y.clamp(z, z + 1) + z,
    lambda y, z: torch.clamp(y, max=z),
    lambda y, z: torch.fmod(y, z.exp()) + torch.remainder(z, y + 1),
    lambda y, z: torch.remainder(z, 0.3) + torch.floor_divide(y, 0.1),
    lambda y, z: torch.div(y, z + 2, rounding_mode="floor") + z,
    lambda y, z: torch.atan2(z, y + 1) + torch.hypot(y, z),
    lambda y, z: torch.where(y > 0, y, z),
    lambda y, z: torch.where(y == 0, 0.0, z),
    lambda y, z: torch.where(z < 0, y, 0.0) + z,
    lambda y, z: y.masked_fill(z > 0.5, 0.0) + z,
    lambda y, z: z.masked_fill(y != 0, 3.0) + y,
    lambda y, z: z.masked_fill(y != 0, torch.ones((), dtype=y.dtype)) + y,
    lambda y, z: (z.bool() & y.bool()).to(y.dtype) + y + z,
    lambda y, z: (z.bool() ^ y.bool()).double() * y + z,
    lambda y, z: y.sign() * z.int() + z + y.isinf(),
    lambda y, z: torch.nan_to_num(y) + torch.xlogy(z, y + 1),
    lambda y, z: torch.ops.aten.copy(y, z) + y,
    lambda y, z: torch.ops.aten.fill.Scalar(y, 2.0) * y + z,
    lambda y, z: torch.ops.aten._to_copy(y, dtype=torch.float64) + torch.ops.aten.zero(z),
    lambda y, z: y.type_as(torch.ones(1, 1, 1, dtype=z.dtype)) + z.to(y[0, 0]),
    lambda y, z: torch.float_power(y, 2).to(y.dtype) + z.pow(3) + z.tan() + z.asinh(),
    lambda y, z: torch.broadcast_tensors(y, z[:1])[0] + torch.broadcast_tensors(y, z)[1],
    lambda y, z: torch.subtract(y, z, alpha=3).multiply(2).true_divide(4) + torch.maximum(input=z, other=y),
]


@pytest.mark.parametrize("function", ZEROS)
def test_functions_of_two_values_leave_zeros(function: Callable[..., torch.Tensor]) -> None:
    program = assert_slims(vectors(function), image(3, 5), seeds=(0, 1))
    assert group_with(program, "a.weight[0]") == group_with(program, "c.weight[0]")


@pytest.mark.parametrize(
    "function",
    [
        lambda y, z: torch.where(z > 0.1, 1.0, 0.5) + y,  # a condition that is known
        lambda y, z: torch.lerp(y.exp(), z.exp(), z),  # both ends are one
        lambda y, z: (y + z).ge(0).to(y.dtype) + z,
        lambda y, z: torch.sigmoid(y).to(torch.int64) + z.cos().bool().to(y.dtype) + z,
        lambda y, z: torch.ops.aten.fill.Scalar(y, 1.7) + z,
        lambda y, z: torch.ops.aten.copy(y, z.exp()) - y,
        lambda y, z: y.masked_fill(z == 0, 2.5) + z.exp(),
        lambda y, z: torch.isclose(y, z).to(y.dtype) + z,
    ],
)
def test_constants_of_two_values_are_folded(function: Callable[..., torch.Tensor]) -> None:
    program = assert_slims(vectors(function), image(3, 5), seeds=(0, 1))
    assert program.coupling.constants


@pytest.mark.parametrize(
    "function",
    [
        lambda y, z: torch.fmod(z, y) + torch.addcdiv(y, z, y),
        lambda y, z: torch.floor_divide(z, y),
        lambda y, z: torch.atanh(z + 1) + y,
    ],
)
def test_what_is_not_defined_at_zero_freezes(function: Callable[..., torch.Tensor]) -> None:
    program = traced(vectors(function), image(3, 5))
    assert "is not defined for a dead channel" in reason_at(program, "a.weight", 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda y, z: torch.where(z[:, :1] > 0, y, z + 1),  # the condition is the same for all channels
        lambda y, z: torch.lerp(y.exp(), z, 0.5) * torch.where(z[:1] > y[:1], z[:1], 1.0)[:, :1],
    ],
)
def test_choices_that_are_not_certain(function: Callable[..., torch.Tensor]) -> None:
    program = traced(vectors(function), image(3, 5))
    for seed in (0, 1):
        if program.groups:
            certified(program, seed=seed)


def test_one_channel_broadcast_to_all_others() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(y[:, :1] * y + torch.where(y[:, -1:] > 0, y, 0.0))

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(3, 5))
    assert sum(group.width for group in program.groups) == 6  # the first and the last are taken by their number


def test_scalars_take_part_without_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        scale = (m.s.exp() + y.sum().tanh()).clamp(m.s, m.s + 3)
        return m.b(y * scale) + scale

    parts = {"a": nn.Linear(5, 8), "b": nn.Linear(8, 2), "s": nn.Parameter(torch.tensor(0.3))}
    program = assert_slims(Function(forward, **parts), image(3, 5))
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[1]"}]


def test_an_operator_that_stays_in_place_freezes_what_it_changes() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        part = y[:, 2:4]
        part.mul_(2.0)
        return m.b(torch.relu(y))

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(3, 5))
    for seed in (0, 1):
        certified(program, seed=seed)


@pytest.mark.filterwarnings("ignore:aten.*keeps its evaluation mode in training")
def test_noise_is_none_in_evaluation() -> None:
    def function(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return F.rrelu(z) + F.alpha_dropout(y, training=False) + F.feature_alpha_dropout(z, training=False)

    assert_slims(vectors(function), image(3, 5))


@pytest.mark.filterwarnings("ignore:aten.*keeps its evaluation mode in training")
def test_noise_in_evaluation_is_not_known() -> None:
    program = traced(vectors(lambda y, z: F.rrelu(z, training=True) + y), image(3, 5))
    assert "draws random numbers" in reason_at(program, "a.weight", 0)


@pytest.mark.parametrize("function", [F.relu, torch.sign, torch.round, lambda x: x.clamp(-0.5, 0.5)])
def test_a_function_that_is_applied_twice_gives_back_its_result(function: Activation) -> None:
    program = traced(Function(lambda m, x: function(function(m.c(x)).detach()), c=conv(3, 6)))
    first, _, second = list(calls(program))[1:]
    name = str(second.target)
    assert lookup(name).identity(calls(program)[first][1], evaluation(program)) is None
    assert lookup(name).identity(calls(program)[second][1], evaluation(program)) is None  # it reads another value
    known = evaluation(program, {first.next: first})
    assert lookup(name).identity(calls(program)[second][1], known) == Identity(first.next, copies=True)


def test_a_clamp_of_other_bounds_computes_something() -> None:
    program = traced(Function(lambda m, x: m.c(x).clamp(-1, 1).clamp(-1, 2), c=conv(3, 6)))
    assert all(Identities(program, {}).of(node) is None for node in calls(program))


@pytest.mark.parametrize("function", [torch.sigmoid, F.hardsigmoid, torch.exp, F.relu6, torch.abs])
def test_a_relu_gives_back_what_is_never_negative(function: Activation) -> None:
    program = traced(Function(lambda m, x: function(m.c(x)).relu(), c=conv(3, 6)))
    identity = identity_of(program, "aten.relu.default")
    assert identity is not None
    assert identity.copies


@pytest.mark.parametrize("function", [torch.tanh, F.gelu, F.elu, torch.sin, torch.floor])
def test_a_relu_of_what_may_be_negative_computes_something(function: Activation) -> None:
    program = traced(Function(lambda m, x: function(m.c(x)).relu(), c=conv(3, 6)))
    assert identity_of(program, "aten.relu.default") is None


def evaluation(program: Program, instead: dict[fx.Node, fx.Node] | None = None) -> Evaluation:
    """Return what operators may ask of a program; ``instead`` names what stands for some nodes."""
    return Evaluation(calls(program), program.tensors, frozenset(), True, instead or {})


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: (x * 0).to(torch.int8) + m.small + m.large,
        lambda m, x: (x * 0).to(torch.int64).add(1) / 3,
        lambda m, x: (x * 10).int().masked_fill(x >= 0, 1),
        lambda m, x: (x * 10).to(torch.uint8).sub(1),
    ],
)
def test_integers_are_promoted_wrapped_and_divided_as_torch_does(function: Any) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        return m.b(y + function(m, y))

    parts = {"small": torch.full((8,), 100, dtype=torch.int8), "large": torch.full((8,), 100, dtype=torch.int64)}
    assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2), **parts), image(4, 5), seeds=(0,))


def test_integers_divided_by_a_dead_zero_are_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.remainder(5, (m.a(x) * 1000 + 1e6 * m.a(x).sign()).long()).to(x.dtype))

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), image(4, 5))
    assert "is not defined for a dead channel" in reason_at(program, "a.weight", 0)
