"""The operators that real models use have rules of their own."""

from __future__ import annotations

import pytest
import torch

from swdc.ops.base import OPERATORS, lookup, target_of

USED = """
    aten.add.Tensor aten.cat.default aten.mul.Tensor aten.relu.default aten.gelu.default aten.select.int
    aten.sigmoid.default aten.contiguous.default aten.index.Tensor aten.slice.Tensor aten.unbind.int aten.alias.default
    aten.sub.Tensor aten.div.Tensor aten._assert_tensor_metadata.default aten.arange.default aten.new_zeros.default
    aten.to.dtype aten.chunk.default aten.split_with_sizes.default aten.eq.Scalar aten.to.dtype_layout
    aten.index_select.default aten.to.device aten.hardsigmoid.default aten.new_ones.default aten.silu.default
    aten.lift_fresh_copy.default aten.stack.default aten.roll.default aten.embedding.default aten.__and__.Tensor
    aten.ne.Scalar aten.masked_fill.Scalar aten.pow.Tensor_Scalar aten.arange.start aten.ge.Scalar aten.exp.default
    aten.neg.default aten.ones.default aten.sym_size.int aten._assert_scalar.default aten.ne.Tensor aten.clamp.default
    aten.cos.default aten.sin.default aten.clamp_min.default aten.tanh.default aten.detach.default aten.rsqrt.default
    aten.le.Tensor aten.meshgrid.indexing aten.split.Tensor aten.type_as.default aten.gather.default aten.zeros.default
    aten.scatter_add.default aten.scatter_reduce.two aten.rsub.Scalar aten.sqrt.default aten.clone.default
    aten.hardswish.default aten.addcmul.default aten.div.Tensor_mode aten.pow.Scalar aten.leaky_relu.default
    aten.repeat_interleave.self_int aten.tensor_split.indices aten.copy.default aten.linspace.default
    aten.bitwise_not.default aten.hardtanh.default aten.square.default aten.abs.default aten.lt.Scalar
    aten.zeros_like.default aten.where.self aten.log.default aten.gt.Scalar aten.flip.default aten.clamp.Tensor
    aten.one_hot.default aten.gt.Tensor aten.min.other aten.full_like.default aten.where.ScalarOther aten.ceil.default
    aten.sign.default aten.le.Scalar aten.eq.Tensor aten.index_put.default aten.new_full.default aten.fill.Tensor
    aten.zero.default aten.topk.default torchvision.nms.default torchvision.roi_align.default
    operator.getitem operator.le operator.ge operator.add operator.mul operator.floordiv operator.sym_max
""".split()


@pytest.mark.parametrize("name", USED)
def test_an_operator_that_models_use_has_a_rule(name: str) -> None:
    assert name in OPERATORS.operators
    assert type(lookup(name)).couple is not type(lookup("nothing.of.this")).couple


def test_every_rule_names_an_operator_that_exists() -> None:
    pytest.importorskip("torchvision")
    ours = [name for name in OPERATORS.operators if name.startswith(("aten.", "torchvision."))]
    missing = []
    for name in ours:
        try:
            assert isinstance(target_of(name), torch._ops.OpOverload)
        except AttributeError:
            missing.append(name)
    assert missing == []
