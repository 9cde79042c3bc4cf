import torch
from torch import nn

import swdc
from passes.mask_channels import MaskChannels
from tests.support import assert_equal, conv, image, plan_of, text, traced


def network():
    return nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2))


def test_golden(golden):
    program = traced(network())
    masked = MaskChannels(plan_of(program, {"0": [0, 3]})).apply(program).program
    values = {n: t[:, 0, 0, 0] if t.dim() == 4 else t for n, t in masked.tensors.items() if n.startswith(("0", "1"))}
    zeros = "\n".join(f"{n}: {[bool(v) for v in t.flatten() != 0]}" for n, t in values.items())
    golden("mask_channels", text(masked) + "\nnot zero\n\n" + zeros + "\n")


def test_what_writes_a_removed_channel_is_zero_and_nothing_else_changes():
    program = traced(network())
    masked = swdc.mask(program, plan_of(program, {"0": [0, 3]}))
    before, after = program.tensors, masked.tensors
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert (after[name][[1, 2]] == 0).all()
        assert torch.equal(after[name][[0, 3]], before[name][[0, 3]])
    for name in ("1.running_mean", "1.running_var", "4.weight", "4.bias"):
        assert torch.equal(after[name], before[name])


def test_the_program_itself_stays():
    program = traced(network())
    state = {n: t.clone() for n, t in program.tensors.items()}
    masked = swdc.mask(program, plan_of(program, {"0": [1]}))
    assert all(torch.equal(state[n], t) for n, t in program.tensors.items())
    assert not {t.data_ptr() for t in program.tensors.values()} & {t.data_ptr() for t in masked.tensors.values()}
    assert masked.facts.origin.dense is program


def test_modified_is_honest():
    program = traced(network())
    nothing = MaskChannels(plan_of(program, {})).apply(program)
    assert not nothing.modified
    assert_equal(program(image()), nothing.program(image()))
    something = MaskChannels(plan_of(program, {"0": [1]})).apply(program)
    assert something.modified
    assert (program(image()) - something.program(image())).abs().max() > 1e-3
