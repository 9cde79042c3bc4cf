"""Finds what a model does in training only, such as stochastic depth: a program captured in evaluation lacks it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.fx.node import map_aggregate
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from swdc.capture.captured_graph import without_gradients
from swdc.capture.graph_of_runs import bears_witness
from swdc.capture.mutable_state import content_of
from swdc.capture.reachable import names_in, of_the_model
from swdc.capture.runs import Run, Slot, Step
from swdc.ir.call import schema_names
from swdc.ir.module_tensors import modes_kept
from swdc.ops.base import OPERATORS, called_by, target_of
from swdc.ops.capture_traits import MODES
from swdc.ops.in_place import operator_of


def training_differences(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Return the paths of the modules that call other functions or modules in training than in evaluation.

    Modules that keep a dropout or a batch norm in evaluation mode on purpose are among them. The model's own tensors
    and the state of the random generators stay as they are.
    """
    if not reads_mode(model):
        return []
    try:
        evaluated, trained = (_record(model, args, kwargs, mode, "meta") for mode in (False, True))
    except Exception:  # some models cannot run on the meta device
        try:
            evaluated, trained = (_record(model, args, kwargs, mode, None) for mode in (False, True))
        except Exception:  # the model runs in evaluation, so any error means that training differs
            return [""]
    return _differing(evaluated, trained)


def reads_mode(model: nn.Module) -> bool:
    """Whether the code of a model, except for torch's own modules, may depend on the training mode.

    Of torch's own, those do whose dropout is a number: attention drops in its code, and not in a module of its own.
    """
    modules = list(model.modules())
    if any(is_torchs(m) and isinstance(getattr(m, "dropout", None), float) and m.dropout for m in modules):
        return True
    if not all(map(is_torchs, statistics_of(model).values())):
        return True
    hooks = [h for m in modules for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    classes = {base for item in (*modules, *hooks) for base in type(item).__mro__ if not _is_known(base)}
    seen: set[CodeType] = set()
    found = [*hooks, *(v for m in modules for v in vars(m).values()), *(v for c in classes for v in vars(c).values())]
    return any(_concerns_mode(value, seen) for value in found if hasattr(value, "__code__"))


def statistics_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return by path the modules of torch's that keep buffers, such as batch norms, and those of classes derived."""
    plain = (nn.Module, object)
    return {
        path: module
        for path, module in model.named_modules()
        if module._buffers and any(_is_known(cls) for cls in type(module).__mro__ if cls not in plain)
    }


def is_torchs(module: nn.Module) -> bool:
    """Whether a module is one of torch's own, whose behaviour in training is known."""
    return _is_known(type(module))


def _is_known(cls: type) -> bool:
    """Whether a class is one of torch's modules; the spectral norm in ``torch.nn.utils`` does more in training."""
    return cls is object or cls.__module__.startswith(("torch.nn.modules", "torch.nn.parallel"))


def _differing(evaluated: Mapping[str, Any], trained: Mapping[str, Any]) -> list[str]:
    """Return the outermost modules whose records differ between evaluation and training."""
    paths = {p for p in {*evaluated, *trained} if evaluated.get(p) != trained.get(p)}
    return sorted(p for p in paths if not any(p.startswith(f"{other}.") for other in paths if other))


def _concerns_mode(value: Any, seen: set[CodeType]) -> bool:
    """Whether a function, or one of the model's that it names, concerns the mode, a dropout or a batch norm."""
    code = getattr(value, "__code__", None)
    if not isinstance(code, CodeType) or code in seen:
        return False
    seen.add(code)
    names = {*names_in(code), *(constant for constant in code.co_consts if isinstance(constant, str))}
    concerned = {"training", "train", "eval", *(f.__name__ for f, known in OPERATORS.functions.items() if known.trains)}
    held = [*map(content_of, value.__closure__ or ()), *(value.__globals__.get(name) for name in names)]
    named = [other for other in held if of_the_model(getattr(other, "__module__", None))]
    return not concerned.isdisjoint(names) or any(_concerns_mode(other, seen) for other in named)


class _Recorder(TorchFunctionMode):
    """Notes every call of a torch function or a module, by the module that makes the call.

    Of what ``torchs`` call, torch's own modules, only attention that drops is noted, for their caller.
    """

    def __init__(self, training: bool, torchs: set[str]) -> None:
        super().__init__()
        self.training, self.torchs = training, torchs
        self.calls: dict[str, list[str]] = {}
        self.stack: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        if self.training and _is_still(func, args, kwargs or {}):
            name += " in evaluation mode"
        if _drops(func, args, kwargs or {}):
            self.calls.setdefault(_caller(self.path, self.torchs), []).append(f"{name} that drops")
        self.note(name)
        empty = empty_result(func, args)
        return func(*args, **(kwargs or {})) if empty is None else empty

    @property
    def path(self) -> str:
        return self.stack[-1] if self.stack else ""

    def note(self, name: str) -> None:
        if self.path not in self.torchs:
            self.calls.setdefault(self.path, []).append(name)

    def enter(self, path: str) -> None:
        self.note(f"module {path}")
        self.stack.append(path)

    def leave(self, path: str) -> None:
        """Leave a module, and all that failed inside it: the model's code may have caught the error."""
        if path in self.stack:
            del self.stack[self.stack.index(path) :]


def _drops(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of an attention drops some of its weights."""
    given = {**dict(zip(_parameters(func), args, strict=False)), **kwargs}
    return bool(given.get("dropout_p")) and bool(given.get("training", True))


@cache
def _parameters(func: Any) -> tuple[str, ...]:
    """Return the names of a function's arguments; a function of torch's own tells none, but its operator may."""
    try:
        return tuple(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        names = called_by(func).names
        return tuple(name for name, _ in schema_names(target_of(names[0]))) if names else ()


def _is_still(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function that becomes a module in a program, which follows the mode, is in evaluation mode here."""
    operator = called_by(func)
    if not operator.trains:
        return False
    bound = inspect.signature(func).bind(*args, **kwargs)
    bound.apply_defaults()
    return operator.keeps_still(bound.arguments)


def empty_result(func: Any, args: Sequence[Any]) -> Any:
    """Return the result, without values, of a function that torch would decompose into many steps; else ``None``."""
    operator = called_by(func)
    if not operator.names or not args or not args[0].is_meta:
        return None
    return operator.empty_result(target_of(operator.names[0]), args)  # any overload that overwrites nothing


def _record(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool, device: str | None
) -> dict[str, list[str]]:
    """Return the functions and modules that each module calls, by the path of the caller."""
    recorder = _Recorder(training, _torchs(model))

    def moved(value: Any) -> Any:
        return (value.to(device) if device else value.clone()) if isinstance(value, torch.Tensor) else value

    state = {name: t.detach() if device is None else moved(t.detach()) for name, t in model.named_parameters()}
    state |= {name: moved(t) for name, t in model.named_buffers()}
    inputs = pytree.tree_map(moved, (args, kwargs))
    names = {module: name for name, module in model.named_modules()}
    stores: list[dict[str, Any]] = [store for module in names for store in (module._parameters, module._buffers)]
    held = [(store, dict(store)) for store in stores]
    handles = []
    for module, name in names.items():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: recorder.enter(name)))
        handles.append(module.register_forward_hook(lambda *_, name=name: recorder.leave(name)))
    try:
        with modes_kept(model), torch.random.fork_rng(devices=[]), without_gradients(), recorder:
            model.train(training)
            torch.func.functional_call(model, state, inputs[0], inputs[1])
    finally:
        for handle in handles:
            handle.remove()
        for store, before in held:  # torch puts back too little where a module has two names
            store.clear()
            store.update(before)
    return recorder.calls


