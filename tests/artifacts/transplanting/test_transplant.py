"""A slim program in a copy of the user's own model."""

from __future__ import annotations

import copy
import pickle
import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.artifacts.transplanting.part_module import Extracted
from swdc.errors import TransplantError
from swdc.ops.statistics import LayerNorm
from tests.artifacts.transplanting.models import (  # fmt: skip
    Attention,
    Auxiliary,
    ChannelsInTuple,
    Configured,
    Depthwise,
    DerivedAttention,
    HandNorm,
    HardCoded,
    ReadsItsPart,
    Shuffle,
    SqueezeExcitation,
    Tied,
)
from tests.capture.test_by_recording import Detector, pictures
from tests.support import assert_same, certified, conv, image, plan_of, random_plan, randomise


def slim_of(model, example, seed=0):
    """Return a randomised model in evaluation mode, and a slim program of it."""
    program = swdc.trace(randomise(model).eval(), example)
    assert program.groups, program.explain()
    return model, swdc.slim(program, random_plan(program, seed))


def transplanted(model, example, seed=0):
    """Return what transplanting a random slim program gives; both are compared on inputs of another batch size."""
    model, slim = slim_of(model, example, seed)
    before = copy.deepcopy(model.state_dict())
    mine = swdc.transplant(slim, model)
    assert type(mine) is type(model)
    assert set(before) <= set(mine.state_dict())
    again = model.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in before.items()), "the caller's model changed"
    assert sum(p.numel() for p in mine.parameters()) < sum(p.numel() for p in model.parameters())
    more = torch.cat([example, example.flip(1), example]) if example.is_floating_point() else example
    assert_same(slim(more), mine(more))
    return mine


def replaced(model):
    return [path for path, module in model.named_modules() if isinstance(module, Extracted)]


TOKENS = image(2, 5, 12)


@pytest.mark.parametrize("seed", [0, 1])
def test_heads_are_an_attribute(seed):
    mine = transplanted(nn.Sequential(Attention(), nn.Linear(12, 3)), TOKENS, seed)
    assert mine[0].num_heads < 6
    assert (mine[0].head_dim, mine[0].scale) == (4, 0.5)
    assert mine[0].q.out_features == 4 * mine[0].num_heads
    assert not replaced(mine)


def test_the_width_of_heads_is_an_attribute_and_the_scale_stays():
    model = randomise(nn.Sequential(Attention(), nn.Linear(12, 3))).eval()
    program = swdc.trace(model, TOKENS, attention="head_dim")
    mine = swdc.transplant(swdc.slim(program, random_plan(program)), model)
    assert mine[0].num_heads == 6
    assert mine[0].head_dim < 4
    assert mine[0].scale == 0.5
    assert not replaced(mine)


def test_sizes_in_tuples():
    mine = transplanted(ChannelsInTuple(), image())
    assert mine.shape == (mine.conv.out_channels, 2, 2)
    assert mine.head.in_features == 4 * mine.shape[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_module_may_read_what_a_part_of_it_holds(seed):
    mine = transplanted(ReadsItsPart(), torch.rand(2, 7, dtype=torch.float64), seed)
    assert mine.cell.state == mine.cell.mix.in_features < 12
    assert not replaced(mine)


def test_squeeze_and_excitation():
    mine = transplanted(SqueezeExcitation(), image())
    assert mine.channels == mine.conv.out_channels == mine.up.out_features < 12


def test_grouped_and_depthwise_convolutions():
    mine = transplanted(Depthwise(), image())
    assert mine.groups == mine.depthwise.groups == mine.norm.num_features == mine.weight.shape[0] < 8


def test_sizes_read_from_tensors_need_nothing():
    mine = transplanted(Shuffle(), image())
    assert mine.one.out_channels + mine.two.out_channels == mine.last.in_channels < 12


def test_modules_that_share_a_configuration_get_their_own():
    config = SimpleNamespace(width=6, hidden=10)
    model = nn.Sequential(Configured(config), Configured(config), nn.Linear(6, 3))
    mine = transplanted(model, image(2, 6), seed=3)
    assert [mine[i].config.hidden for i in (0, 1)] == [mine[i].up.out_features for i in (0, 1)]
    assert config.hidden == model[0].config.hidden == 10
    assert not replaced(mine)


def test_tied_tensors_stay_tied():
    mine = transplanted(Tied(), torch.arange(12).reshape(2, 6))
    assert mine.head.weight is mine.words.weight
    assert mine.words.embedding_dim == mine.words.weight.shape[1]


def test_a_folded_bias_is_registered():
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 5, bias=False))
    mine = transplanted(model, image(2, 6))
    assert mine[2].bias is not None
    assert model[2].bias is None


