"""The circuit breaker: when a request passes, and when none does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.minds.breaker import Breaker, BreakerPolicy, Circuit

POLICY = BreakerPolicy(failures=3, open_s=2.0, longest_s=10.0, trial_s=5.0)


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(3):
        assert breaker.take(now)
        breaker.failed(now)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker(POLICY)
    for verdict in (breaker.failed, breaker.failed):
        breaker.take(0.0)
        verdict(0.0)
    breaker.take(0.0)
    breaker.succeeded()
    assert breaker.state is Circuit.CLOSED
    breaker.failed(0.0)
    breaker.failed(0.0)
    assert breaker.take(0.0), "the success between them counts"
    breaker.failed(0.0)
    assert breaker.state is Circuit.OPEN and not breaker.take(0.0)


def test_one_tries_when_the_time_is_over_and_only_one() -> None:
    breaker = opened(100.0)
    assert breaker.free_at(100.0) == 102.0 and not breaker.take(101.9)
    assert breaker.take(102.0) and breaker.state is Circuit.HALF_OPEN
    assert not breaker.take(102.0), "one try at a time"
    breaker.succeeded()
    assert breaker.take(102.1) and breaker.take(102.1)


def test_a_try_that_fails_doubles_the_time_up_to_a_bound() -> None:
    breaker, now, pauses = opened(100.0), 100.0, []
    for _ in range(5):
        free = breaker.free_at(now)
        pauses.append(free - now)
        now = free
        assert breaker.take(now)
        breaker.failed(now)
    assert pauses == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert breaker.take(breaker.free_at(now))
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(now)
    assert breaker.free_at(now) == now + 2.0, "a recovery begins anew"


def test_the_servers_own_wish_opens_at_once_and_is_bounded() -> None:
    breaker = Breaker(POLICY)
    breaker.take(0.0)
    breaker.failed(0.0, retry_after_s=4.0)
    assert breaker.free_at(0.0) == 4.0
    breaker = Breaker(POLICY)
    breaker.failed(0.0, retry_after_s=86_400.0)
    assert breaker.free_at(0.0) == POLICY.longest_s


def test_an_abandoned_try_lets_another_one_try() -> None:
    breaker = opened(100.0)
    assert breaker.take(103.0)
    breaker.abandoned(103.5)
    assert breaker.state is Circuit.OPEN and breaker.take(103.5)


def test_a_try_that_nobody_reported_is_lost_after_a_while() -> None:
    breaker = opened(100.0)
    assert breaker.take(102.0)
    assert not breaker.take(106.9)
    assert breaker.take(107.0)


def test_abandoning_a_request_through_a_closed_breaker_is_nothing() -> None:
    breaker = Breaker(POLICY)
    breaker.take(0.0)
    breaker.abandoned(0.0)
    assert breaker.state is Circuit.CLOSED and breaker.take(0.0)


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"open_s": 0.0}, {"open_s": 90.0}])
def test_impossible_policies_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["take", "succeeded", "failed", "wish", "abandoned", "wait"])))
def test_it_is_never_closed_for_good_and_never_passes_two_tries(steps: list[str]) -> None:
    breaker, now = Breaker(POLICY), 0.0
    for step in steps:
        match step:
            case "take":
                half = breaker.state is Circuit.HALF_OPEN
                took = breaker.take(now)
                assert took == (breaker.state is not Circuit.OPEN and not (half and not took))
            case "succeeded":
                breaker.succeeded()
                assert breaker.take(now)
            case "failed":
                breaker.failed(now)
            case "wish":
                breaker.failed(now, 3.0)
                assert breaker.free_at(now) > now
            case "abandoned":
                breaker.abandoned(now)
            case "wait":
                now += 1.0
        assert breaker.free_at(now) - now <= POLICY.longest_s
    assert breaker.take(now + POLICY.longest_s)
