"""The form of the JSON document of ``swdc inspect``."""

from __future__ import annotations

from typing import Annotated, TypedDict

from swdc.rewriting.certificate import Certificate

Share = Annotated[float, "between 0 and 1"]


class Slot(TypedDict):
    """One dimension of one parameter or buffer."""

    tensor: str
    dim: int


class Group(TypedDict):
    """Channels that go together: channel k is index k of every tensor that is listed."""

    name: str
    width: Annotated[int, "channels"]
    writes: list[Slot]
    reads: list[Slot]


class FrozenSlot(TypedDict):
    """How many channels of one dimension of one tensor stay."""

    tensor: str
    dim: int
    channels: int


class Reason(TypedDict):
    """Why channels stay."""

    reason: str
    operator: Annotated[str, "empty if none is to blame"]
    node: str
    source: Annotated[str, "file:line of your code, or empty"]
    edit: Annotated[str, "the change of the model that would free them, or empty"]


class FrozenEntry(FrozenSlot, Reason):
    """Channels of one dimension that stay, and why."""


class Held(Reason):
    """Everything that one reason keeps."""

    parameters: Annotated[int, "that could also be removed if these channels were free"]
    channels: int
    dimensions: list[FrozenSlot]


class InspectDocument(TypedDict):
    """What ``swdc inspect`` prints: which channels can be removed, which stay, and why."""

    model: Annotated[str, "as it was given"]
    parameters: int
    removable_parameters: Annotated[int, "if every group keeps one channel"]
    removable_share: Share
    groups: list[Group]
    frozen: list[FrozenEntry]
    held: Annotated[list[Held], "the same by reason, the one that keeps most first"]
    notes: list[str]
    sizes: Annotated[list[str], "which sizes of the inputs may change, and under which conditions"]
    certificate: Annotated[Certificate | None, "that of a folder"]
