"""A graph network for the tests of the command line."""

import torch
from torch import nn
from torch_geometric.nn import GCNConv


class GraphNetwork(nn.Module):
    """Two graph convolutions: features (nodes, 5) and edges (2, edges) to (nodes, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(5, 8), GCNConv(8, 3)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x, edges)), edges)
