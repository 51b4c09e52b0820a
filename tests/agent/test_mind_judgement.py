"""Judgements: numbers out of answers, calibration, evidence, a judge who is late or confused."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fake_openai import Exchange, fake_openai
from parley.bench.mind_calibration import curve, fit_letters, fit_platt
from parley.bench.mind_examples import read
from parley.minds.base import Attentive, Cause, Context, OverlapOpinion, Said
from parley.minds.judgement import (
    LETTERS,
    OVERLAP_QUESTION,
    Calibration,
    CalibrationError,
    LetterCalibration,
    Platt,
    load_calibration,
    p_end,
    p_letters,
    weigh,
)
from parley.minds.judgement_vllm import LATE_IN_A_ROW, Judge, end_question, overlap_question
from parley.minds.vllm_http import Connections
from parley_speech.types import OverlapEvidence

P = st.floats(0.001, 0.999)


def answer(**tokens: float) -> dict[str, Any]:
    """A completion whose first place had these probabilities."""
    top = [{"token": t, "logprob": math.log(p)} for t, p in tokens.items()]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


# --- numbers ------------------------------------------------------------------------------------


def test_the_end_is_the_templates_mark_or_the_punctuation_before_it():
    found = answer(**{"<end>": 0.25, "?": 0.25, " .": 0.125, " and": 0.3})
    assert p_end(found, "<end>") == pytest.approx(0.625)
    assert p_end(answer(**{" and": 1.0}), "<end>") == pytest.approx(1e-6)


def test_letters_sum_to_one_whatever_else_was_likely():
    assert p_letters(answer(A=0.2, B=0.1, C=0.1, D=0.6)) == pytest.approx((0.5, 0.25, 0.25), 1e-4)
    assert sum(p_letters(answer(A=1.0))) == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong", [{}, {"choices": []}, {"choices": [{"logprobs": None}]}, {"choices": [{}]}]
)
def test_an_answer_without_logprobs_is_no_judgement(wrong: dict[str, Any]):
    for read_it in (p_letters, lambda a: p_end(a, "x")):
        with pytest.raises(ValueError, match="top_logprobs"):
            read_it(wrong)
    with pytest.raises(ValueError, match="none of the letters"):
        p_letters(answer(x=1.0))


# --- calibration --------------------------------------------------------------------------------


@given(P, st.floats(0.1, 5), st.floats(-3, 3))
def test_platt_is_rising_and_the_identity_by_default(p: float, slope: float, offset: float):
    assert Platt()(p) == pytest.approx(p, abs=1e-6)
    assert Platt(slope, offset)(p) <= Platt(slope, offset)(min(0.9999, p + 0.0005))


@given(st.tuples(P, P, P), st.floats(0.1, 3), st.tuples(*[st.floats(-2, 2)] * 3))
def test_letters_stay_a_distribution(raw: tuple[float, ...], slope: float, offsets: Any):
    total = sum(raw)
    said = LetterCalibration(slope, offsets)([p / total for p in raw])
    assert sum(said) == pytest.approx(1) and min(said) >= 0


def test_platt_finds_what_made_the_labels():
    """Labels drawn with P = sigmoid(0.5 logit(raw) + 1), as frequencies."""
    raws, so = [], []
    for i in range(1, 40):
        raw = i / 40
        true = 1 / (1 + math.exp(-(0.5 * math.log(raw / (1 - raw)) + 1)))
        for n in range(100):
            raws.append(raw)
            so.append(n < round(100 * true))
    fitted = fit_platt(raws, so)
    assert fitted.slope == pytest.approx(0.5, abs=0.05)
    assert fitted.offset == pytest.approx(1.0, abs=0.06)
    before, after = curve(raws, so), curve([fitted(r) for r in raws], so)
    assert after.error < 0.02 < before.error and after.log_loss < before.log_loss


def test_platt_needs_both_kinds_and_survives_a_model_that_is_always_right():
    with pytest.raises(ValueError, match="both kinds"):
        fit_platt([0.1, 0.2], [True, True])
    sure = fit_platt([1e-6] * 50 + [1 - 1e-6] * 50, [False] * 50 + [True] * 50)
    assert sure(1e-6) < 0.05 and sure(1 - 1e-6) > 0.95
    assert math.isfinite(sure.slope)


def test_letters_learn_a_bias():
    """A model that says A too often: told 0.6/0.3/0.1, true is 0.2/0.7/0.1."""
    fitted = fit_letters([(0.6, 0.3, 0.1)] * 100, [0] * 20 + [1] * 70 + [2] * 10)
    assert fitted((0.6, 0.3, 0.1)) == pytest.approx((0.2, 0.7, 0.1), abs=0.03)
    with pytest.raises(ValueError, match="expected"):
        fit_letters([], [])


def test_a_calibration_is_read_for_its_model(tmp_path: Path):
    path = tmp_path / "c.json"
    end = {"slope": 2, "offset": -1}
    overlap = {"slope": 1, "offsets": [0.1, 0.2, 0.3], "weight": 0.4}
    path.write_text(json.dumps({"models": {"m": {"end": end, "overlap": overlap}, "n": {}}}))
    letters = LetterCalibration(1.0, (0.1, 0.2, 0.3))
    assert load_calibration(path, "m") == Calibration(Platt(2, -1), letters, 0.4)
    assert load_calibration(path, "n") == Calibration()
    assert load_calibration(path, "other") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"models": 3}',
        '{"models": {"m": {"end": {"slope": 1}}}}',
        '{"models": {"m": {"overlap": {"slope": 1, "offsets": [0,0,0], "weight": 2}}}}',
    ],
)
def test_what_is_no_calibration_says_how_to_make_one(text: str, tmp_path: Path):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match="calibrate_judgements"):
        load_calibration(path, "m")
    with pytest.raises(CalibrationError, match="cannot read"):
        load_calibration(tmp_path / "none", "m")


def test_examples_are_read_and_errors_name_their_line(tmp_path: Path):
    path = tmp_path / "e.jsonl"
    good = '{"history": [["agent", "Yes?"]], "text": "what", "finished": false}'
    path.write_text(f'{good}\n\n{{"text": "mhm", "meant": "backchannel"}}\n')
    first, second = read(path)
    assert first.context.items == (Said("agent", "Yes?"), Said("user", "what"))
    assert first.finished is False and second.meant == "backchannel"
    path.write_text(f'{good}\n{{"text": "mhm", "meant": "perhaps"}}\n')
    with pytest.raises(ValueError, match=r"line 2.*floor, backchannel, aside"):
        read(path)


# --- evidence -----------------------------------------------------------------------------------


@given(P, P, st.floats(0, 1))
def test_weighing_lies_between_both_and_keeps_the_rest(sound: float, words: float, w: float):
    evidence = OverlapEvidence(400, 300, 0, sound, 0.1, "wait", ("wait",))
    mixed = weigh(evidence, OverlapOpinion(words, 1 - words, 0.0, w))
    low, high = sorted((sound, words))
    assert low - 1e-6 <= mixed.p_interruption <= high + 1e-6
    assert (mixed.text, mixed.p_noise, mixed.voiced_ms) == ("wait", 0.1, 300)
    assert weigh(evidence, OverlapOpinion(words, 1 - words, 0.0)) is evidence, "off by default"


# --- the judge ----------------------------------------------------------------------------------


class Server:
    """Answers judgements as a test tells it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.given_up = 0
        self.begun, self.left = asyncio.Event(), asyncio.Event()

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        assert path == "chat/completions"
        self.asked.append(body)
        self.begun.set()
        told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(told, float):
            try:
                await asyncio.sleep(told)
            except asyncio.CancelledError:
                self.given_up += 1
                self.left.set()
                raise
            told = answer(x=1.0)
        if isinstance(told, Exception):
            raise told
        return told if isinstance(told, tuple) else (200, json.dumps(told).encode())


