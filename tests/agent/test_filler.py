"""What is said while tools are slow: when, and which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.minds.filler import Filler, FillerPolicy

POLICY = FillerPolicy(after_s=0.8, again_s=6.0, lines=("One moment.", "Still on it."))


def test_nothing_is_due_while_no_tool_runs() -> None:
    filler = Filler(POLICY)
    assert filler.due_s is None and not filler.busy
    filler.called("a", 10.0)
    filler.answered("a")
    assert filler.due_s is None and not filler.busy


def test_a_slow_tool_is_bridged_and_bridged_again() -> None:
    filler = Filler(POLICY)
    filler.called("a", 10.0)
    assert filler.due_s == pytest.approx(10.8)
    assert filler.line() == "One moment."
    filler.spoken(12.0)
    assert filler.due_s == pytest.approx(18.0)
    assert [filler.line(), filler.line()] == ["Still on it.", "Still on it."], "the last one serves"


def test_words_of_anybody_put_it_off() -> None:
    filler = Filler(POLICY)
    filler.called("a", 10.0)
    filler.spoken(10.5)
    assert filler.due_s == pytest.approx(11.3)
    filler.spoken(10.2)
    assert filler.due_s == pytest.approx(11.3), "what is told late changes nothing"


def test_parallel_calls_are_one_wait() -> None:
    filler = Filler(POLICY)
    filler.called("a", 10.0)
    filler.called("b", 10.6)
    assert filler.due_s == pytest.approx(10.8)
    filler.answered("a")
    filler.answered("a")
    assert filler.busy and filler.due_s == pytest.approx(10.8)
    filler.answered("b")
    assert not filler.busy


def test_each_wait_begins_with_the_first_line() -> None:
    filler = Filler(POLICY)
    for start in (0.0, 100.0):
        filler.called("a", start)
        assert filler.line() == "One moment."
        filler.line()
        filler.answered("a")


def test_no_lines_is_silence() -> None:
    filler = Filler(FillerPolicy(lines=()))
    filler.called("a", 0.0)
    assert filler.busy and filler.due_s is None


@pytest.mark.parametrize("times", [{"after_s": -1.0}, {"again_s": 0.0}])
def test_impossible_times_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"lines=\(\)"):
        FillerPolicy(**times)


@given(
    st.lists(
        st.tuples(st.sampled_from(["called", "answered", "spoken"]), st.sampled_from("abc")),
        max_size=30,
    )
)
def test_due_means_busy_and_silent_for_long(steps: list[tuple[str, str]]) -> None:
    filler, running, last = Filler(POLICY), set[str](), 0.0
    for now, (what, call) in enumerate(steps):
        if what == "called":
            last = last if running else max(last, now)
            running.add(call)
            filler.called(call, now)
        elif what == "answered":
            running.discard(call)
            filler.answered(call)
        else:
            last = max(last, now)
            filler.spoken(now)
        assert filler.busy == bool(running)
        if filler.due_s is not None:
            assert running and filler.due_s >= last + POLICY.after_s - 1e-9
        else:
            assert not running


# --- giving up ----------------------------------------------------------------------------------

SHORT = FillerPolicy(give_up_s=10.0)


def test_each_call_is_given_up_after_its_own_time() -> None:
    filler = Filler(SHORT)
    assert filler.give_up_at_s is None
    filler.called("a", 100.0)
    filler.called("b", 103.0)
    filler.called("a", 105.0)  # told twice: it began when it began
    assert filler.give_up_at_s == pytest.approx(110.0)
    filler.spoken(109.0)
    assert filler.give_up_at_s == pytest.approx(110.0), "whoever speaks"
    assert filler.given_up(109.9) == ()
    assert filler.given_up(110.0) == ("a",)
    assert filler.running == {"b"} and filler.give_up_at_s == pytest.approx(113.0)
    filler.answered("b")
    assert filler.given_up(200.0) == () and filler.give_up_at_s is None


def test_a_policy_may_wait_for_ever() -> None:
    filler = Filler(FillerPolicy(give_up_s=None))
    filler.called("a", 0.0)
    assert filler.give_up_at_s is None and filler.given_up(1e9) == ()
    with pytest.raises(ValueError, match="give_up_s"):
        FillerPolicy(give_up_s=0)
