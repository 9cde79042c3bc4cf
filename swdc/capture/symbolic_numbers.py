"""Sizes, numbers and truths for a model's code to compute with: nodes behind ``torch.SymInt`` and its kin.

torch asks nothing of a node but its methods. Sizes stay exact; a truth that the code branches on is noted as a guard,
and a size that the code wants as a plain number is fixed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from swdc.capture import size_algebra as algebra
from swdc.capture.claims import Claim
from swdc.capture.guards import Guards
from swdc.capture.real_numbers import Real, computed, ratio_of
from swdc.capture.rounded_numbers import rounded
from swdc.capture.size_roots import root_of
from swdc.capture.size_sums import ONE, Sum, number
from swdc.capture.symbolic_node import BasicNode, Joint, negated


def _modulo(a: Sum, b: Sum) -> Sum:
    """Return ``a % b``; ``b`` is positive."""
    return a - b * algebra.floor_div(a, b)


class _Node(BasicNode):
    """A node that ``torch.SymInt``, ``torch.SymFloat`` or ``torch.SymBool`` holds."""

    __slots__ = ()

    # -- arithmetic ---------------------------------------------------------------------------------------------

    def _sizes(self, other: _Node) -> tuple[Sum, Sum]:
        return self.guards.settled(self.value), self.guards.settled(other.value)

    def _exactly(self, name: str, exact: Callable[[Sum, Sum], Sum], other: _Node) -> _Node:
        if self.is_int() and other.is_int():
            return self._made(exact(*self._sizes(other)))
        return self._real(name, other)

    def _real(self, name: str, *others: _Node) -> _Node:
        return self._made(computed(name, (self.value, *(o.value for o in others)), self.guards.hint))

    def add(self, other: _Node) -> _Node:
        return self._exactly("sum", Sum.__add__, other)

    def sub(self, other: _Node) -> _Node:
        return self._exactly("difference", Sum.__sub__, other)

    def mul(self, other: _Node) -> _Node:
        return self._exactly("product", Sum.__mul__, other)

    def neg(self) -> _Node:
        return self._made(-self.value) if isinstance(self.value, Sum) else self._real("negative")

    def pos(self) -> _Node:
        return self

    def _positive(self, size: Sum) -> bool:
        return self.guards.decide(Claim(">=", size - ONE))

    def int_floordiv(self, other: _Node) -> _Node:
        one, by = self._sizes(other)
        return self._made(algebra.floor_div(one, by) if self._positive(by) else algebra.floor_div(-one, -by))

    floordiv = int_floordiv

    def mod(self, other: _Node) -> _Node:
        if not (self.is_int() and other.is_int()):
            return self._made(self.guard_float() % other.guard_float())
        one, by = self._sizes(other)
        return self._made(_modulo(one, by) if self._positive(by) else -_modulo(-one, -by))

    def int_truediv(self, other: _Node) -> _Node:
        return self._real("quotient", other)

    truediv = float_truediv = int_truediv

    def pow_by_natural(self, other: _Node) -> _Node:
        size, result = self.value, ONE
        assert isinstance(size, Sum)
        for _ in range(other.guard_int()):
            result = result * size
        return self._made(result)

    def float_pow(self, other: _Node) -> _Node:
        return self._real("power", other)

    def pow(self, other: _Node) -> _Node:
        return self.pow_by_natural(other) if self.is_int() and other.is_int() else self.float_pow(other)

    def sym_float(self) -> _Node:
        return self._real("real") if isinstance(self.value, Sum) else self

    def sym_sqrt(self) -> _Node:
        return self._real("root")

    def sym_sum(self, nodes: Sequence[_Node]) -> _Node:
        return self._made(sum((node.value for node in nodes), number(0)))

    def abs(self) -> _Node:
        return self if self.ge(self._zero()).bool_() else self.neg()

    def _zero(self) -> _Node:
        return self._made(number(0) if self.is_int() else 0.0)

    def sym_max(self, other: _Node) -> _Node:
        return self._extreme("max", other)

    def sym_min(self, other: _Node) -> _Node:
        return self._extreme("min", other)

    def _extreme(self, kind: str, other: _Node) -> _Node:
        if self.guards.is_inside and kind == "max" and other.maybe_as_int() == 1:
            return self  # torch asks for it in strides, which matter only where no size is zero
        if self.is_int() and other.is_int():
            one, another = self._sizes(other)
            self.guards.proven(Claim(">=", one - another))
            return self._made(algebra.extreme(kind, one, another))
        first = self.ge(other).bool_() == (kind == "max")
        return self.sym_float() if first else other.sym_float()

    # -- rounding -----------------------------------------------------------------------------------------------

    def _rounded(self, how: str, exact: Callable[[Sum, Sum], Sum], plain: Callable[[float], int]) -> _Node:
        if isinstance(self.value, Sum):
            return self
        ratio = ratio_of(self.value)
        if ratio is not None and self._positive(ratio[1]):
            return self._made(exact(*map(self.guards.settled, ratio)))
        found = self._with_simple_factors(how)
        return self._made(number(plain(self.guard_float())) if found is None else found)

    def _with_simple_factors(self, how: str) -> Sum | None:
        if not isinstance(self.value, Real):
            return None
        root = root_of(self.value, self.guards)
        return rounded(self.value, self.guards, how) if root is None else root

    def floor(self) -> _Node:
        return self._rounded("floor", algebra.floor_div, lambda x: int(x // 1))

    def ceil(self) -> _Node:
        return self._rounded("ceil", algebra.ceil_div, lambda x: int(-(-x // 1)))

    def trunc(self) -> _Node:
        found = self._with_simple_factors("floor") if ratio_of(self.value) is None else None
        if found is not None:
            return self._made(found)
        negative = isinstance(self.value, Real | float) and self.lt(self._zero()).bool_()
        return self.ceil() if negative else self.floor()

    sym_int = trunc

    def round(self, ndigits: int | None = None) -> _Node:
        if isinstance(self.value, Sum):
            return self
        found = self._with_simple_factors("round") if ndigits is None else None
        if found is not None:
            return self._made(found)
        plain = round(self.guard_float(), ndigits)
        return self._made(number(plain) if isinstance(plain, int) else plain)

    def is_integer(self) -> _Node:
        return self._made(True if isinstance(self.value, Sum) else self.guard_float().is_integer())

    # -- truths -------------------------------------------------------------------------------------------------

    def _difference(self, other: _Node) -> Sum | None:
        if isinstance(self.value, Sum) and isinstance(other.value, Sum):
            return self.guards.settled(self.value - other.value)
        one, two = ratio_of(self.value), ratio_of(other.value)
        if one is None or two is None or not (self._positive(one[1]) and self._positive(two[1])):
            return None
        return self.guards.settled(one[0] * two[1] - two[0] * one[1])

    def _claim(self, other: _Node, claim: Callable[[Sum], Claim], plain: Callable[[float, float], bool]) -> _Node:
        if self.is_bool():
            return self._made(plain(self.bool_(), other.bool_()))
        difference = self._difference(other)
        if difference is None:
            return self._made(plain(self.guard_float(), other.guard_float()))
        found = claim(difference)
        proven = self.guards.proven(found)
        return self._made(found if proven is None else proven)

    def eq(self, other: _Node) -> _Node:
        return self._claim(other, lambda d: Claim("==", d), lambda a, b: a == b)

    def ne(self, other: _Node) -> _Node:
        return self._claim(other, lambda d: Claim("!=", d), lambda a, b: a != b)

    def ge(self, other: _Node) -> _Node:
        return self._claim(other, lambda d: Claim(">=", d), lambda a, b: a >= b)

    def gt(self, other: _Node) -> _Node:
        return self._claim(other, lambda d: Claim(">=", d - ONE), lambda a, b: a > b)

    def le(self, other: _Node) -> _Node:
        return self._claim(other, lambda d: Claim(">=", -d), lambda a, b: a <= b)

    def lt(self, other: _Node) -> _Node:
        return self._claim(other, lambda d: Claim(">=", -d - ONE), lambda a, b: a < b)

    def sym_not(self) -> _Node:
        return self._made(negated(self.value))

    def and_(self, other: _Node) -> _Node:
        return self._made(Joint(all, (self.value, other.value)))

    def or_(self, other: _Node) -> _Node:
        return self._made(Joint(any, (self.value, other.value)))

    sym_and, sym_or = and_, or_

    def bitwise_and(self, other: _Node) -> _Node:
        if self.is_bool() and other.is_bool():
            return self.and_(other)
        for one, another in ((self, other), (other, self)):
            mask = another.maybe_as_int()
            if one.is_int() and mask is not None and mask > 0 and mask & (mask + 1) == 0:  # the last binary digits
                return one.mod(self._made(number(mask + 1)))
        return self._digits(other, operator.and_)

    def bitwise_or(self, other: _Node) -> _Node:
        return self.or_(other) if self.is_bool() and other.is_bool() else self._digits(other, operator.or_)

    def bitwise_xor(self, other: _Node) -> _Node:
        return self._digits(other, operator.xor)

    def lshift(self, other: _Node) -> _Node:
        return self.mul(self._made(number(1 << other.guard_int())))

    def rshift(self, other: _Node) -> _Node:
        return self.int_floordiv(self._made(number(1 << other.guard_int())))

    def _digits(self, other: _Node, plain: Callable[[int, int], int]) -> _Node:
        """Return what an operator makes of the binary digits of two numbers, which fixes them."""
        one, another = (int(node.bool_()) if node.is_bool() else node.guard_int() for node in (self, other))
        made = plain(one, another)
        return self._made(bool(made) if self.is_bool() and other.is_bool() else number(made))

    def sym_ite(self, yes: _Node, no: _Node) -> _Node:
        return yes if self.bool_() else no


def sym_int(guards: Guards, size: Sum) -> int | torch.SymInt:
    """Return a size for a model's code to compute with; a constant one is a plain number."""
    return torch.SymInt(_Node(guards, size)) if size.constant is None else size.constant  # type: ignore[arg-type]


def size_of(value: Any) -> Any:
    """Return what torch holds in place of a number: a size, a real number, or the plain number itself."""
    node = getattr(value, "node", None)
    return node.value if isinstance(node, _Node) else number(value) if type(value) is int else value
