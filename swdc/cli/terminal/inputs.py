"""Example inputs from text: ``[name=]SIZExSIZE...[:DTYPE][<N]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch

from swdc.errors import CommandError

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
DTYPES = (*FLOATS, *INTEGERS, "bool")
SMALLEST_RANGE = 2
"""Integers are drawn below this unless the text says otherwise: 0 and 1 are valid wherever indices are."""
MOST = 2**28
"""Numbers in one input at most: an example needs no more, and a system may give out memory that it does not have."""
MOST_DIMENSIONS = 25

_FORM = re.compile(
    r"(?:(?P<name>[^\W\d]\w*)=)?(?P<shape>\d{1,99}(?:x\d{1,99})*)(?::(?P<dtype>\w+))?(?:<(?P<bound>\d{1,99}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class InputSpec:
    """One example input. ``name`` is its keyword, or ``None``; integers are below ``bound``."""

    name: str | None
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    bound: int = SMALLEST_RANGE


def parse_input(text: str) -> InputSpec:
    """Return what ``1x3x224x224``, ``1x16:int64``, ``2x156:int64<34`` or ``mask=1x16:bool`` stands for.

    Raises ``CommandError`` for text of another form, an empty dimension, an unknown dtype, or a bound that
    the dtype cannot have.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise CommandError(
            f"expected an input as [name=]SIZExSIZE...[:DTYPE][<N], got {text!r}; write for example "
            f"1x3x224x224, ids=1x16:int64 or '2x156:int64<34' (quoted, for the shell)"
        )
    shape = tuple(int(size) for size in match["shape"].split("x"))
    if 0 in shape:
        raise CommandError(f"expected sizes of at least 1 in an input, got {text!r}; give a batch of 1 or more")
    if prod(shape) > MOST or len(shape) > MOST_DIMENSIONS:
        raise CommandError(
            f"expected inputs of at most {MOST_DIMENSIONS} dimensions and {MOST:,} numbers, which fit into memory, got "
            f"{text!r:.80}; write smaller sizes, such as 1x3x224x224"
        )
    dtype = match["dtype"] or "float32"
    if dtype not in DTYPES:
        raise CommandError(f"expected a dtype of {', '.join(DTYPES)} for an input, got {dtype!r} in {text!r}")
    bound = SMALLEST_RANGE if match["bound"] is None else _bound(int(match["bound"]), dtype, text)
    return InputSpec(match["name"], shape, getattr(torch, dtype), bound)


def _bound(bound: int, dtype: str, text: str) -> int:
    """Return a bound after checking that integers of ``dtype`` can be drawn below it."""
    if dtype not in INTEGERS:
        raise CommandError(
            f"expected <N only after an integer dtype ({', '.join(INTEGERS)}), got {text!r}; leave it out, "
            f"or write :int64<{bound}"
        )
    largest = torch.iinfo(getattr(torch, dtype)).max
    if not 1 <= bound <= largest:
        raise CommandError(f"expected <N with N of 1 to {largest} for {dtype}, got {text!r}")
    return bound


def example_inputs(texts: Sequence[str], seed: int) -> tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:
    """Return random example inputs: a tuple if they are positional, a dict if they have names.

    Floating inputs are standard normal, integers uniform below the bound, both from the same ``seed`` each
    time.

    Raises ``CommandError`` if there is no input, a name occurs twice, or only some inputs have a name.
    """
    specs = [parse_input(text) for text in texts]
    names = [spec.name for spec in specs if spec.name is not None]
    if not specs:
        raise CommandError(
            "expected the shape of an example input, got none; add --input 1x3x224x224, or as it takes them"
        )
    if names and len(names) != len(specs):
        raise CommandError(
            f"expected all inputs by position or all by name, got {list(texts)}; give each a name, as in x=1x3x224x224"
        )
    if len(set(names)) != len(names):
        raise CommandError(f"expected each input once, got {list(texts)}; name every keyword input once")
    generator = torch.Generator().manual_seed(seed)
    drawn = tuple(draw(spec, generator) for spec in specs)
    return dict(zip(names, drawn, strict=True)) if names else drawn


def draw(spec: InputSpec, generator: torch.Generator) -> torch.Tensor:
    """Return a random input: standard normal, or integers uniform below the bound."""
    if spec.dtype.is_floating_point:
        return torch.randn(spec.shape, generator=generator).to(spec.dtype)
    return torch.randint(spec.bound, spec.shape, generator=generator).to(spec.dtype)