def judge(server: Server, budget_s: float = 30.0) -> Judge:
    both = Calibration(Platt(), LetterCalibration(), 0.35)

    def compose(context: Context) -> dict[str, object]:
        return {
            "messages": [str(context.request or context.items[-1])],
            "tools": [1],
            "stream": True,
            "stream_options": {},
            "max_tokens": 400,
        }

    return Judge(server.post, compose, both, "<end>", budget_s)


def says(text: str, *before: Said) -> Context:
    return Context(Cause.USER, (*before, Said("user", text)))


async def test_one_question_for_words_however_often_they_are_attended_to():
    server = Server(answer(**{"<end>": 0.75, "x": 0.25}))
    one = judge(server)
    for _ in range(3):
        one.attend(says("hello"), over_agent=False)
    await one.ends.answered()
    assert one.ends.get("hello") == pytest.approx(0.75)
    assert one.ends.get("hello there") is None
    [asked] = server.asked
    assert asked["max_tokens"] == 1 and asked["continue_final_message"] is True
    assert asked["add_generation_prompt"] is False and asked["tools"] == [1]
    assert "stream_options" not in asked and asked["stream"] is False
    await one.aclose()


async def test_the_same_words_in_another_turn_are_judged_anew():
    server = Server(answer(**{"<end>": 0.75}), answer(**{"<end>": 0.25}))
    one = judge(server)
    one.attend(says("yes"), over_agent=False)
    await one.ends.answered()
    one.attend(says("yes", Said("agent", "Sure?")), over_agent=False)
    await one.ends.answered()
    assert one.ends.get("yes") == pytest.approx(0.25)
    await one.aclose()