def trains_alike(one: Run, other: Run, trained: Run) -> bool:
    """Whether a run in training did what two runs in evaluation predict for its batch, modes of leaf modules aside."""
    return not any(map(_keeps_still, trained.steps)) and bears_witness(one, other, trained, _without_mode)


def differences(model: nn.Module, evaluated: Run, trained: Run) -> tuple[str, ...]:
    """Return the paths of the modules that call other operators in training, or pass them other numbers.

    Modules that keep a dropout or a batch norm in evaluation mode on purpose are among them. Both runs have the same
    batch.
    """
    torchs = _torchs(model)
    return tuple(_differing(_told(evaluated, torchs, training=False), _told(trained, torchs, training=True)))


def _told(run: Run, torchs: set[str], training: bool) -> dict[str, list[Any]]:
    """Return the calls of each module, without tensors and modes; calls of torch's modules count for their caller."""
    calls: dict[str, list[Any]] = {}
    for step in run.steps:
        path = _caller(step.scope[0], torchs)
        literals = [_literal(part) for part in _without_mode(step)]
        calls.setdefault(path, []).append((str(step.target), training and _keeps_still(step), literals))
    return calls


def _torchs(model: nn.Module) -> set[str]:
    """Return the paths of torch's own modules."""
    return {path for path, module in model.named_modules() if is_torchs(module)}


def _caller(path: str, torchs: set[str]) -> str:
    """Return the module that counts for what a module calls: for torch's own the one around, if there is one."""
    while path and path in torchs:
        path = path.rpartition(".")[0]
    return path


def _keeps_still(step: Step) -> bool:
    """Whether a dropout or a batch norm is in evaluation mode although the model trains."""
    operator = operator_of(step.target)
    bound = dict(zip((name for name, _ in schema_names(step.target)), step.args, strict=False)) | step.kwargs
    return operator.trains and operator.keeps_still(bound)


def _without_mode(step: Step) -> Any:
    names = [name for name, _ in schema_names(step.target)]
    args = [None if name in MODES else argument for name, argument in zip(names, step.args, strict=False)]
    return args, {name: value for name, value in step.kwargs.items() if name not in MODES}


def _literal(arguments: Any) -> Any:
    return map_aggregate(arguments, lambda leaf: None if isinstance(leaf, Slot) else leaf)
