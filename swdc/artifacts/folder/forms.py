"""The form of the JSON files of a saved program: their keys, and the types of what stands there."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class _Node(TypedDict):
    op: str
    name: str
    target: str
    args: list[Any]
    kwargs: dict[str, Any]


class Node(_Node, total=False):
    """A node of the graph. Arguments are as ``encode`` writes them."""

    shape: Any
    dtype: Any
    scope: str
    source: str


class Leaf(TypedDict):
    """A module of torch.nn: the operator that it stands for, and the arguments that it holds."""

    operator: str
    arguments: dict[str, Any]


class Signature(TypedDict):
    """The names of the arguments, and the structures of what goes in and comes out."""

    arguments: list[str]
    inputs: str
    outputs: str


class Condition(TypedDict):
    """A condition on the sizes of the inputs."""

    size: str
    relation: Literal["==", "!=", ">=", "<="]
    number: int
    source: str


class FixedSize(TypedDict):
    """A size of an input that the model's code has fixed."""

    name: str
    dim: int
    size: int
    source: str


class _Facts(TypedDict):
    symbols: dict[str, int]
    batch: str | None
    notes: list[str]
    attention: Literal["heads", "head_dim"]
    captured_by: str
    policy: Literal["tied", "free"]


class Facts(_Facts, total=False):
    """What tracing found. Folders of early versions say neither ``example_only`` nor anything on sizes or names."""

    example_only: bool
    conditions: list[Condition]
    fixed: list[FixedSize]
    by_name: list[str]


class Example(TypedDict):
    """The structure of the example inputs, and those that are no tensors, by position."""

    structure: str
    constants: dict[str, Any]


class _Tensor(TypedDict):
    name: str
    stored: str
    kind: Literal["parameter", "buffer"]
    requires_grad: bool


class Tensor(_Tensor, total=False):
    """A parameter or buffer: the name under which its values are stored, and what values do not tell."""

    strides: list[int]
    persistent: bool


class Counts(TypedDict):
    """The counts of a program that a plan was made for."""

    parameters: int
    operations: int
    macs: int


class _Graph(TypedDict):
    nodes: list[Node]
    leaves: dict[str, Leaf]
    signature: Signature
    facts: Facts
    example: Example
    modes: dict[str, bool]
    tensors: list[Tensor]


class Graph(_Graph, total=False):
    """The file ``graph.json``. ``before`` is there if the program was made with a plan."""

    before: Counts
