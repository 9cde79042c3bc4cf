"""What each argument is replaced by, and what parameters take: the judge of the sweep, which asks nothing of swdc."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


class Number(enum.IntEnum):
    """An enumeration of whole numbers."""

    ONE = 1


class Word(enum.StrEnum):
    """An enumeration of texts."""

    HEADS = "heads"


@dataclass(frozen=True)
class Takes:
    """What a parameter takes: values of ``common()`` by name, and others.

    ``right`` are those of ``common()`` that have to run; all its others have to be refused, except for ``unjudged``:
    functions that are the caller's and raise what they raise. ``good`` has to run, ``bad`` has to be refused, too.
    """

    right: Sequence[str] = ()
    good: Sequence[Any] = ()
    bad: Sequence[Any] = ()
    unjudged: Sequence[str] = ()


NONE = ("None",)
FLAG = ("True", "np.True_")
POSITIVE = ("1", "np.int64(1)", "Number.ONE")
COUNT = ("0", *POSITIVE)
SHARE = ("0.5", "np.float32(0.5)", "Fraction(1, 2)")
AMOUNT = (*POSITIVE, *SHARE, "1.0", "2**70")
TEXT = ("'text'", "'1'")
FUNCTIONS = ("len", "int", "nn.Linear")


def common(made: dict[str, Any]) -> dict[str, Any]:
    """Return the values that take turns in the place of each argument, by name; ``made`` are some that take time."""
    closed = Path("closed").open("w")  # noqa: SIM115  the closed file is the value
    closed.close()
    return {
        "None": None, "True": True, "np.True_": np.True_, "0": 0, "1": 1, "-1": -1, "2**70": 2**70,
        "10**400": 10**400, "10**5000": 10**5000, "0.5": 0.5, "-0.5": -0.5, "1.0": 1.0, "nan": float("nan"),
        "inf": float("inf"), "1j": 1j, "np.int64(1)": np.int64(1), "np.float32(0.5)": np.float32(0.5),
        "Fraction(1, 2)": Fraction(1, 2), "Number.ONE": Number.ONE, "''": "", "'text'": "text", "'1'": "1",
        "a long name": "x" * 5000, "b'text'": b"text", "bytearray": bytearray(b"a"), "()": (), "(1, 2)": (1, 2),
        "[0.5]": [0.5], "[True]": [True], "['a']": ["a"], "[None]": [None], "{}": {}, "{'a': 1}": {"a": 1},
        "{1: 'a'}": {1: "a"}, "np.ones(2)": np.ones(2),
        "iterator": iter([1]), "failing iterator": (1 / 0 for _ in "a"),
        "closed file": closed, "object": object(), "len": len, "int": int, "torch.float16": torch.float16,
        "torch.int64": torch.int64, "tensor": torch.tensor([0.5]),
        "tensor without values": torch.ones(1, device="meta"),
        "empty loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(0))),
        "module": nn.Linear(2, 2), "no layers": nn.Sequential(),
        "nn.Linear": nn.Linear, "Path('/dev/null/none')": Path("/dev/null/none"), **made,
    }  # fmt: skip
