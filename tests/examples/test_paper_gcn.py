"""The graph network: its sparse products equal dense ones, and so do their gradients."""

import pytest
import torch
from common.data import CitationGraph
from common.gcn import GCN, Sparse

import swdc


def small_graph(papers: int = 12, words: int = 9) -> CitationGraph:
    generator = torch.Generator().manual_seed(0)
    bags = (torch.rand(papers, words, generator=generator) < 0.4).float()
    bags[:, 0] = 1
    edges = torch.randint(papers, (2, 20), generator=generator)
    both = torch.unique(torch.cat([edges, edges.flip(0)], 1), dim=1)
    rows = torch.arange(papers)
    return CitationGraph("small", 3, bags / bags.sum(1, keepdim=True), both, rows % 3, rows[:6], rows[6:])


def test_products_and_their_gradients_equal_dense_ones():
    dense = torch.randn(7, 5, dtype=torch.float64) * (torch.rand(7, 5) < 0.5)
    rows, columns = dense.nonzero().t()
    order = torch.randperm(len(rows))
    sparse = Sparse(torch.stack([rows, columns])[:, order], dense[rows, columns][order], (7, 5))
    right = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, 4, dtype=torch.float64)
    (ours,) = torch.autograd.grad((sparse.times(right) * weights).sum(), right)
    (plain,) = torch.autograd.grad((dense @ right * weights).sum(), right)
    torch.testing.assert_close(sparse.times(right), dense @ right)
    torch.testing.assert_close(ours, plain)


def test_the_network_is_that_of_kipf_and_welling():
    graph = small_graph()
    network = GCN(graph, hidden=4).eval()
    adjacency = torch.zeros(12, 12)
    adjacency[graph.edges[0], graph.edges[1]] = 1
    adjacency.fill_diagonal_(1)  # one loop each, also where a paper cites itself
    scale = adjacency.sum(1).rsqrt()
    citations = scale[:, None] * adjacency * scale
    hidden = torch.relu(citations @ graph.words @ network.first.weight.t() + network.first.bias)
    expected = citations @ hidden @ network.second.weight.t() + network.second.bias
    torch.testing.assert_close(network(), expected)
    assert network.train()().shape == (12, 3)
    assert not torch.equal(network(), network())  # dropout


def test_it_computes_what_pyg_computes(gcn: object):
    from torch_geometric.nn import GCNConv

    graph = small_graph()
    network = GCN(graph, hidden=4).eval()
    first, second = GCNConv(9, 4), GCNConv(4, 3)
    for ours, theirs in ((network.first, first), (network.second, second)):
        theirs.lin.weight, theirs.bias = ours.weight, ours.bias
    expected = second(torch.relu(first(graph.words, graph.edges)), graph.edges)
    assert (network() - expected).abs().max().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("target", [0.5, 0.9, 0.99, 0.999])
def test_its_targets_are_the_least_of_all_weights_and_biases(target: float):
    """Eq. 4 by sorting everything, with the size of Cora: 1,433 words, 16 hidden units; and the pull of eq. 2."""
    torch.manual_seed(0)
    network = GCN(small_graph(words=1433))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    swd = swdc.SWD(network, target, "weights", a_min=3, a_max=3, steps=1, mu=1e-2, optimizer=optimizer)
    weights = [p.detach().clone() for p in network.parameters()]
    magnitudes = torch.cat([w.abs().flatten() for w in weights])
    count = int(target * len(magnitudes))
    chosen = torch.zeros(len(magnitudes), dtype=torch.bool)
    chosen[magnitudes.sort(stable=True).indices[:count]] = True
    assert len(magnitudes) == 1433 * 16 + 16 + 16 * 3 + 3
    masks = [m.view(w.shape) for m, w in zip(chosen.split([w.numel() for w in weights]), weights, strict=True)]
    for target_, mask in zip(swd.targeted(), masks, strict=True):
        assert torch.equal(target_.chosen, mask)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    swd.step()
    for parameter, weight, mask in zip(network.parameters(), weights, masks, strict=True):
        torch.testing.assert_close(parameter.grad, 1 + 3e-2 * weight * mask, rtol=1e-6, atol=0)
    swd.remove_()
    assert sum(int(p.count_nonzero()) for p in network.parameters()) == len(magnitudes) - count
