"""The example of training-aware quantisation, with one epoch of everything."""

import torch

from examples.qat_digits import accuracy, run


def test_a_slim_program_is_trained_for_int8_and_converted():
    result = run(epochs=1, qat_epochs=1)
    weights = {name: tensor for name, tensor in result.quantized.named_buffers() if tensor.dtype == torch.int8}
    slim = {tuple(p.shape) for p in result.slim.parameters() if p.dim() > 1}
    assert {tuple(tensor.shape) for tensor in weights.values()} == slim, "every weight of the slim program is int8"
    assert len(weights) == 3
    assert result.slim.get_parameter("3.weight").shape[0] < 64
    assert result.int8 >= result.float32 - 0.03
    assert accuracy(result.quantized) == result.int8 > 0.8
    assert accuracy(result.slim) == result.float32, "the slim program is not changed"
