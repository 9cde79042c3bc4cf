"""Your own training loop with SWD: three lines of swdc in it, and four after it."""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional

import swdc
from swdc.networks import resnet20

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
epochs, batch = 4, 64

torch.manual_seed(0)
model = resnet20(width=8, channels=1)
program = swdc.trace(model, images[:2])  # holds the model's own parameters: training it trains the model
optimizer = torch.optim.SGD(program.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
swd = swdc.SWD(program, target=0.75, a_min=1e1, a_max=1e4, steps=epochs * -(-len(images) // batch), optimizer=optimizer)

for epoch in range(epochs):
    for rows in torch.randperm(len(images)).split(batch):
        loss = functional.cross_entropy(program(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        swd.step()  # pulls what would be pruned now towards zero
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}, a = {swd.a:.0f}")

program.eval()
plan = swd.plan()
slim = swdc.slim(program, plan)
print(swdc.verify(swdc.mask(program, plan), slim))
print(f"{swdc.count(program).parameters:,} -> {swdc.count(slim).parameters:,} parameters")
