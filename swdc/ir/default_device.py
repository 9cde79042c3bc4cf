"""The device of tensors that are created without naming one: a caller may have set another than the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_by_default() -> Iterator[None]:
    """Create tensors on the CPU unless a device is named, whatever ``torch.set_default_device`` says.

    Code of a user's model must not run under it.
    """
    if torch.get_default_device().type == "cpu":
        yield
    else:
        with torch.device("cpu"):
            yield
