"""The part of the nodes behind ``torch.SymInt`` and its kin that computes nothing: what they are, and plain values.

torch asks nothing of a node but its methods. A truth that the code branches on is noted as a guard, and a size that the
code wants as a plain number is fixed. Questions about memory layout are answered as in this run, and not noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import sympy

from swdc.capture.claims import Claim
from swdc.capture.guards import Guards
from swdc.capture.real_numbers import Real
from swdc.capture.size_sums import Sum, number

Value = Any
"""A size, a floating-point number, or a truth that is not decided yet."""


class _Environment:
    """Answers the code of torch in Python where it can do without the answer: nothing is noted."""

    def evaluate_sym_node(self, node: BasicNode, *_: Any, **__: Any) -> bool:
        return node.guard_or_false()

    def _maybe_evaluate_static(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Joint:
    """Truths of which all, or any, have to be true."""

    of: Callable[[Iterable[bool]], bool]
    parts: tuple[Any, ...]


def negated(value: Any) -> Any:
    """Return the opposite of a truth."""
    if isinstance(value, Joint):
        return Joint(any if value.of is all else all, tuple(map(negated, value.parts)))
    return value.negated() if isinstance(value, Claim) else not value


class BasicNode:
    """A node that ``torch.SymInt``, ``torch.SymFloat`` or ``torch.SymBool`` holds."""

    __slots__ = ("guards", "value")
    constant = None
    shape_env = _Environment()
    expr = sympy.Dummy("size")
    """torch looks at it where it would like to know more without a guard, and finds nothing."""

    def __init__(self, guards: Guards, value: Value) -> None:
        self.guards, self.value = guards, value

    # -- what it is ---------------------------------------------------------------------------------------------

    def is_int(self) -> bool:
        return isinstance(self.value, Sum)

    def is_float(self) -> bool:
        return isinstance(self.value, Real | float)

    def is_bool(self) -> bool:
        return isinstance(self.value, Claim | Joint | bool)

    def is_nested_int(self) -> bool:
        return False

    def is_symbolic(self) -> bool:
        return True

    def has_hint(self) -> bool:
        return True

    def is_constant(self) -> bool:
        return isinstance(self.value, float | bool) or (isinstance(self.value, Sum) and self.value.constant is not None)

    def maybe_as_int(self) -> int | None:
        return self.value.constant if isinstance(self.value, Sum) else None

    def maybe_as_float(self) -> float | None:
        return self.value if isinstance(self.value, float) else None

    def maybe_as_bool(self) -> bool | None:
        return self.value if isinstance(self.value, bool) else None

    def nested_int(self) -> None:
        return None

    def clone(self) -> BasicNode:
        return self

    def str(self) -> str:
        return str(self.value)

    _graph_repr = __repr__ = __str__ = str

    @property
    def _hint(self) -> bool | None:
        return self.value.holds(self.guards.hints) if isinstance(self.value, Claim) else None

    @property
    def hint(self) -> Any:
        if isinstance(self.value, Sum):
            return self.guards.hint(self.value)
        return self.value.hint if isinstance(self.value, Real) else self.value

    # -- plain numbers ------------------------------------------------------------------------------------------

    def wrap_int(self, value: int) -> BasicNode:
        return type(self)(self.guards, number(value))

    def wrap_float(self, value: float) -> BasicNode:
        return type(self)(self.guards, float(value))

    def wrap_bool(self, value: bool) -> BasicNode:
        return type(self)(self.guards, value)

    def int_(self) -> int:
        return self.guard_int()

    def guard_int(self, *_: Any) -> int:
        """Return the size as a plain number, which fixes it."""
        assert isinstance(self.value, Sum)
        return self.guards.fixed(self.value)

    def guard_float(self, *_: Any) -> float:
        """Return the number as a plain one, which fixes the sizes in it."""
        if isinstance(self.value, Real):
            self.guards.fix_all(self.value)
            return self.value.hint
        assert isinstance(self.value, float)
        return self.value

    def bool_(self) -> bool:
        """Return whether it is true in this run, which Python code asks."""
        return self._decided(self.value)

    def _decided(self, value: Any) -> bool:
        if isinstance(value, Joint):
            return value.of(map(self._decided, value.parts))
        return self.guards.decide(value) if isinstance(value, Claim) else value

    def guard_bool(self, *_: Any) -> bool:
        """Return whether it is true in this run, which the code of torch in C++ asks."""
        with self.guards.inside_operator():
            return self.bool_()

    def expect_true(self, *_: Any) -> bool:
        """Return whether it is true, which the operator that asks demands."""
        return self.guards.decide(self.value, demanded=True) if isinstance(self.value, Claim) else self.bool_()

    def guard_or_false(self, *_: Any) -> bool:
        """Return whether it is true in this run. torch asks so where it can do without the answer."""
        return self._in_this_run(self.value)

    guard_or_true = guard_size_oblivious = guard_or_false

    def _in_this_run(self, value: Any) -> bool:
        if isinstance(value, Joint):
            return value.of(map(self._in_this_run, value.parts))
        return value.holds(self.guards.hints) if isinstance(value, Claim) else value

    def statically_known_true(self, *_: Any) -> bool:
        return self.value is True or (isinstance(self.value, Claim) and self.value.proven() is True)

    def _made(self, value: Value) -> Self:
        return type(self)(self.guards, value)

    # -- memory layout ------------------------------------------------------------------------------------------

    def _dense(self, sizes: Sequence[Any], strides: Sequence[Any], order: Sequence[int]) -> Any:
        """Whether elements follow one another if the dimensions of ``order`` are walked from the innermost on."""
        expected = 1
        for dim in order:
            if sizes[dim].hint != 1 and strides[dim].hint != expected:
                return self.wrap_bool(False)
            expected *= sizes[dim].hint
        return self.wrap_bool(True)

    def is_contiguous(self, sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
        return self._dense(sizes, strides, range(len(sizes))[::-1])

    def is_channels_last_contiguous_2d(self, sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
        return self._dense(sizes, strides, (1, 3, 2, 0)) if len(sizes) == 4 else self.wrap_bool(False)

    def is_channels_last_contiguous_3d(self, sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
        return self._dense(sizes, strides, (1, 4, 3, 2, 0)) if len(sizes) == 5 else self.wrap_bool(False)

    is_channels_last_strides_2d = is_channels_last_contiguous_2d
    is_channels_last_strides_3d = is_channels_last_contiguous_3d

    def is_non_overlapping_and_dense(self, sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
        return self._dense(sizes, strides, sorted(range(len(sizes)), key=lambda dim: strides[dim].hint))

    def is_non_overlapping_and_dense_indicator(self, sizes: Sequence[Any], strides: Sequence[Any]) -> Any:
        return self.wrap_int(int(self.is_non_overlapping_and_dense(sizes, strides).bool_()))
