"""Every formula of the floor's bench on cases small enough to work out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from parley.bench.floor import fdb, fdb15, goals, ours, sweep, tau
from parley.bench.floor.timeline import Speech, Timeline, UserSound, of, twin


def sound(kind: str, *voiced: tuple[float, float]) -> UserSound:
    return UserSound(kind, voiced[0][0], voiced[-1][1], voiced)


def timeline(
    user: list[UserSound],
    agent: list[tuple[float, float, int]],
    seconds: float = 20.0,
    family: str = "smooth",
) -> Timeline:
    return Timeline("x", family, seconds, tuple(user), tuple(Speech(*a) for a in agent))


# --- Full-Duplex-Bench v1 -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speech", "took"),
    [
        (None, False),
        (Speech(0.0, 5.0, 0), False),  # no words
        (Speech(0.0, 0.99, 3), False),  # short, few words
        (Speech(0.0, 0.99, 4), True),  # short, but more than three words
        (Speech(0.0, 1.0, 1), True),  # one second is not below one second
    ],
)
def test_take_over(speech: Speech | None, took: bool) -> None:
    assert fdb.takes_over(speech) is took


def test_a_pause_counts_when_the_agent_begins_before_the_users_end() -> None:
    turn = sound("turn", (1.0, 2.0), (3.0, 4.0))
    assert fdb.pause_take_over(timeline([turn], [(2.5, 5.0, 6)]), turn)
    assert fdb.pause_take_over(timeline([turn], [(3.9, 5.0, 6)]), turn)
    assert not fdb.pause_take_over(timeline([turn], [(4.1, 6.0, 6)]), turn)
    assert not fdb.pause_take_over(timeline([turn], [(2.5, 3.0, 1)]), turn)  # a nod


def test_a_response_and_its_latency() -> None:
    two = [sound("turn", (1.0, 2.0)), sound("turn", (8.0, 9.0))]
    both = timeline(two, [(2.3, 4.0, 5), (9.5, 11.0, 5)])
    assert fdb.response(both, 0) == fdb.Response(True, pytest.approx(0.3))
    assert fdb.response(both, 1) == fdb.Response(True, pytest.approx(0.5))
    assert fdb.response(timeline(two, [(9.5, 11.0, 5)]), 0) == fdb.Response(False, None)
    early = timeline([sound("turn", (1.0, 4.0))], [(3.5, 6.0, 5)])
    assert fdb.response(early, 0) == fdb.Response(True, 0.0), "negative latencies are 0"
    given_up = timeline([sound("turn", (1.0, 2.0), (3.0, 4.0))], [(2.2, 3.3, 5), (4.4, 6.0, 5)])
    assert fdb.response(given_up, 0) == fdb.Response(True, pytest.approx(0.4))


def test_backchannels_of_a_long_turn() -> None:
    turn = sound("turn", (0.0, 4.0), (5.0, 10.0))
    nods = timeline([turn], [(4.2, 4.6, 1), (8.0, 8.4, 2)])
    found = fdb.backchannels(nods, turn)
    assert not found.took
    assert found.times_s == pytest.approx((4.4, 8.2))
    assert found.frequency_hz == pytest.approx(0.2)
    assert fdb.backchannels(timeline([turn], [(4.2, 4.8, 4)]), turn).took  # more than three words
    assert fdb.backchannels(timeline([turn], [(4.2, 7.3, 2)]), turn).took  # more than 3 s


def test_the_distance_of_distributions() -> None:
    assert fdb.distance([0.1, 1.1], [0.15, 1.15], 2.0) == pytest.approx(0.0)
    assert fdb.distance([0.1], [1.1], 2.0) == pytest.approx(1.0), "nothing in common, base 2"
    assert fdb.distance([], [1.1], 2.0) == 1.0
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): the divergence is
    # (log2(4/3) + 1/2 log2(2/3) + 1/2 log2(2)) / 2
    by_hand = math.sqrt((math.log2(4 / 3) + 0.5 * math.log2(2 / 3) + 0.5) / 2)
    assert fdb.distance([0.1], [0.1, 0.3], 0.4) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="reference"):
        fdb.distance([0.1], [], 2.0)


def test_the_scores_sort_samples_into_tasks() -> None:
    paused = timeline([sound("turn", (1.0, 2.0), (3.0, 4.0))], [(2.5, 5.0, 6)])
    smooth = timeline([sound("turn", (1.0, 2.0))], [(2.4, 5.0, 6)])
    cut = timeline([sound("interruption", (3.0, 4.0))], [(1.0, 3.3, 9), (4.6, 6.0, 5)])
    long = timeline(
        [sound("turn", (0.0, 4.0), (4.6, 9.0))], [(4.1, 4.5, 1)], family="monologue_nods"
    )
    s = fdb.scores([paused, smooth, cut, long])
    assert (s.pause_tor, s.turn_tor, s.interruption_tor, s.backchannel_tor) == (1, 1, 1, 0)
    assert s.turn_latency_s == pytest.approx(0.4)
    assert s.interruption_latency_s == pytest.approx(0.6)
    assert s.backchannel_hz == pytest.approx(1 / 9)
    assert s.backchannel_distance == pytest.approx(0.0)
    assert fdb.scores([]).turn_tor is None


# --- Full-Duplex-Bench v1.5 ---------------------------------------------------------------------


def test_behaviour_and_latencies_beside_the_twin() -> None:
    cut = sound("interruption", (5.0, 6.0))
    clean = timeline([], [(1.0, 15.0, 40)])
    answered = timeline([cut], [(1.0, 5.3, 12), (6.2, 8.0, 5)])
    found = fdb15.overlap(answered, 0, clean)
    assert found is not None
    assert found.behaviour == "answered"
    assert found.stop_s == pytest.approx(0.3)
    assert found.response_s == pytest.approx(0.2)
    silent = fdb15.overlap(timeline([cut], [(1.0, 5.3, 12)]), 0, clean)
    assert silent is not None and silent.behaviour == "yielded" and silent.response_s is None
    went_on = fdb15.overlap(timeline([cut], [(1.0, 15.25, 40)]), 0, clean)
    assert went_on is not None and went_on.behaviour == "continued" and went_on.stop_s is None
    assert went_on.shift_s == pytest.approx(0.25)


def test_a_speech_that_ends_where_its_twin_does_was_not_stopped() -> None:
    last = sound("backchannel", (5.0, 5.4))
    clean = timeline([], [(1.0, 5.6, 12)])
    found = fdb15.overlap(timeline([last], [(1.0, 5.6, 12)]), 0, clean)
    assert found is not None and found.behaviour == "continued"
    assert fdb15.overlap(timeline([last], []), 0, clean) is None, "nobody was overlapped"


def test_behaviours_are_shares_of_a_kind() -> None:
    found = [
        fdb15.Overlap("side", "continued", None, None),
        fdb15.Overlap("side", "yielded", 0.4, None),
        fdb15.Overlap("interruption", "answered", 0.2, 0.6),
    ]
    assert fdb15.behaviours(found) == {
        "interruption": {"continued": 0.0, "yielded": 0.0, "answered": 1.0},
        "side": {"continued": 0.5, "yielded": 0.5, "answered": 0.0},
    }
    assert fdb15.latencies(found) == {"interruption": (0.2, 0.6), "side": (0.4, None)}


# --- τ-voice ------------------------------------------------------------------------------------


def test_ticks_belong_to_who_speaks_in_half_of_them() -> None:
    t = timeline([sound("turn", (0.0, 0.3))], [(0.5, 1.0, 1)], seconds=1.0)
    found = tau.ticks(t)
    assert found.user == (True, True, False, False, False)
    assert found.agent == (False, False, True, True, True)


def test_responses_and_yields_in_ticks() -> None:
    t = timeline(
        [sound("turn", (1.0, 2.0)), sound("interruption", (5.0, 6.0))],
        [(2.4, 5.6, 9), (6.6, 8.0, 5)],
    )
    s = tau.scores([t])
    assert pytest.approx((0.4 + 0.6) / 2) == s.L_R
    assert pytest.approx(0.6) == s.L_Y
    assert (s.R_R, s.R_Y, s.I_A) == (1.0, 1.0, 0.0)
    assert s.S_BC is None


def test_a_yield_later_than_two_seconds_is_none() -> None:
    t = timeline([sound("interruption", (5.0, 8.0))], [(2.0, 7.4, 9)])
    s = tau.scores([t])
    assert s.R_Y == 0.0 and s.L_Y is None and s.R_R == 0.0


def test_an_agent_that_begins_within_a_turn_interrupts() -> None:
    t = timeline([sound("turn", (1.0, 2.0), (3.0, 4.0))], [(2.4, 3.4, 9), (4.4, 6.0, 9)])
    assert tau.scores([t]).I_A == 1.0


@pytest.mark.parametrize(
    ("agent", "wrong"),
    [
        ([(1.0, 15.0, 40)], False),  # went on
        ([(1.0, 5.8, 12)], True),  # yielded within a second
        ([(1.0, 6.6, 12)], False),  # ended later than that
        ([(1.0, 5.2, 12), (7.0, 8.0, 4)], True),
        ([(6.0, 8.0, 4)], True),  # was silent, and answered within two seconds
        ([(8.4, 9.0, 4)], False),  # later than that
    ],
)
def test_selectivity(agent: list[tuple[float, float, int]], wrong: bool) -> None:
    for kind, name in (("backchannel", "S_BC"), ("tic", "S_VT"), ("side", "S_ND")):
        s = tau.scores([timeline([sound(kind, (5.0, 5.4))], agent)])
        assert getattr(s, name) == float(wrong)


# --- cut-ins against delay ------------------------------------------------------------------------


SILENCES = [
    sweep.Silence(0.05, 0.9),  # too short to be a pause
    sweep.Silence(0.3, 0.2),
    sweep.Silence(0.8, 0.6),
    sweep.Silence(None, 0.9),
    sweep.Silence(None, 0.4),
]


def test_a_timeouts_curve() -> None:
    low, mid, high = sweep.fixed(SILENCES, [0.2, 0.5, 0.9])
    assert (low.cut_ins, mid.cut_ins, high.cut_ins) == (1.0, 0.5, 0.0)
    assert (low.delay_s, high.delay_s) == (pytest.approx(0.2), pytest.approx(0.9))


def test_a_judges_curve() -> None:
    (one,) = sweep.thresholds(SILENCES, [0.5], sure_s=0.1, timeout_s=1.0)
    assert one.cut_ins == 0.5, "the pause that looks like an end"
    assert one.delay_s == pytest.approx((0.1 + 1.0) / 2)


def test_operating_points() -> None:
    points = sweep.fixed(SILENCES, [0.2, 0.5, 0.9])
    assert sweep.best_delay(points, 0.05) == pytest.approx(0.9)
    assert sweep.best_delay(points[:2], 0.05) is None
    assert sweep.least_cut_ins(points, 0.6) == 0.5
    assert sweep.least_cut_ins(points, 0.1) is None
    with pytest.raises(ValueError, match="pauses and ends"):
        sweep.fixed([sweep.Silence(None)], [0.2])


# --- ours -----------------------------------------------------------------------------------------


def test_waste_of_guesses() -> None:
    found = ours.waste([{"speculated": 5, "committed": 2, "discarded": 3}] * 2)
    assert (found.guesses, found.kept, found.discarded) == (10, 4, 6)
    assert found.share == pytest.approx(0.6)
    assert found.per_turn == pytest.approx(1.5)
    assert ours.waste([]).share is None


def test_words_and_samples_that_do_not_add_up() -> None:
    agent = [
        {"heard": "a b", "heard_error": 1, "slips": [48, -480]},
        {"heard": None, "heard_error": 9, "slips": []},
    ]
    assert ours.heard_errors(agent) == (1, 1)
    assert ours.lost_samples(agent) == (48, 480)


def test_ducks_that_were_for_nothing() -> None:
    moves = [[100, "Duck", -1], [300, "Unduck", -1], [900, "Duck", -1], [950, "Yield", 0]]
    assert ours.ducked_for_nothing_ms(moves) == [200]


# --- the table of goals ---------------------------------------------------------------------------


def row(**fields: Any) -> dict[str, Any]:
    base = {
        "family": "x", "kind": "interruption", "over_agent": True, "left_ms": 9000.0,
        "ducked_ms": 40.0, "silent_ms": 200.0, "stopped": True, "answered_ms": 150.0,
        "cut_in_ms": [], "pauses": [],
    }  # fmt: skip
    return {**base, **fields}


def conversation(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"rows": list(rows), "agent": [], "seconds": 60.0, "floor_s": 0.03, **fields}


def figure(name: str, *rows: dict[str, Any], **fields: Any) -> Any:
    found = goals.table([conversation(*rows, **fields)])
    return next(f for f in found if f.name == name)


def test_interruptions_are_missed_when_late_or_never() -> None:
    late, never = row(silent_ms=701.0), row(silent_ms=None, stopped=False)
    missed = figure("missed", row(), late, never, row(silent_ms=700.0))
    assert missed.value("mean") == pytest.approx(50.0)
    assert missed.verdict == "MISS"
    silent = figure("silent", row(), never)
    assert silent.value("p95") is None and silent.verdict == "MISS"


def test_an_interruption_of_a_last_word_is_not_missed_when_the_reply_ends_by_itself() -> None:
    ended = row(silent_ms=None, stopped=False, left_ms=300.0)
    assert figure("missed", ended).n == 0
    assert figure("missed", row(silent_ms=None, stopped=False, left_ms=701.0)).n == 1


def test_what_must_not_stop_the_agent() -> None:
    nods = [row(kind="backchannel", stopped=False) for _ in range(49)]
    assert figure("yields_backchannel", *nods, row(kind="backchannel")).verdict == "OK"
    assert figure("yields_backchannel", *nods[:48], row(kind="backchannel")).verdict == "MISS"
    silent = row(kind="backchannel", over_agent=False)
    assert figure("yields_backchannel", silent).n == 0, "the agent was not speaking"


def test_answers_are_of_turns_that_nobody_cut_into() -> None:
    turn = row(kind="turn", answered_ms=180.0)
    cut = row(kind="turn", answered_ms=50.0, cut_in_ms=[-900.0])
    far = row(kind="turn", family="telephone", answered_ms=400.0)
    answer = figure("answer", turn, cut, far)
    assert answer.samples == (180.0,)
    pauses = [{"cut_in": True}, {"cut_in": False}]
    assert figure("cut_in", row(kind="turn", pauses=pauses)).value("mean") == 50.0


def test_the_floors_cost_is_of_ten_minutes() -> None:
    assert figure("floor_cost").samples == (pytest.approx(300.0),)


def test_an_agent_without_an_account_has_no_figures_of_it() -> None:
    known = {"heard": "one two", "heard_error": 1, "slips": [3, -4]}
    unknown = {"heard": None, "heard_error": 0, "slips": [-9000]}
    assert figure("lost", agent=[known, unknown]).samples == (7.0,)
    assert figure("heard_error", agent=[known, unknown]).samples == (1.0,)
    assert figure("floor_cost", floor_s=0.0).n == 0


# --- from what was judged -------------------------------------------------------------------------


def test_a_timeline_from_a_conversation() -> None:
    found = of(
        {
            "scene": {"name": "n", "family": "f"},
            "seconds": 9.0,
            "user": [{"kind": "noise", "text": "cough", "voiced_ms": [[1000, 1500], [2000, 2500]]}],
            "agent": [{"begin_ms": 500.0, "end_ms": 800.0, "heard": "one two"}],
        }
    )
    assert found.user[0].kind == "tic"
    assert found.user[0].pauses_s == ((1.5, 2.0),)
    assert found.agent == (Speech(0.5, 0.8, 2),)
    assert found.agent_at(0.6) is not None and found.agent_at(0.8) is None


def test_a_twin_speaks_to_its_own_end() -> None:
    stopped = {"begin_ms": 500.0, "end_ms": 800.0, "whole_ms": 4000.0, "heard": "one two"}
    found = twin(
        {
            "scene": {"name": "n", "family": "f"},
            "seconds": 9.0,
            "user": [{"kind": "noise", "text": "tap", "voiced_ms": [[700, 900]]}],
            "agent": [stopped],
        }
    )
    assert found.user == ()
    assert found.agent == (Speech(0.5, 4.0, 2),)
