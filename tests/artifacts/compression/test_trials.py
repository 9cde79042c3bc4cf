from swdc.artifacts.compression.trials import Trial, best_of, cuts_of, next_share


def good(share: float, removed: float, base: float = 0.0) -> Trial:
    return Trial(share, base, 0.0, removed, 0.5, 0.9, True)


def bad(share: float, base: float = 0.0) -> Trial:
    return Trial(share, base, 0.0, share, 0.1, 0.2, False)


def test_one_process_bisects():
    assert next_share([], []) == 0.5
    assert next_share([good(0.5, 0.5)], []) == 0.75
    assert next_share([good(0.5, 0.5), bad(0.75, 0.5)], []) == 0.625
    assert next_share([bad(0.5)], []) == 0.25


def test_what_is_gone_counts_rather_than_what_was_asked_for():
    assert next_share([good(0.5, 0.6)], []) == 0.8


def test_several_processes_search_side_by_side():
    assert next_share([], [0.5]) == 0.25
    assert next_share([], [0.5, 0.25]) == 0.75
    assert next_share([good(0.5, 0.5)], [0.25]) == 0.75, "a trial below what is good enough counts no longer"


def test_a_share_that_fell_too_far_below_a_good_one_is_no_bound():
    assert next_share([bad(0.4), good(0.6, 0.6)], []) == 0.8


def test_cuts_lead_from_the_dense_program_to_the_best():
    trials = [good(0.5, 0.5), bad(0.75, 0.5), good(0.6, 0.6, 0.5), good(0.65, 0.66, 0.6)]
    assert best_of(trials) == trials[3]
    assert cuts_of(trials) == [trials[0], trials[2], trials[3]]
    assert best_of([bad(0.5)]) is None
    assert cuts_of([bad(0.5)]) == []


def test_a_trial_is_told_in_a_line():
    assert str(good(0.5, 0.52)) == "52.0% gone: metric 0.5, recovered 0.9, good enough"
    assert "fell too far" in str(bad(0.5))
    assert str(Trial(0.5, 0.0, reason="no plan")) == "50.0% to go: no plan"
