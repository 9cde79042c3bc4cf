"""Regions of feature maps: channels of what is sampled pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, conv, group_with, image, reason_at, traced

BOXES = torch.tensor([[0.0, 1.0, 1.0, 6.0, 6.0], [0.0, 0.0, 2.0, 5.0, 7.0]], dtype=torch.float64)


@pytest.fixture(scope="module", autouse=True)
def _vision() -> None:
    pytest.importorskip("torchvision")


@pytest.mark.parametrize("way", ["roi_align", "roi_pool"])
def test_channels_pass_through_boxes(way: str) -> None:
    from torchvision import ops

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        pooled = getattr(ops, way)(torch.relu(m.c(x)), m.boxes, 2, 0.5)
        return m.d(pooled).flatten(1)

    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(8, 2), boxes=BOXES))
    assert group_with(program, "c.weight[0]").width == 8


@pytest.mark.parametrize("way", ["ps_roi_align", "ps_roi_pool"])
def test_positions_with_channels_of_their_own_keep_them(way: str) -> None:
    from torchvision import ops

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(getattr(ops, way)(torch.relu(m.c(x)), m.boxes, 2))

    program = traced(Function(forward, c=conv(3, 8), d=conv(2, 2), boxes=BOXES))
    assert "looks at every value" in reason_at(program, "c.weight", 0)


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_suppressed_boxes_do_not_fail() -> None:
    from torchvision import ops

    def forward(m: Any, x: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        kept = ops.nms(boxes, boxes.sum(1), 0.5)
        return m.b(torch.relu(m.a(x)))[kept % 2]

    model = Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    program = assert_slims(model, (image(2, 5), image(3, 4).abs().cumsum(1)))
    assert [group.width for group in program.groups] == [8]
