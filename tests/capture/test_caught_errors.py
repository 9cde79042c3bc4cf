"""Code that catches what an operator raises for some values: the trace says that the program does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import swdc
from tests.support import image, randomise


class Jitter(nn.Module):
    """Adds to the diagonal of a matrix that is not positive definite."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        try:
            torch.linalg.cholesky(y)
        except torch.linalg.LinAlgError:
            y = y + torch.eye(y.shape[-1], dtype=y.dtype)
        result: torch.Tensor = self.b(self.a(x @ y).relu())
        return result


class Plain(Jitter):
    """Catches what has nothing to do with values."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = F.softmax(self.b(self.a(x @ y).relu()), -1)
        return result


class AnyError(Jitter):
    """Catches whatever is raised."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        try:
            y = torch.linalg.inv(y)
        except:  # noqa: E722 - as models do
            y = torch.linalg.pinv(y)
        result: torch.Tensor = self.b(self.a(x @ y).relu())
        return result


@pytest.mark.parametrize(("model", "name"), [(Jitter, "cholesky"), (AnyError, "inv")])
def test_a_note_names_the_line_that_catches(model: type[Jitter], name: str) -> None:
    with pytest.warns(UserWarning, match=rf"linalg_{name}.default fails for some values.*test_caught_errors.py:\d+"):
        swdc.trace(randomise(model()).eval(), (image(5, 4), torch.eye(4, dtype=torch.float64)))


def test_a_model_without_such_operators_has_no_note() -> None:
    assert not swdc.trace(randomise(Plain()).eval(), (image(5, 4), torch.eye(4, dtype=torch.float64))).facts.notes
