"""Graph networks of PyG: one of each convolution, of each way to pool, and its ready-made models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from examples.bench.networks.entry import Entry, known
from swdc.ir.packages import package

FEATURES, HIDDEN, CLASSES = 12, 32, 4
NODES, EDGES, ATTRIBUTES, RELATIONS, GRAPHS = 34, 156, 8, 3, 4

Make = Callable[[Any, int, int], nn.Module]


def _perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))


def _principal(nn_: Any, inputs: int, outputs: int) -> nn.Module:
    degrees = torch.tensor([0, 4, 6, 8, 6, 4, 4, 2])
    scalers, aggregators = ["identity", "amplification", "attenuation"], ["mean", "min", "max", "std"]
    conv: nn.Module = nn_.PNAConv(inputs, outputs, aggregators, scalers, deg=degrees, towers=1)
    return conv


PLAIN: dict[str, Make] = {
    "gcn": lambda g, i, o: g.GCNConv(i, o),
    "sage": lambda g, i, o: g.SAGEConv(i, o),
    "sage_max": lambda g, i, o: g.SAGEConv(i, o, aggr="max"),
    "gat": lambda g, i, o: g.GATConv(i, o // 4, heads=4),
    "gat_mean": lambda g, i, o: g.GATConv(i, o, heads=4, concat=False),
    "gatv2": lambda g, i, o: g.GATv2Conv(i, o // 4, heads=4),
    "gin": lambda g, i, o: g.GINConv(_perceptron(i, o)),
    "transformer": lambda g, i, o: g.TransformerConv(i, o // 4, heads=4),
    "cheb": lambda g, i, o: g.ChebConv(i, o, K=3),
    "sg": lambda g, i, o: g.SGConv(i, o, K=2),
    "ssg": lambda g, i, o: g.SSGConv(i, o, alpha=0.1, K=2),
    "tag": lambda g, i, o: g.TAGConv(i, o, K=2),
    "arma": lambda g, i, o: g.ARMAConv(i, o, num_stacks=2, num_layers=2),
    "graph": lambda g, i, o: g.GraphConv(i, o),
    "gated": lambda g, i, o: g.GatedGraphConv(o, num_layers=2),
    "edge": lambda g, i, o: g.EdgeConv(_perceptron(2 * i, o)),
    "film": lambda g, i, o: g.FiLMConv(i, o),
    "cluster": lambda g, i, o: g.ClusterGCNConv(i, o),
    "le": lambda g, i, o: g.LEConv(i, o),
    "gen": lambda g, i, o: g.GENConv(i, o),
    "pna": _principal,
    "mf": lambda g, i, o: g.MFConv(i, o, max_degree=4),
    "res_gated": lambda g, i, o: g.ResGatedGraphConv(i, o),
    "general": lambda g, i, o: g.GeneralConv(i, o),
    "feast": lambda g, i, o: g.FeaStConv(i, o, heads=2),
    "supergat": lambda g, i, o: g.SuperGATConv(i, o // 4, heads=4),
    "anti_symmetric": lambda g, i, o: g.AntiSymmetricConv(i),
    "eg": lambda g, i, o: g.EGConv(i, o, num_heads=4, num_bases=2),
}
"""Convolutions on features and edges."""
ATTRIBUTED: dict[str, Make] = {
    "gine": lambda g, i, o: g.GINEConv(_perceptron(i, o), edge_dim=ATTRIBUTES),
    "nn": lambda g, i, o: g.NNConv(i, o, _perceptron(ATTRIBUTES, i * o)),
    "cg": lambda g, i, o: g.CGConv(i, dim=ATTRIBUTES),
    "gmm": lambda g, i, o: g.GMMConv(i, o, dim=ATTRIBUTES, kernel_size=3),
    "pdn": lambda g, i, o: g.PDNConv(i, o, edge_dim=ATTRIBUTES, hidden_channels=16),
}
"""Convolutions that read attributes of the edges, too."""
RELATIONAL: dict[str, Make] = {
    "rgcn": lambda g, i, o: g.RGCNConv(i, o, num_relations=RELATIONS),
    "rgat": lambda g, i, o: g.RGATConv(i, o, num_relations=RELATIONS),
}
"""Convolutions that read the kind of each edge, too."""
AGGREGATIONS: dict[str, Callable[[Any], nn.Module]] = {
    "mean_pool": lambda a: a.MeanAggregation(),
    "add_pool": lambda a: a.SumAggregation(),
    "max_pool": lambda a: a.MaxAggregation(),
    "softmax_pool": lambda a: a.SoftmaxAggregation(learn=True),
    "attentional_pool": lambda a: a.AttentionalAggregation(nn.Linear(HIDDEN, 1)),
    "std_pool": lambda a: a.StdAggregation(),
    "sort_pool": lambda a: a.SortAggregation(k=5),
    "set2set": lambda a: a.Set2Set(HIDDEN, processing_steps=2),
    "lstm_pool": lambda a: a.LSTMAggregation(HIDDEN, HIDDEN),
}
"""Ways to make one vector of all nodes of a graph."""
SELECTIONS: dict[str, Callable[[Any], nn.Module]] = {
    "topk_pool": lambda g: g.TopKPooling(HIDDEN),
    "sag_pool": lambda g: g.SAGPooling(HIDDEN),
}
"""Ways to drop nodes between convolutions, by what their features are."""
MODELS: dict[str, Callable[[Any], nn.Module]] = {
    "graph_unet": lambda m: m.GraphUNet(FEATURES, HIDDEN, CLASSES, depth=2),
    "jumping_gcn": lambda m: m.GCN(FEATURES, HIDDEN, 3, CLASSES, jk="cat", norm="batch_norm"),
    "jumping_gat": lambda m: m.GAT(FEATURES, HIDDEN, 3, CLASSES, jk="max", heads=4, norm="batch_norm"),
    "pmlp": lambda m: m.PMLP(FEATURES, HIDDEN, CLASSES, num_layers=3),
}
INITIAL = ("appnp", "gcn2")
"""Networks whose every layer reads the first features again."""


def names() -> tuple[str, ...]:
    """Return the names of all graph networks."""
    return (*PLAIN, *ATTRIBUTED, *RELATIONAL, *INITIAL, *AGGREGATIONS, *SELECTIONS, *MODELS)


def entry(name: str) -> Entry:
    """Return a graph network on random features and edges of about the size of the karate club."""
    known(name, names())
    if name in MODELS:
        return Entry(name, lambda: MODELS[name](package("torch_geometric.nn.models", "graph")), _graph)
    library = partial(package, "torch_geometric.nn", "graph")
    if name in AGGREGATIONS:
        return Entry(name, lambda: Pooled(library(), AGGREGATIONS[name](library().aggr)), partial(_graph, graphs=True))
    if name in SELECTIONS:
        return Entry(name, lambda: Selecting(library(), SELECTIONS[name](library())), partial(_graph, graphs=True))
    if name in INITIAL:
        return Entry(name, lambda: Initial(library(), name), _graph)
    make = {**PLAIN, **ATTRIBUTED, **RELATIONAL}[name]
    inputs = partial(_graph, attributes=name in ATTRIBUTED, kinds=name in RELATIONAL)
    return Entry(name, lambda: Convolved(library(), make), inputs)


def _graph(attributes: bool = False, kinds: bool = False, graphs: bool = False) -> tuple[Tensor, ...]:
    extra = []
    if attributes:
        extra.append(torch.rand(EDGES, ATTRIBUTES))
    if kinds:
        extra.append(torch.randint(0, RELATIONS, (EDGES,)))
    if graphs:
        extra.append(torch.arange(NODES) * GRAPHS // NODES)
    return torch.randn(NODES, FEATURES), torch.randint(0, NODES, (2, EDGES)), *extra


class Convolved(nn.Module):
    """A linear layer, two convolutions with a batch norm between, and a head of two layers for each node."""

    def __init__(self, library: Any, make: Make) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, HIDDEN)
        self.first, self.second = make(library, HIDDEN, HIDDEN), make(library, HIDDEN, HIDDEN)
        self.norm = nn.BatchNorm1d(HIDDEN)
        self.head = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))

    def forward(self, x: Tensor, edges: Tensor, *extra: Tensor) -> Tensor:
        """Return scores of shape ``(nodes, CLASSES)``."""
        x = torch.relu(self.stem(x))
        x = torch.relu(self.norm(self.first(x, edges, *extra)))
        return self.head(torch.relu(self.second(x, edges, *extra)))  # type: ignore[no-any-return]


class Initial(nn.Module):
    """A network whose propagation adds the first features at every step."""

    def __init__(self, library: Any, kind: str) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.hidden = nn.Linear(HIDDEN, HIDDEN)
        layers = range(2)
        if kind == "appnp":
            self.layers = nn.ModuleList(library.APPNP(K=3, alpha=0.1) for _ in layers)
        else:
            self.layers = nn.ModuleList(library.GCN2Conv(HIDDEN, 0.1, 0.5, number + 1) for number in layers)
        self.again = kind != "appnp"

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Return scores of shape ``(nodes, CLASSES)``."""
        x = first = torch.relu(self.hidden(torch.relu(self.stem(x))))
        for layer in self.layers:
            x = torch.relu(layer(x, first, edges) if self.again else layer(x, edges))
        return self.head(x)  # type: ignore[no-any-return]


