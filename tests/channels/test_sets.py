"""Labels that go together, and labels that have to stay."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from swdc.channels.sets import Sets
from swdc.ir.call import Call
from swdc.ir.groups import Reason
from swdc.ir.trace_options import HEAD_DIM, HEADS
from swdc.ops import calls
from tests.support import image, traced


@pytest.fixture
def call() -> Call:
    """A call to give reasons with."""
    ((_, found),) = calls(traced(nn.Sequential(nn.ReLU()), image(2, 3))).values()
    return found


def test_joined_labels_form_a_set(call: Call) -> None:
    sets = Sets()
    one, other, third = (sets.fresh(2) for _ in range(3))
    assert sets.join(one, other, call) is one
    count, ids = sets.components()
    assert count == 4
    assert ids[one].tolist() == ids[other].tolist()
    assert not set(ids[one]) & set(ids[third])


def test_the_first_reason_of_a_set_counts(call: Call) -> None:
    sets = Sets()
    one, other = sets.fresh(3), sets.fresh(3)
    sets.join(one, other, call)
    sets.freeze(other[:2], Reason("early"))
    sets.freeze(one[1:], Reason("late"))
    sets.freeze(one[:0], Reason("never"))
    sets.freeze(None, Reason("never"))
    count, ids = sets.components()
    first, reasons = sets.frozen(count, ids)
    assert [reasons[number].text for number in first[ids[one]]] == ["early", "early", "late"]
    assert len(reasons) == 2


def test_what_has_no_partner_to_join_is_frozen(call: Call) -> None:
    sets = Sets()
    alone, short, long = sets.fresh(2), sets.fresh(2), sets.fresh(3)
    assert sets.join(alone, None, call) is None
    assert sets.join(short, long, call) is None
    first, reasons = sets.frozen(*sets.components())
    assert (first >= 0).all()
    assert [reason.text for reason in reasons] == [
        "aligned with a dimension that holds no removable channels",
        *["aligned with a dimension whose channels repeat in another way"] * 2,
    ]


@pytest.mark.parametrize(("preferred", "chosen"), [(HEADS, 0), (HEAD_DIM, 1)])
def test_a_dimension_loses_channels_along_the_factor_that_is_asked_for(preferred: str, chosen: int, call: Call) -> None:
    sets = Sets()
    whole = sets.fresh(12).reshape(3, 4)
    factors = sets.factor(whole, call)
    sets.mark(factors[0], HEADS)
    sets.mark(factors[1], HEAD_DIM)
    sets.settle(preferred)
    count, ids = sets.components()
    assert count == 7
    first, _ = sets.frozen(count, ids)
    assert (first[ids[factors[chosen]]] < 0).all()
    assert (first[ids[factors[1 - chosen]]] >= 0).all()
    along = np.moveaxis(ids[whole], chosen, 0)
    assert (along == along[:, :1]).all()
