import torch
import torch_pruning
from torch import nn

from examples.bench.peer.mirror import Mirror
from examples.bench.peer.peer import blank_peer, last_layers, magnitude_pruner, measure_peer_by_name, numbers_of_heads


def row_of(name):
    row = blank_peer()
    measure_peer_by_name(row.update, "core", name, 0)
    return row


def test_a_network_that_the_peer_keeps_exact():
    row = row_of("lenet5")
    assert row["passes"]
    assert row["exact"]
    assert row["max_relative_error"] < 1e-12
    assert row["effect"] > 1e-3
    assert row["parameters_after"] < 0.5 * row["parameters_before"]
    assert {"build", "prune"} <= set(row["seconds"])
    assert row["kind"] == ""


def test_a_network_where_it_drops_what_a_dead_channel_becomes():
    row = row_of("mlp")  # has a sigmoid: a half where a channel is zero
    assert row["passes"]
    assert not row["exact"]
    assert row["max_relative_error"] > 1e-3


def test_a_network_that_it_does_not_shrink_does_not_pass():
    row = row_of("gcn")
    assert not row["passes"]
    assert row["kind"] == "reduction"


def test_layers_that_write_outputs_are_left_to_the_peer_as_ignored():
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 6), nn.Linear(6, 10))
    assert last_layers(model, ((torch.randn(2, 4),), {})) == [model[3]]


def test_numbers_of_heads_are_found_where_its_documentation_says():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.num_heads = 4
            self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

    model = nn.Sequential(Attention(), nn.MultiheadAttention(8, 2), nn.Linear(8, 8))
    assert numbers_of_heads(model) == {model[0].qkv: 4, model[1]: 2}


def test_rounded_widths_are_multiples_of_the_heads_of_a_multihead_attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.attention = nn.Linear(6, 48), nn.MultiheadAttention(48, 3, batch_first=True)
            self.head = nn.Linear(48, 5)

        def forward(self, x):
            x = self.stem(x)
            return self.head(self.attention(x, x, x)[0])

    model = Attention().eval()
    magnitude_pruner(model, ((torch.randn(2, 4, 6),), {}), 0.4, 8).step()
    assert model.stem.out_features == model.attention.embed_dim == 24
    assert model(torch.randn(2, 4, 6)).shape == (2, 4, 5)


class Joined(nn.Module):
    """Two writers of one concatenation, which another group cuts again."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(torch.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1))))


def test_the_mirror_counts_in_the_network_as_it_was():
    torch.manual_seed(0)
    model = Joined().eval()
    mirror = Mirror(model)
    graph = torch_pruning.DependencyGraph().build_dependency(model, torch.randn(2, 4))
    for layer, indices in ((model.left, [0, 2]), (model.right, [5])):
        group = graph.get_pruning_group(layer, torch_pruning.prune_linear_out_channels, indices)
        mirror.follow(group, graph)
        group.prune()
    masked = mirror.masked().eval()
    dead = torch.zeros(12, dtype=torch.bool)
    dead[[0, 2, 11]] = True
    assert torch.equal(masked.norm.weight == 0, dead)
    assert torch.equal((masked.left.weight == 0).all(1), dead[:6])
    assert torch.equal((masked.right.weight == 0).all(1), dead[6:])
    assert bool((masked.head.weight != 0).all())
    x = torch.randn(5, 4)
    assert torch.allclose(masked(x), model(x), atol=1e-6)