def test_norms_keep_their_divisor():
    mine = transplanted(nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.Linear(10, 3)), image(2, 6))
    assert isinstance(mine[1], LayerNorm)
    assert mine[1].normalized_shape == [10]
    assert mine[1].weight.shape == (mine[0].out_features,)


@pytest.mark.filterwarnings("ignore:replaced by their part")
def test_a_norm_written_by_hand_becomes_its_part_of_the_program():
    mine = transplanted(nn.Sequential(nn.Linear(6, 10), HandNorm(10), nn.Linear(10, 3)), image(2, 6))
    assert replaced(mine) == ["1"]
    assert "in place of HandNorm" in repr(mine)


def test_what_no_integer_fixes_is_replaced_and_named():
    model, slim = slim_of(nn.Sequential(DerivedAttention(), nn.Linear(12, 3)), TOKENS)
    with pytest.warns(UserWarning, match=r"replaced by their part of the slim program.*0 \(DerivedAttention\)"):
        mine = swdc.transplant(slim, model)
    assert replaced(mine) == ["0"]
    assert mine[0].scale == 0.5, "the attributes of the replaced module are still there"
    assert set(mine.state_dict()) == set(model.state_dict())
    assert_same(slim(TOKENS), mine(TOKENS))


@pytest.mark.filterwarnings("ignore:replaced by their part")
def test_a_replaced_module_is_picklable_trainable_and_copied():
    mine = transplanted(nn.Sequential(DerivedAttention(), nn.Linear(12, 3)), TOKENS)
    for other in (pickle.loads(pickle.dumps(mine)), copy.deepcopy(mine)):
        assert_same(mine(TOKENS), other(TOKENS))
        with torch.no_grad():
            other[0].qkv.weight.add_(1)
        assert not torch.equal(mine(TOKENS), other(TOKENS))
    mine(TOKENS).sum().backward()
    assert all(p.grad is not None for p in mine.parameters())
    with pytest.raises(swdc.SwdcError, match="to be called as in the example"):
        mine[0](TOKENS, TOKENS)


def test_a_number_in_the_code_is_an_error_that_names_the_line():
    model, slim = slim_of(HardCoded(), image(2, 6))
    with pytest.raises(TransplantError, match=r"HardCoded at 'the top'.*models\.py:\d+ gives shape.*invalid"):
        swdc.transplant(slim, model)


def test_what_evaluation_does_not_read_is_kept_and_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, slim = slim_of(Auxiliary(), image(2, 6))
    with pytest.warns(UserWarning, match="not read in evaluation and kept as they are.*aux.weight, aux.bias") as heard:
        mine = swdc.transplant(slim, model)
    assert {warning.filename for warning in heard} == {__file__}
    assert mine.aux.weight.shape == (4, 8)
    assert_same(slim(image(2, 6)), mine(image(2, 6)))


def test_modes_types_and_gradients_follow():
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), conv(8, 4))
    randomise(model).float()
    model[0].weight.requires_grad_(False)
    model[1].eval()
    program = swdc.trace(model, image().float())
    mine = swdc.transplant(swdc.slim(program, random_plan(program)), model)
    assert [m.training for m in mine.modules()] == [m.training for m in model.modules()]
    assert [p.requires_grad for p in mine.parameters()] == [p.requires_grad for p in model.parameters()]
    assert {t.dtype for t in mine.state_dict().values()} == {torch.float32, torch.int64}


class Caching(nn.Module):
    """Counts its channels, and installs a hook and a flag at its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x):
        if not torch.compiler.is_compiling() and not hasattr(self, "ready"):
            self.ready = True
            self.up.register_forward_hook(lambda module, args, result: None)
        return self.down(self.up(x).relu())


def test_runs_leave_nothing_behind():
    mine = swdc.transplant(*slim_of(Caching(), image(2, 6))[::-1])
    assert not hasattr(mine, "ready")
    assert not mine.up._forward_hooks


class Biased(nn.Module):
    """Computes a bias from a parameter once, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 8, bias=False), nn.Linear(8, 5)
        self.bias = nn.Parameter(torch.randn(8))
        self.cache, self.order = {}, []

    def forward(self, x):
        if "bias" not in self.cache:
            self.cache["bias"] = self.bias.detach() * 2
            self.order.append("bias")
        return self.down((self.up(x) + self.cache["bias"]).relu())