async def test_new_words_give_up_the_question_about_the_old_ones():
    server = Server(20.0, answer(**{"<end>": 0.5}))
    one = judge(server)
    one.attend(says("where"), over_agent=False)
    async with asyncio.timeout(10):
        await server.begun.wait()
    one.attend(says("where is"), over_agent=False)
    await one.ends.answered()
    async with asyncio.timeout(10):
        await server.left.wait()
    assert one.ends.get("where is") == pytest.approx(0.5) and one.ends.get("where") is None
    await one.aclose()


async def test_an_overlap_is_a_choice_of_letters():
    server = Server(answer(A=0.5, B=0.25, C=0.25))
    one = judge(server)
    one.attend(says("wait", Said("agent", "Your order")), over_agent=True)
    await one.overlaps.answered()
    opinion = one.overlaps.get("wait")
    assert opinion is not None and opinion.p_floor == pytest.approx(0.5, abs=1e-4)
    assert opinion.weight == 0.35
    [asked] = server.asked
    assert asked["structured_outputs"] == {"choice": list(LETTERS)}
    assert asked["messages"] == [OVERLAP_QUESTION.format(words="wait")]
    await one.aclose()


async def test_a_late_answer_is_no_answer_and_many_make_a_pause():
    server = Server(20.0)
    one = judge(server, budget_s=0.01)
    for number in range(LATE_IN_A_ROW):
        one.attend(says(f"word {number}"), over_agent=False)
        await one.ends.answered()
        assert one.ends.get(f"word {number}") is None
    assert one.late == LATE_IN_A_ROW and server.given_up == LATE_IN_A_ROW
    one.attend(says("more"), over_agent=False)
    assert len(server.asked) == LATE_IN_A_ROW, "the server is left alone for a while"
    await one.aclose()


@pytest.mark.parametrize(
    "wrong",
    [
        (500, b""),
        (200, b"no json"),
        (200, b"[1]"),
        {"choices": []},
        aiohttp.ServerDisconnectedError(),
        ConnectionResetError("gone"),
    ],
)
async def test_whatever_goes_wrong_there_is_no_opinion(wrong: Any):
    one = judge(Server(wrong))
    assert await one.end(says("hello")) is None
    assert await one.overlap(says("hello")) is None
    await one.aclose()


async def test_a_question_that_is_given_up_leaves_no_connection_and_the_next_is_answered():
    async def mute(exchange: Exchange) -> None:
        await exchange.gone.wait()

    async def judges(exchange: Exchange) -> None:
        await exchange.json(200, answer(**{"<end>": 0.75, "x": 0.25}))

    both = Calibration(Platt(), LetterCalibration(), 0.35)
    async with fake_openai(mute, judges) as fake, asyncio.timeout(60):
        client = Connections(fake.url)
        one = Judge(client.post, lambda _: {}, both, "<end>", 60.0)
        one.attend(says("where"), over_agent=False)
        await fake.asked.wait()
        one.attend(says("where is"), over_agent=False)
        await fake.completions[0].gone.wait()
        await one.ends.answered()
        assert one.ends.get("where is") == pytest.approx(0.75)
        await one.aclose()
        await client.aclose()


async def test_closing_ends_the_question_on_its_way():
    server = Server(20.0)
    one = judge(server)
    one.attend(says("hello"), over_agent=False)
    await asyncio.sleep(0)
    await one.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_without_tools_no_choice_of_tools_is_sent():
    for question in (end_question, overlap_question):
        assert "tool_choice" not in question({"messages": []})
        assert question({"messages": [], "tools": []})["tool_choice"] == "none"


def test_the_tiny_model_is_taught_the_very_question_that_is_asked():
    script = Path(__file__).resolve().parents[2] / "scripts" / "train_tiny_chat.py"
    namespace: dict[str, Any] = {"__name__": "tiny"}
    exec(compile(script.read_text(), str(script), "exec"), namespace)
    assert namespace["OVERLAP_QUESTION"] == OVERLAP_QUESTION


def test_a_session_of_vllm_is_attentive():
    from parley.minds.vllm import VllmSession

    assert issubclass(VllmSession, Attentive)
