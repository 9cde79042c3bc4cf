"""The collector is paused, and left as it was."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from swdc.costs.clock import no_collection
from swdc.ir.gc_pause import collection_paused


@pytest.fixture(autouse=True)
def _left_on() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize("paused", [collection_paused, no_collection])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(paused: Callable[[], AbstractContextManager[None]], enabled: bool) -> None:
    if not enabled:
        gc.disable()
    with paused():
        assert not gc.isenabled()
        with paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() == enabled


def test_an_error_does_not_leave_it_paused() -> None:
    with pytest.raises(KeyError), collection_paused():
        raise KeyError
    assert gc.isenabled()