def test_runs_leave_no_stale_cache():
    model, slim = slim_of(Biased(), image(2, 6))
    mine = swdc.transplant(slim, model)
    assert mine.cache == {}
    assert mine.order == []
    assert_same(slim(image(2, 6)), mine(image(2, 6)))


def test_nothing_is_shared_with_the_slim_program_or_the_model():
    model, slim = slim_of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)), image(2, 6))
    mine = swdc.transplant(slim, model)
    memory = {t.data_ptr() for other in (slim, model) for t in other.state_dict().values()}
    assert memory.isdisjoint(t.data_ptr() for t in mine.state_dict().values())


@pytest.mark.filterwarnings("ignore:the model overwrites calls")
def test_recorded_programs_are_compared_with_the_masked_model():
    model = randomise(Detector()).eval()
    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        program = swdc.trace(model, (pictures(),))
    plan = random_plan(program)
    with pytest.warns(UserWarning, match="so Detector is compared where its code goes as it does on them"):
        mine = swdc.transplant(swdc.slim(program, plan), model)
    assert mine.first.out_features < 10
    assert mine.calls == model.calls == 0
    masked = copy.deepcopy(model)
    masked.load_state_dict(swdc.mask(program, plan).state_dict())
    for seed in (0, 5):
        assert_same(masked(pictures(seed)), mine(pictures(seed)))


class Rows(nn.Module):
    """Repeats each image's features as often as a layer says, and describes them by a module that knows its width."""

    def __init__(self, other_head: bool = False) -> None:
        super().__init__()
        self.body, self.amount, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 1), Described()
        self.spare = Described() if other_head else None

    def forward(self, images):
        centred = images - torch.tensor([0.1, 0.2, 0.3], dtype=images.dtype)[:, None, None]
        features = torch.relu(self.body(centred)).mean((2, 3))
        found = []
        for row in features:
            amount = float(self.amount(row))
            head = self.spare if self.spare is not None and amount != float(self.amount.bias) else self.head
            found.append(head(row.repeat(1 + int(abs(amount) * 1000) % 17)))
        return torch.cat(found)


class Described(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width, self.inner, self.outer = 8, nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, features):
        return self.outer(torch.relu(self.inner(features.view(-1, self.width))))


def recorded_slim(model):
    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        program = swdc.trace(model, image(2, 3, 5, 5).float())
    plan = swdc.plan(program, 0.5, scope="group")
    return swdc.mask(program, plan), swdc.slim(program, plan)


