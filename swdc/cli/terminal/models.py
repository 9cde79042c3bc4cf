"""Programs from what the command line names: a module:callable, or a saved folder."""

from __future__ import annotations

import ast
import importlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swdc.artifacts.folder.save import load
from swdc.artifacts.storage.checkpoint_reader import Checkpoint
from swdc.capture.meta_model import trace_skeleton
from swdc.capture.trace import trace
from swdc.cli.terminal.inputs import example_inputs
from swdc.cli.terminal.weights import check_names, load_weights, open_checkpoint
from swdc.errors import CommandError
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all

EXTRAS = {
    "torchvision": "vision", "torch_geometric": "graph", "sklearn": "demo", "matplotlib": "demo", "optuna": "sweep",
    "timm": "bench", "transformers": "bench", "torch_pruning": "bench",
}  # fmt: skip
"""The extra of swdc that installs each optional module."""


@dataclass(frozen=True)
class Source:
    """Where a program comes from, as given on the command line."""

    model: str
    inputs: Sequence[str] = ()
    arguments: Sequence[str] = ()
    weights: Path | None = None
    seed: int = 0


def load_program(source: Source) -> Program:
    """Return the program of a saved folder, or trace the model that ``module:callable`` makes.

    Raises ``CommandError`` if the model cannot be found or made, and what ``swdc.load`` and ``swdc.trace``
    raise.
    """
    if is_folder(source.model):
        _check_alone(source)
        return load(source.model)
    find_callable(source.model)  # a wrong name is told before inputs that it would not need
    inputs = example_inputs(source.inputs, source.seed)
    model = load_model(source)
    with redirect_stderr(io.StringIO()):  # torch.export prints the graph that it has so far there when it fails
        return trace(model.eval(), inputs)


def load_model(source: Source) -> nn.Module:
    """Return the model that ``module:callable`` makes, with its weights; ``CommandError`` if there is none."""
    factory = find_callable(source.model)
    model = make_model(source.model, factory, parse_arguments(source.arguments), source.seed)
    if source.weights is not None:
        load_weights(model, source.weights)
    return model


def load_skeleton(source: Source) -> tuple[Program, Checkpoint]:
    """Return the program, on the meta device, of the model that ``module:callable`` makes, and its weights.

    Raises ``CommandError`` as ``load_program`` does, and if the weights do not fit the model.
    """
    checkpoint = open_checkpoint(source.weights)
    factory = find_callable(source.model)
    arguments = parse_arguments(source.arguments)
    inputs = example_inputs(source.inputs, source.seed)
    types = {name: checkpoint.entry(name).dtype for name in checkpoint}
    with redirect_stderr(io.StringIO()):
        program = trace_skeleton(lambda: make_model(source.model, factory, arguments, source.seed), inputs, types)
    check_names(program, checkpoint)
    return program, checkpoint


def is_folder(model: str) -> bool:
    """Whether what the command line names is a folder, rather than ``module:callable``."""
    return bool(model) and Path(model).is_dir()


def _check_alone(source: Source) -> None:
    given = {"--input": source.inputs, "--arg": source.arguments, "--weights": source.weights}
    extra = [name for name, value in given.items() if value]
    if extra:
        raise CommandError(
            f"expected a saved folder alone, got {source.model} with {', '.join(extra)}; leave them out: "
            f"the folder holds weights and inputs"
        )


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` texts as a dict; values are Python literals if they read as such, text otherwise.

    Raises ``CommandError`` for a text of another form and for a key that comes twice.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise CommandError(f"expected an argument as key=value, got {text!r}; write for example num_classes=10")
        if key in arguments:
            raise CommandError(f"expected each argument once, got {key!r} twice; leave one out")
        arguments[key] = _literal(value)
    return arguments


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def find_callable(name: str) -> Callable[..., Any]:
    """Return what ``module:callable`` names; the callable may be dotted (``module:Class.from_config``).

    The current folder is searched first, as ``python -m`` does. Raises ``CommandError`` if there is no such
    module or attribute (and names the extra that installs it), the import fails, or what it names cannot be
    called.
    """
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise CommandError(
            f"expected a model as module:callable or the folder of a saved one, got {name!r}, which is "
            f"neither; write for example torchvision.models:resnet18"
        )
    found: Any = _imported(module_name)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            close = get_close_matches(attribute, dir(found), n=3)
            hint = f"did you mean {', '.join(close)}?" if close else "check the name after the colon"
            raise CommandError(f"expected {name!r} to name a callable, but there is no {attribute!r} in it; {hint}")
        found = getattr(found, attribute)
    if not callable(found):
        raise CommandError(
            f"expected {name!r} to name a callable that makes a model, got {type(found).__name__}; name a "
            f"function or a class"
        )
    return found  # type: ignore[no-any-return]


def _imported(name: str) -> Any:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise missing_module(name, error) from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise CommandError(
            f"expected a module {name!r} that can be imported, but that raises {type(error).__name__}: "
            f"{error}; make python -c 'import {name}' work first"
        ) from error


def missing_module(name: str, error: ModuleNotFoundError) -> CommandError:
    """Return the error for a module that is not installed; it names the extra of swdc that brings it."""
    absent = error.name or name
    extra = EXTRAS.get(absent.partition(".")[0])
    if extra is not None:
        remedy = f"install it with pip install 'swdc[{extra}]'"
    elif absent == name.partition(".")[0]:
        remedy = "install it, or run swdc in the folder that holds it"
    else:
        remedy = "check its name, or install what provides it"
    return CommandError(f"expected {name!r} to be usable, but there is no module {absent!r}; {remedy}")


def make_model(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any], seed: int) -> nn.Module:
    """Return the model that a callable makes, its random weights drawn with ``seed``.

    If the name is that of a module made already (``module:instance``), it is returned as it is. Raises
    ``CommandError`` if the callable fails or makes something else.
    """
    if isinstance(factory, nn.Module):
        if arguments:
            raise CommandError(
                f"expected no --arg with {name!r}, which is a {type(factory).__name__} made already; leave "
                f"them out, or name its class"
            )
        return factory
    given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    try:
        with torch.random.fork_rng(devices=[]):
            seed_all(seed)
            model = factory(**arguments)
    except ModuleNotFoundError as error:
        raise missing_module(name, error) from error
    except (Exception, SystemExit) as error:  # whatever the user's callable raises
        raise CommandError(
            f"expected {name}({given}) to make a model, but that raises {type(error).__name__}: {error}; "
            f"give its arguments as --arg key=value"
        ) from error
    if not isinstance(model, nn.Module):
        raise CommandError(
            f"expected {name}({given}) to make a torch.nn.Module, got {type(model).__name__}; name a "
            f"callable that returns the model"
        )
    return model