class Pooled(nn.Module):
    """Two convolutions, then one vector and one row of scores for each graph."""

    def __init__(self, library: Any, pool: nn.Module) -> None:
        super().__init__()
        self.first, self.second = library.GCNConv(FEATURES, HIDDEN), library.GCNConv(HIDDEN, HIDDEN)
        self.pool = pool
        widths = {"SortAggregation": 5 * HIDDEN, "Set2Set": 2 * HIDDEN}
        self.head = nn.Linear(widths.get(type(pool).__name__, HIDDEN), CLASSES)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        """Return scores of shape ``(GRAPHS, CLASSES)``."""
        x = torch.relu(self.first(x, edges))
        x = torch.relu(self.second(x, edges))
        return self.head(self.pool(x, graph, dim_size=GRAPHS))  # type: ignore[no-any-return]


class Selecting(nn.Module):
    """A convolution, a choice of nodes that depends on their features, a convolution, and a mean over each graph."""

    def __init__(self, library: Any, pool: nn.Module) -> None:
        super().__init__()
        self.first, self.second = library.GCNConv(FEATURES, HIDDEN), library.GraphConv(HIDDEN, HIDDEN)
        self.pool, self.mean = pool, library.aggr.MeanAggregation()
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor) -> Tensor:
        """Return scores of shape ``(GRAPHS, CLASSES)``."""
        x = torch.relu(self.first(x, edges))
        x, edges, _, graph, *_ = self.pool(x, edges, batch=graph)
        x = torch.relu(self.second(x, edges))
        return self.head(self.mean(x, graph, dim_size=GRAPHS))  # type: ignore[no-any-return]