def test_a_recorded_model_may_take_another_path_when_channels_are_gone():
    model = randomise(Rows()).float().eval()
    masked, slim = recorded_slim(model)
    with pytest.warns(UserWarning, match="recorded on the example inputs, so Rows is compared"):
        mine = swdc.transplant(slim, model)
    assert mine.head.width == 4
    assert {t.dtype for t in mine.state_dict().values()} == {torch.float32}
    expected = copy.deepcopy(model)
    expected.load_state_dict(masked.state_dict())
    for seed in range(4):
        x = image(2, 3, 5, 5, seed=seed)
        wanted = expected.double()(x)
        assert_same(wanted, mine.double()(x))
    assert len(wanted) != len(model(x.float()))


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_a_recorded_model_is_transplanted_after_training_although_its_weights_choose_otherwise():
    model = randomise(Rows()).eval()
    program = swdc.trace(model, image(2, 3, 5, 5))
    before = len(model(image(2, 3, 5, 5)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    assert len(model(image(2, 3, 5, 5))) != before
    plan = random_plan(program)
    mine = swdc.transplant(swdc.slim(program, plan), model)
    assert mine.head.width == len(plan.kept["body"]) < 8
    masked = copy.deepcopy(model)
    masked.load_state_dict(swdc.mask(program, plan).state_dict())
    for seed in range(4):
        assert_same(masked(image(2, 3, 5, 5, seed=seed)), mine(image(2, 3, 5, 5, seed=seed)))


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_a_recorded_slim_program_does_not_go_into_a_model_of_other_groups():
    program = swdc.trace(randomise(Rows()).eval(), image(2, 3, 5, 5))
    slim = swdc.slim(program, random_plan(program))
    other = randomise(Rows()).eval()
    other.head.inner, other.head.outer = nn.Linear(8, 7).double(), nn.Linear(7, 4).double()
    with pytest.raises(TransplantError, match="expected the model that the slim program was traced from"):
        swdc.transplant(slim, other)


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_a_recorded_slim_program_brings_its_own_weights():
    model = randomise(Rows()).eval()
    program = swdc.trace(model, image(2, 3, 5, 5))
    plan = random_plan(program)
    other = swdc.transplant(swdc.slim(program, plan), randomise(Rows(), seed=1).eval())
    masked = copy.deepcopy(model)
    masked.load_state_dict(swdc.mask(program, plan).state_dict())
    for seed in range(4):
        assert_same(masked(image(2, 3, 5, 5, seed=seed)), other(image(2, 3, 5, 5, seed=seed)))


@pytest.mark.filterwarnings("error")
def test_a_recorded_model_of_which_nothing_is_removed_is_transplanted_without_a_warning():
    model = randomise(Rows()).eval()
    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        program = swdc.trace(model, image(2, 3, 5, 5))
    whole = swdc.slim(program, plan_of(program, {}))
    assert_same(model(image(2, 3, 5, 5)), swdc.transplant(whole, model)(image(2, 3, 5, 5)))


def test_a_recorded_model_that_uses_other_layers_when_channels_are_gone_is_an_error():
    model = randomise(Rows(other_head=True)).float().eval()
    with torch.no_grad():
        model.amount.weight.zero_()
        model.amount.weight[0, 3] = 0.7
        model.body.bias[3] = 9.0
    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        program = swdc.trace(model, image(2, 3, 5, 5).float())
    widths = {group.name: group.width for group in program.groups}
    slim = swdc.slim(program, plan_of(program, {name: [c for c in range(w) if c != 3] for name, w in widths.items()}))
    with pytest.raises(
        TransplantError, match="expected Rows to use the same layers when the removed channels are zero"
    ):
        swdc.transplant(slim, model)


def test_another_model_is_an_error():
    _, slim = slim_of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)), image(2, 6))
    other = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).double().eval()
    with pytest.raises(
        TransplantError, match="got one of another graph; give one of the same class, made with the same"
    ):
        swdc.transplant(slim, other)


def test_a_program_that_is_not_slim_is_an_error():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)).double().eval()
    program = swdc.trace(model, image(2, 6))
    masked = swdc.mask(program, plan_of(program, {}))
    for given in (program, masked):
        with pytest.raises(TransplantError, match=r"expected a slim program as made by swdc\.slim"):
            swdc.transplant(given, model)


def test_torchs_fused_path_does_not_pass_a_replaced_attention_by() -> None:
    model = randomise(nn.Sequential(nn.Linear(5, 12), nn.TransformerEncoderLayer(12, 4, 9, 0.0, batch_first=True)))
    program = swdc.trace(model.eval(), image(2, 3, 5), attention="head_dim")
    (group,) = [g for g in program.groups if g.width == 3]
    slim = swdc.slim(program, plan_of(program, {group.name: [0]}))
    with pytest.warns(UserWarning, match="self_attn"):
        mine = swdc.transplant(slim, model)
    with torch.no_grad():  # torch computes the whole layer at once, unless something hinders it
        assert_same(slim(image(4, 3, 5)), mine(image(4, 3, 5)), 1e-12)


