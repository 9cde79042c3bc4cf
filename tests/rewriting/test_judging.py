"""What counts as rounding where one run of each program says too little."""

import torch

from swdc.rewriting.cases import EVAL, Case, Result
from swdc.rewriting.judging import Judge

WIDE = torch.linspace(1.0, 2.0, 8, dtype=torch.float64).reshape(1, 8)
ROUNDED = (WIDE * (1 + 1e-7)).float()
OTHER = WIDE.flip(1).float()
"""The result if another of two equal numbers is chosen."""


def verdict(masked_draws, slim, slim_draws):
    cases = [Case(EVAL, 1, ((), {}))]
    one = [Result([WIDE])]

    def runs_of(draws):
        return lambda case, unit, dtype: [Result([values]) for values in draws]

    eps = torch.finfo(torch.float32).eps
    wide = (cases, one, one, [Result([ROUNDED])], eps, runs_of(masked_draws), runs_of(slim_draws))
    return Judge(*wide, "float32", eps, [Result([ROUNDED])], [Result([slim])]).verdict()


def test_a_choice_that_rounding_changes_is_rounding():
    assert verdict([ROUNDED, OTHER], OTHER, [OTHER] * 4).rounding <= 8.0  # in the masked program
    assert verdict([ROUNDED] * 4, OTHER, [ROUNDED] * 4).rounding <= 8.0  # in one of five runs of the slim one


def test_what_the_slim_program_loses_in_most_runs_is_a_difference():
    found = verdict([ROUNDED] * 4, OTHER, [OTHER, OTHER, ROUNDED, ROUNDED])
    assert found.rounding > 1e4
    assert verdict([ROUNDED] * 4, OTHER, [OTHER] * 4).rounding > 1e4


def test_a_run_that_fails_or_has_another_shape_says_nothing_for_the_slim_program():
    assert verdict([ROUNDED] * 4, OTHER, []).rounding > 1e4
    assert verdict([ROUNDED] * 4, OTHER, [torch.zeros(1, 3)] * 4).rounding > 1e4
