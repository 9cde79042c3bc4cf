"""Runs a model once on tensors without values whose sizes are symbols.

Beside each such tensor stands one with the sizes of the run. Operators run on these, which is fast, and a rule, or
torch's own Python code, says how the sizes of the result follow from symbols. Both must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.capture.guards import Guards
from swdc.capture.meta_cache import Forms
from swdc.capture.meta_run import OnShapes, as_export_does, empty
from swdc.capture.python_of_sizes import sizes_taken_by_python, sizes_taken_by_torch
from swdc.capture.recorder import MOST_CALLS
from swdc.capture.runs import Run, Slot
from swdc.capture.size_sums import ONE, Sum
from swdc.capture.symbolic_numbers import size_of, sym_int
from swdc.capture.way import CannotCapture
from swdc.ir.call import bind_arguments
from swdc.ops.in_place import operator_of

Shape = tuple[Sum, ...]
_MEMORY = 2**40
"""More elements than any tensor has."""
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def run_on_symbols(
    model: nn.Module, inputs: Any, shapes: Sequence[Shape | None], guards: Guards, forms: Forms, compiling: bool = True
) -> Run:
    """Run a model on tensors whose sizes are symbols; in the run, sizes are ``Sum`` and numbers from them ``Real``.

    ``shapes`` are those of the inputs, ``None`` for what is no tensor. What the model asks of sizes goes to ``guards``.
    """
    leaves, structure = pytree.tree_flatten(inputs)
    with as_export_does(compiling), sizes_taken_by_python(model):
        given = [empty(x, s and [sym_int(guards, size) for size in s]) for x, s in zip(leaves, shapes, strict=True)]
        plain = [empty(x, s and [guards.hint(size) for size in s]) for x, s in zip(leaves, shapes, strict=True)]
        recorder = _OnSymbols(model, leaves, given, plain, guards, forms)
        with sizes_taken_by_torch(recorder, guards):
            return recorder.run(model, structure, batch=0)


def _fits_into(target: torch.Tensor, others: Sequence[torch.Tensor]) -> None:
    """Ask that others are spread over a tensor that is overwritten, and not that one over them."""
    for other in others:
        pairs: Any = zip(reversed(other.shape), reversed(target.shape), strict=False)
        for size, own in pairs:
            if isinstance(size, torch.SymInt) or (isinstance(own, torch.SymInt) and size != 1):
                torch._check(size == own)


@dataclass(frozen=True)
class _Form:
    """The sizes and strides of a tensor."""

    shape: Shape
    stride: Shape

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Form:
        return cls(tuple(map(size_of, tensor.shape)), tuple(map(size_of, tensor.stride())))

    @classmethod
    def dense(cls, sizes: Sequence[Any]) -> _Form:
        """Return the form of a tensor whose elements follow one another."""
        shape, stride = tuple(map(size_of, sizes)), [ONE]
        for size in shape[:0:-1]:
            stride.insert(0, stride[0] * size)
        return cls(shape, tuple(stride[: len(shape)]))

    @classmethod
    def like(cls, sizes: Sequence[Any], plain: Any, hint: Callable[[Sum], int]) -> _Form | None:
        """Return the form of a tensor that has no gaps, in the order in memory of one with the sizes of this run.

        ``None`` if that one has other sizes, or if its strides do not follow from its sizes and their order.
        """
        if not isinstance(plain, torch.Tensor) or len(sizes) != plain.dim():
            return None
        shape, step = tuple(map(size_of, sizes)), ONE
        strides = [ONE] * len(shape)
        for dim in sorted(range(len(shape)), key=lambda dim: (plain.stride(dim), -dim)):
            strides[dim], step = step, step * shape[dim]
        found = cls(shape, tuple(strides))
        same = [hint(size) for size in (*shape, *strides)] == [*plain.shape, *plain.stride()]
        return found if same else None


class _OnSymbols(OnShapes):  # type: ignore[no-untyped-call]
    """Runs every operator on the sizes of the run, and follows the symbols beside."""

    def __init__(
        self, model: nn.Module, leaves: list[Any], given: list[Any], plain: list[Any], guards: Guards, forms: Forms
    ) -> None:
        self._guards = guards
        self._plain: dict[int, torch.Tensor] = {}
        self._of: dict[int, _Form] = {}
        self._twins: dict[int, tuple[torch.Tensor, _Form]] = {}
        self._found: dict[Any, list[_Form | None]] = {}
        self._last: Shape | None = None
        self._wholes: dict[int, list[torch.Tensor]] = {}
        super().__init__(model, leaves, given, forms, MOST_CALLS)
        for tensor, twin in zip(given, plain, strict=True):
            if isinstance(tensor, torch.Tensor) and tensor.dim():
                self._pair(tensor, twin, _Form.of(tensor))

    def _pair(self, tensor: torch.Tensor, plain: torch.Tensor, form: _Form) -> None:
        self._plain[id(tensor)], self._of[id(tensor)] = plain, form
        self._twins[tensor.untyped_storage()._cdata] = plain, form
        self._alive.append(tensor)

    def _told(self, argument: Any, found: Any) -> tuple[Any, Any]:
        if isinstance(argument, _SYMBOLIC):
            found.empty = True
        elif isinstance(argument, torch.Tensor) and argument.is_meta and id(argument) not in self._plain:
            self._pair_again(argument)
        return super()._told(argument, found)

    def _pair_again(self, tensor: torch.Tensor) -> None:
        """Recognise a tensor that torch hands out as another object than the one it made."""
        twin = self._twins.get(tensor.untyped_storage()._cdata)
        if twin is not None and tuple(map(size_of, tensor.shape)) == twin[1].shape:
            self._pair(tensor, *twin)

    def _literal(self, argument: Any) -> tuple[Any, Any]:
        if isinstance(argument, torch.SymBool):
            return bool(argument), bool(argument)
        if isinstance(argument, torch.SymInt | torch.SymFloat):
            return size_of(argument), argument
        return super()._literal(argument)

    def _shape(self, tensor: torch.Tensor) -> tuple[Any, ...]:
        form = self._of.get(id(tensor))
        return tuple(tensor.shape) if form is None else form.shape

    def _is_passed_over(self, func: Any, args: Any, known: list[Any], result: Any) -> bool:
        """Skip also what takes all of a tensor: torch leaves such calls out where it knows the sizes."""
        if super()._is_passed_over(func, args, known, result):
            return True
        if not operator_of(func).narrows or id(result) not in self._of or self._last != self._of[id(result)].shape:
            return False
        self._join(args[0], result)
        self._know(result, known[0])
        return True

    def _join(self, tensor: torch.Tensor, whole: torch.Tensor) -> None:
        """Remember that a view is all of a tensor: what is written to one of them is written to the other."""
        joined = self._wholes.setdefault(id(tensor), [tensor])
        joined.append(whole)
        self._wholes[id(whole)] = joined

    def _know(self, tensor: torch.Tensor, slot: Slot) -> None:
        super()._know(tensor, slot)
        for other in self._wholes.get(id(tensor), ()):
            self._slots[id(other)] = slot

    def _computed(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        given = list(_leaves((args, kwargs)))
        form = self._of.get(id(args[0])) if args else None
        self._last = None if form is None else tuple(map(self._guards.settled, form.shape))
        symbolic = [x for x in given if id(x) in self._plain]
        if func._schema.is_mutable and operator_of(func).by_element:
            _fits_into(args[0], [x for x in given if isinstance(x, torch.Tensor) and x is not args[0]])
        result = super()._computed(func, self._in_this_run(args), self._in_this_run(kwargs))
        if not symbolic and not any(isinstance(x, _SYMBOLIC) for x in given):
            return result
        several = isinstance(result, list | tuple)
        results = list(result) if several else [result]
        twins = {id(self._plain[id(x)]): x for x in symbolic}
        if any(isinstance(r, torch.Tensor) and id(r) not in twins for r in results):
            forms = self._forms_of(func, args, kwargs, results)
            if len(forms) != len(results):
                raise _unknown(func)
            made = [twins.get(id(r)) or self._made_like(func, r, form) for r, form in zip(results, forms, strict=True)]
        else:
            made = [twins.get(id(r), r) for r in results]
        return type(result)(made) if several else made[0]

    def _in_this_run(self, argument: Any) -> Any:
        if isinstance(argument, torch.Tensor):
            return self._plain.get(id(argument), argument)
        if isinstance(argument, list):
            return [self._in_this_run(item) for item in argument]
        if isinstance(argument, dict):
            return {name: self._in_this_run(item) for name, item in argument.items()}
        return argument.node.hint if isinstance(argument, _SYMBOLIC) else argument

    def _forms_of(self, func: Any, args: list[Any], kwargs: dict[str, Any], results: list[Any]) -> list[_Form | None]:
        """Return the forms of an operator's results; they are found once for each form of its inputs."""
        key = (func, self._key(args), self._key(kwargs))
        if key not in self._found:
            sizes = operator_of(func).sizes_of_results(func, bind_arguments(func, args, kwargs))
            told = None if sizes is None else [_Form.dense(s) for s in sizes]
            exact = self._in_order(sizes, results)
            self._found[key] = exact or self._chosen(told, self._asked(func, args, kwargs))
        return self._found[key]

    def _in_order(self, sizes: list[Sequence[Any]] | None, results: list[Any]) -> list[_Form | None] | None:
        """Return the forms of results of given sizes, if those of this run tell the order in memory."""
        if sizes is None or len(sizes) != len(results):
            return None
        found = [_Form.like(s, r, self._guards.hint) for s, r in zip(sizes, results, strict=True)]
        return None if None in found else found

    def _chosen(self, told: list[_Form] | None, asked: list[_Form | None]) -> list[_Form | None]:
        """Return the forms that torch's code finds, unless a rule says other sizes."""
        if told is None or [f and f.shape for f in asked] == [f.shape for f in told]:
            return asked
        return list(told)

    def _asked(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> list[_Form | None]:
        """Return the forms of an operator's results as torch's code finds them."""
        with self._guards.inside_operator():
            result = operator_of(func).empty_result(func, args)
            result = func(*args, **kwargs) if result is None else result
        results = list(result) if isinstance(result, list | tuple) else [result]
        return [_Form.of(r) if isinstance(r, torch.Tensor) else None for r in results]

    def _key(self, argument: Any) -> Any:
        """Return all that the form of a result depends on."""
        if isinstance(argument, torch.Tensor):
            return self._of.get(id(argument)) or (argument.shape, argument.stride()), argument.dtype
        if isinstance(argument, list | tuple):
            return tuple([self._key(item) for item in argument])
        if isinstance(argument, dict):
            return tuple([(name, self._key(value)) for name, value in argument.items()])
        return type(argument), size_of(argument) if isinstance(argument, _SYMBOLIC) else argument

    def _made_like(self, func: Any, plain: Any, form: _Form | None) -> Any:
        """Return a tensor of a form in place of a result of this run."""
        if not isinstance(plain, torch.Tensor) or form is None:
            return plain
        form = _Form(tuple(map(self._guards.settled, form.shape)), tuple(map(self._guards.settled, form.stride)))
        if tuple(map(self._guards.hint, form.shape)) != tuple(plain.shape):
            raise _unknown(func)
        if all(size.constant is not None for size in form.shape):
            return plain
        sizes, strides = ([sym_int(self._guards, size) for size in part] for part in (form.shape, form.stride))
        with self._guards.inside_operator():
            made = _laid_out(sizes, strides, plain.dtype)
        self._pair(made, plain, form)
        return made


def _leaves(arguments: Any) -> Iterator[Any]:
    """Yield what is in nested arguments of an operator, which are lists but for the outermost."""
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif not isinstance(arguments, list | tuple):
        yield arguments
        return
    for argument in arguments:
        yield from _leaves(argument)


def _laid_out(sizes: list[Any], strides: list[Any], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor on the meta device that has memory of its own.

    It is laid on more memory than any tensor has, because torch asks twenty times as long how much a tensor needs.
    """
    return torch.empty_strided((_MEMORY,), (1,), dtype=dtype, device="meta").as_strided(sizes, strides).detach()


def _unknown(func: Any) -> CannotCapture:
    return CannotCapture(f"the sizes of the result of {func} are not known for other sizes of the inputs")