def test_torchs_fused_path_does_not_pass_a_replaced_norm_by() -> None:
    layer = nn.TransformerEncoderLayer(12, 4, 9, 0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = randomise(nn.Sequential(nn.Linear(5, 12), encoder, nn.Linear(12, 4)))
    program = swdc.trace(model.eval(), image(2, 3, 5))
    heads = {group.name: [0, 2] for group in program.groups if group.width == 4}
    slim = swdc.slim(program, plan_of(program, {"0": [0, 3, 4, 7, 8, 9], **heads}))
    mine = swdc.transplant(slim, model)
    with torch.no_grad():
        assert_same(slim(image(4, 3, 5)), mine(image(4, 3, 5)), 1e-12)


class Listed(nn.Module):
    """Reads its parameters from a list and a dict beside the attributes that register them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Parameter(torch.randn(9, 6)), nn.Parameter(torch.randn(3, 9))
        self.gain = nn.Parameter(torch.rand(9) + 0.5)
        self._weights, self._by_name = [self.enter, self.leave], {"gain": self.gain}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        enter, leave = self._weights
        return F.linear(F.relu(F.linear(x, enter) * self._by_name["gain"]), leave)


def test_lists_and_dicts_of_parameters_are_renewed():
    model = Listed().double().eval()
    program = swdc.trace(model, image(2, 6))
    slim = swdc.slim(program, random_plan(program))
    mine = swdc.transplant(slim, model)
    assert mine._weights[0] is mine.enter
    assert mine._weights[1] is mine.leave
    assert mine._by_name["gain"] is mine.gain
    assert model._weights[0] is model.enter
    assert mine.enter.shape[0] < 9
    assert_same(slim(image(5, 6)), mine(image(5, 6)))


class Siamese(nn.Module):
    """One encoder under two names, norms that share their tensors, and a weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.left = self.right = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))
        for norm in self.norms[1:]:
            norm.weight, norm.bias = self.norms[0].weight, self.norms[0].bias
        self.project, self.score = nn.Linear(8, 8), nn.Linear(8, 2)
        self.alias = self.project.weight

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        a = self.norms[1](self.project(self.norms[0](self.left(one))))
        b = self.norms[2](F.linear(self.norms[0](self.right(two)), self.alias, self.project.bias))
        return self.score((a - b).abs())


def test_modules_and_tensors_with_several_names_stay_one():
    model = Siamese().double().eval()
    program = swdc.trace(model, (image(2, 6), image(2, 6, seed=2)))
    slim = certified(program)[1]
    mine = swdc.transplant(slim, model)
    assert mine.left is mine.right
    assert mine.alias is mine.project.weight
    assert mine.norms[0].weight is mine.norms[1].weight is mine.norms[2].weight
    assert list(mine.state_dict()) == list(model.state_dict())
    x = image(5, 6), image(5, 6, seed=2)
    assert_same(slim(*x), mine(*x))


class Counting(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.last(self.first(x).relu()) * self.calls


def test_runs_leave_no_trace_in_buffers():
    model = Counting().double().eval()
    program = swdc.trace(model, image(2, 6))
    slim = swdc.slim(program, random_plan(program))
    mine = swdc.transplant(slim, model)
    assert mine.calls == 0
    for _ in range(2):
        assert_same(slim(image(5, 6)), mine(image(5, 6)))


def test_a_model_of_mixed_types_is_compared_in_the_types_of_its_example():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.inside(x.to(torch.float32)).relu().to(x.dtype))

    model = randomise(Mixed()).eval()
    model.inside.float()
    slim = swdc.slim(program := swdc.trace(model, image(2, 3)), random_plan(program))
    mine = swdc.transplant(slim, model)
    assert mine.inside.weight.dtype == torch.float32
    assert_same(slim(image(5, 3)), mine(image(5, 3)))


class Shared(nn.Module):
    """Reads the width of one value from another one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 12), nn.Linear(6, 12)
        self.first, self.second = nn.Linear(12, 4), nn.Linear(12, 4)

    def forward(self, x, t):
        h, e = self.one(x).relu(), self.two(t).relu()
        return self.first(h) + self.second(e.view(x.shape[0], -1, h.shape[-1])).mean(1, keepdim=True)


def test_a_size_that_is_read_for_two_groups_needs_both_to_be_as_wide():
    model, example = randomise(Shared()).eval(), (image(2, 5, 8), image(2, 3, 6))
    program = swdc.trace(model, example)
    slim = swdc.slim(program, plan_of(program, {"one": [0, 3, 4, 9], "two": [1, 2, 8, 11]}))
    mine = swdc.transplant(slim, model)
    other = (image(3, 4, 8), image(3, 7, 6))
    assert_same(slim(*other), mine(*other))
    slim = swdc.slim(program, plan_of(program, {"one": [0, 3, 4, 9], "two": [1, 2, 8]}))
    with pytest.raises(TransplantError, match="or let one and two keep as many channels each, if it stands for both"):
        swdc.transplant(slim, model)
