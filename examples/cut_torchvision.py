"""Cut a network of torchvision without training it: half of the operations, multiples of eight channels."""

import torch
from torchvision.models import mobilenet_v2

import swdc

torch.manual_seed(0)
model = mobilenet_v2(weights=None).eval()  # weights="DEFAULT" where they can be downloaded
program = swdc.trace(model, torch.randn(1, 3, 96, 96))
plan = swdc.plan(program, sparsity=0.5, budget="operations", round_to=8, ignore=["features.0.*"])
slim = swdc.slim(program, plan)
print(swdc.verify(swdc.mask(program, plan), slim))

for convention in ("paper", "reference", "macs"):
    before, after = (swdc.count(p, convention).operations for p in (program, slim))
    print(f"{convention}: {before:,} -> {after:,} operations")
print(f"{swdc.count(program).parameters:,} -> {swdc.count(slim).parameters:,} parameters")
