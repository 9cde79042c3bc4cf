"""Example inputs from text."""

import pytest
import torch

from swdc.cli.terminal.inputs import InputSpec, example_inputs, parse_input
from swdc.errors import CommandError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1x3x224x224", InputSpec(None, (1, 3, 224, 224))),
        ("7", InputSpec(None, (7,))),
        (" 2x4:float64 ", InputSpec(None, (2, 4), torch.float64)),
        ("1x16:int64", InputSpec(None, (1, 16), torch.int64, 2)),
        ("2x156:int64<34", InputSpec(None, (2, 156), torch.int64, 34)),
        ("ids=1x16:int32<1000", InputSpec("ids", (1, 16), torch.int32, 1000)),
        ("attention_mask=1x16:bool", InputSpec("attention_mask", (1, 16), torch.bool)),
    ],
)
def test_an_input_is_name_shape_dtype_and_bound(text: str, expected: InputSpec) -> None:
    assert parse_input(text) == expected


@pytest.mark.parametrize("text", ["", "x", "3x", "1x3x", "1,3,224", "3 x 4", "a b=1x2", "1x-2", "1x2:", "1x2<", "=1x2"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"expected an input as \[name=\]SIZExSIZE.*write for example 1x3x224x224"):
        parse_input(text)


def test_an_empty_dimension_is_refused() -> None:
    with pytest.raises(CommandError, match=r"expected sizes of at least 1 .* got '0x3'; give a batch of 1 or more"):
        parse_input("0x3")


@pytest.mark.parametrize("text", ["99999999999x4", "65536x65536:int8", "x".join(["1"] * 99), "1" * 99])
def test_what_fits_no_memory_is_refused_before_memory_is_asked_for(text: str) -> None:
    with pytest.raises(CommandError, match="expected inputs of at most 25 dimensions and 268,435,456 numbers"):
        parse_input(text)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(
        CommandError, match=r"expected a dtype of float32, .*bool for an input, got 'long' in '1x2:long'"
    ):
        parse_input("1x2:long")


@pytest.mark.parametrize("text", ["1x2<5", "1x2:float64<5", "1x2:bool<5"])
def test_a_bound_wants_an_integer_dtype(text: str) -> None:
    with pytest.raises(CommandError, match=r"expected <N only after an integer dtype .* or write :int64<5"):
        parse_input(text)


@pytest.mark.parametrize("text", ["2x3:int64<0", "2x3:uint8<256"])
def test_a_bound_fits_the_dtype(text: str) -> None:
    with pytest.raises(CommandError, match=r"expected <N with N of 1 to \d+ for u?int\d+, got '2x3"):
        parse_input(text)


def test_positional_inputs_are_a_tuple_of_the_given_shapes_and_dtypes() -> None:
    features, edges = example_inputs(["34x34:float64", "2x156:int64<34"], seed=0)
    assert features.shape == (34, 34)
    assert features.dtype == torch.float64
    assert edges.shape == (2, 156)
    assert edges.dtype == torch.int64
    assert set(edges.flatten().tolist()) <= set(range(34))
    assert int(edges.max()) > 20


def test_named_inputs_are_a_dict() -> None:
    inputs = example_inputs(["ids=1x50:int64", "mask=1x50:bool"], seed=0)
    assert isinstance(inputs, dict)
    assert list(inputs) == ["ids", "mask"]
    assert set(inputs["ids"].flatten().tolist()) == {0, 1}
    assert inputs["mask"].dtype == torch.bool


def test_the_seed_decides_the_inputs() -> None:
    first, again, other = (example_inputs(["2x5", "2x5"], seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])


def test_no_input_is_refused() -> None:
    with pytest.raises(
        CommandError, match=r"expected the shape of an example input, got none; add --input 1x3x224x224"
    ):
        example_inputs([], seed=0)


def test_names_are_for_all_inputs_or_none() -> None:
    with pytest.raises(CommandError, match=r"expected all inputs by position or all by name, got .*give each a name"):
        example_inputs(["1x3", "mask=1x3"], seed=0)


def test_a_name_comes_once() -> None:
    with pytest.raises(CommandError, match=r"expected each input once, got \['x=1x3', 'x=1x3'\]"):
        example_inputs(["x=1x3", "x=1x3"], seed=0)
