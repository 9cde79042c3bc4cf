"""A graph network of PyG with SWD: the karate club, of which one member of each of four communities is labelled."""

import torch
from torch.nn import functional
from torch_geometric.datasets import KarateClub
from torch_geometric.nn import GCN

import swdc

data = KarateClub()[0]
steps = 200

torch.manual_seed(0)
model = GCN(data.num_features, 32, num_layers=2, out_channels=int(data.y.max()) + 1, norm="batch_norm")
program = swdc.trace(model, {"x": data.x, "edge_index": data.edge_index})
optimizer = torch.optim.Adam(program.parameters(), lr=0.01, weight_decay=5e-4)
swd = swdc.SWD(program, target=0.8, a_min=1e0, a_max=1e4, steps=steps, optimizer=optimizer)

for step in range(steps):
    out = program(x=data.x, edge_index=data.edge_index)
    loss = functional.cross_entropy(out[data.train_mask], data.y[data.train_mask])
    optimizer.zero_grad()
    loss.backward()
    swd.step()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.3f}, a = {swd.a:.0f}")

program.eval()
plan = swd.plan()
masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
print(swdc.verify(masked, slim))
with torch.no_grad():
    for name, network in (("trained", program), ("masked", masked), ("slim", slim)):
        right = network(x=data.x, edge_index=data.edge_index).argmax(1) == data.y
        print(f"{name}: {right[~data.train_mask].float().mean():.1%} of the other members, ", end="")
        print(f"{swdc.count(network).parameters:,} parameters")
