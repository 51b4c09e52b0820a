"""A stream of utterances, driven as the child drives it, without a process."""

from __future__ import annotations

import itertools
from dataclasses import astuple

import numpy as np
import pytest

from parley_speech.asr.grammar import from_phrases
from parley_speech.asr.heard import Heard
from parley_speech.types import MIC_HZ, Grammar, Pcm
from speech.asr_speaker import FRONT_DESK, clip, in_a_room
from speech.moonshine_ears import Listener, moonshine, needs_moonshine, pieces, source, words_of

pytestmark = needs_moonshine

ORDER_STATUS = "i'd like to check my order status please"
OPEN = {
    "human_pls_hold_while_try": "please hold while we try to connect you",
    "human_queue_thankyou": "thank you for your patience",
    "human_transfer": "please hold while i try that extension",
    "caller_weather_question": "what is the weather in paris",
    "human_conf_getpin": "please enter the conference pin number",
    "human_ss_noservice": (
        "the number you have dialed is not in service please check the number and try again"
    ),
}
IN_GRAMMAR = {
    "caller_order_status": ORDER_STATUS,
    "caller_help_me": "can you help me with something",
    "caller_thank_you": "thank you very much",
}


def quiet(ms: int, seed: int = 5) -> Pcm:
    """A room: its noise and no more."""
    return np.random.default_rng(seed).normal(0, 8, ms * MIC_HZ // 1000).astype(np.int16)


def in_quiet(pcm: Pcm, before_ms: int = 300, after_ms: int = 300) -> Pcm:
    return np.concatenate([quiet(before_ms), pcm, quiet(after_ms, 6)])


def work() -> tuple[int, ...]:
    return astuple(moonshine().model.work)


# --- while somebody speaks --------------------------------------------------------------------


@pytest.mark.parametrize("grammar", [None, FRONT_DESK], ids=["open English", "front desk"])
def test_words_come_while_they_are_said_and_the_final_at_once(grammar: Grammar | None) -> None:
    """What was decoded in the pause is the final: nothing is left to do when it is asked for."""
    listener = Listener(grammar)
    listener.begin()
    partials = listener.push(in_quiet(clip("caller_thank_you")))
    before = work()
    final = listener.end()
    assert work() == before
    assert words_of(final.text) == "thank you very much" and final.confidence >= 0.5
    assert final.text == partials[-1].text
    texts = [words_of(p.text) for p in partials]
    assert len(texts) >= 3
    assert "thank you" in [text[:9] for text in texts[:-1]], "before the last words were said"
    assert all(not p.final and p.utterance == 0 and p.text for p in partials)


def test_the_same_is_not_told_twice() -> None:
    listener = Listener(FRONT_DESK)
    listener.begin()
    told = listener.push(in_quiet(clip("caller_yes"), after_ms=1000))
    seen = [(p.text, round(p.confidence, 1)) for p in told]
    assert all(a != b for a, b in itertools.pairwise(seen))


def test_a_pause_costs_next_to_nothing_however_long() -> None:
    """Once more at most, if what sounded at last is taken for the voice after all."""
    pcm = in_quiet(clip("human_transfer"), after_ms=200)
    listener = Listener()
    listener.begin()
    listener.push(pcm)
    samples = moonshine().model.work.samples
    listener.push(quiet(3000, 7))
    assert moonshine().model.work.samples - samples < len(pcm) + 4 * MIC_HZ
    assert words_of(listener.end().text) == OPEN["human_transfer"]


def test_who_goes_on_after_a_pause_is_heard_as_well() -> None:
    listener = Listener()
    listener.begin()
    listener.push(in_quiet(clip("human_queue_thankyou"), after_ms=500))
    listener.push(in_quiet(clip("human_transfer"), before_ms=0, after_ms=0))
    final = listener.end()
    assert words_of(final.text) == f"{OPEN['human_queue_thankyou']} {OPEN['human_transfer']}"


@pytest.mark.parametrize("name", ["human_queue_thankyou", "caller_weather_question"])
def test_the_size_of_the_pieces_does_not_matter_in_open_english(name: str) -> None:
    """20 ms, 100 ms, or all at once. Punctuation may differ: other sounds were guesses for it."""
    assert [words_of(t) for t in in_pieces_of(name, None, 1, 5, 1000)] == [OPEN[name]] * 3


@pytest.mark.parametrize("name", list(IN_GRAMMAR))
def test_the_size_of_the_pieces_does_not_matter_in_a_grammar(name: str) -> None:
    assert in_pieces_of(name, FRONT_DESK, 1, 5, 1000) == [IN_GRAMMAR[name]] * 3


def in_pieces_of(name: str, grammar: Grammar | None, *frames: int) -> list[str]:
    texts = []
    for count in frames:
        listener = Listener(grammar)
        listener.begin()
        listener.push(in_quiet(clip(name)), count)
        texts.append(listener.end().text)
    return texts


# --- times ------------------------------------------------------------------------------------


def in_order(heard: Heard) -> bool:
    edges = [edge for word in heard.words for edge in word[1:3]]
    return edges == sorted(edges) and all(word[1] < word[2] for word in heard.words)


@pytest.mark.parametrize(("grammar", "lead_ms"), [(FRONT_DESK, 300), (None, 300), (None, 1500)])
def test_words_lie_where_they_were_said(grammar: Grammar | None, lead_ms: int) -> None:
    """The clip's sound runs from 0.10 to 2.00 s."""
    heard = Listener(grammar).hear(in_quiet(clip("caller_order_status"), lead_ms))
    assert [word[0] for word in heard.words] == heard.text.split()
    assert in_order(heard)
    assert heard.words[0][1] == pytest.approx(lead_ms + 100, abs=120)
    assert heard.words[-1][2] == pytest.approx(lead_ms + 2000, abs=150)
    assert all(0 <= word[3] <= 1 for word in heard.words) and 0 <= heard.confidence <= 1


def test_times_go_on_over_a_pause() -> None:
    first, second = in_quiet(clip("caller_thank_you")), in_quiet(clip("human_conf_getpin"))
    listener = Listener()
    listener.begin()
    listener.push(np.concatenate([first, quiet(700), second]), 5)
    heard = listener.end()
    assert in_order(heard)
    please = next(word for word in heard.words if words_of(word[0]) == "please")
    assert please[1] == pytest.approx((len(first) / 16) + 700 + 300 + 30, abs=300)


# --- long sounds ------------------------------------------------------------------------------

LONG = [*OPEN, "human_transfer", "human_queue_thankyou", "human_pls_hold_while_try"]


GAPS_MS = [40, 40, 40, 40, 40, 600, 40, 600, 0]
"""Behind each: the first ten seconds have no pause that one could name."""


def test_a_long_sound_keeps_its_words_and_no_decoding_grows_with_it() -> None:
    """More than 20 s."""
    parts = [(clip(name), quiet(gap)) for name, gap in zip(LONG, GAPS_MS, strict=True)]
    pcm = np.concatenate([sound for part in parts for sound in part])
    assert len(pcm) > 20 * MIC_HZ
    listener = Listener()
    listener.begin()
    costs, pieces_in_time = [], []
    for piece in pieces(pcm, MIC_HZ // 10):
        listener.stream.push(piece)
        while listener.stream.busy:
            before = work()
            pieces_in_time += listener.stream.step()
            costs.append([after - b for after, b in zip(work(), before, strict=True)])
    heard = listener.end()
    assert words_of(heard.text) == " ".join(OPEN[name] for name in LONG)
    assert in_order(heard) and heard.words[-1][2] <= len(pcm) / 16 + 20
    samples, steps, _ = (max(kind) for kind in zip(*costs, strict=True))
    assert samples < 12 * MIC_HZ
    assert steps < 100
    assert heard.confidence >= 0.5
    assert len(pieces_in_time) > 20


# --- no words ---------------------------------------------------------------------------------

EMPTY = {
    "no frame": np.zeros(0, np.int16),
    "half a frame": np.zeros(100, np.int16),
    "a muted line": np.zeros(MIC_HZ, np.int16),
    "a room": quiet(1500),
    "white noise": np.random.default_rng(3).normal(0, 3000, 2 * MIC_HZ).astype(np.int16),
}


@pytest.mark.parametrize("name", list(EMPTY))
def test_what_is_no_speech_has_no_words(name: str) -> None:
    listener = Listener()
    listener.begin()
    assert listener.push(EMPTY[name]) == []
    assert astuple(listener.end()) == (0, "", True, (), 0.0)


@pytest.mark.parametrize("name", list(EMPTY)[:4])
def test_in_a_grammar_what_is_no_speech_is_not_trusted(name: str) -> None:
    listener = Listener(FRONT_DESK)
    listener.begin()
    found = [*listener.push(EMPTY[name]), listener.end()]
    assert all(heard.confidence < 0.5 for heard in found)
    assert found[-1].text == "" or name == "a muted line"


# --- sentences over several utterances --------------------------------------------------------

NUMBER = from_phrases(
    "number", ["can you check the status of my order number {digits:5}", "hello", "thank you"]
)
FIRST, SECOND = "can you check the status of my order number", "one two three four five"
BETWEEN_MS = 2040
"""In the clip, between the two."""


def halves(at_ms: int = BETWEEN_MS) -> tuple[Pcm, Pcm]:
    pcm, at = clip("caller_check_order_12345"), at_ms * MIC_HZ // 1000
    return in_quiet(pcm[:at]), in_quiet(pcm[at:])


def test_digits_come_in_the_next_utterance() -> None:
    """The grammar has no digits alone: they go on with what the utterance before has begun."""
    listener = Listener(NUMBER)
    first, second = (listener.hear(half) for half in halves())
    assert (first.text, second.text) == (FIRST, SECOND)
    assert second.confidence >= 0.5 and second.confidence > first.confidence
    assert [first.utterance, second.utterance] == [0, 1]


def test_digits_come_after_a_pause_of_the_same_utterance() -> None:
    listener = Listener(NUMBER)
    listener.begin()
    for half in halves():
        listener.push(half)
    heard = listener.end()
    assert heard.text == f"{FIRST} {SECOND}"
    assert heard.confidence >= 0.5 and in_order(heard)


def test_a_sentence_that_was_whole_is_not_gone_on_with() -> None:
    listener = Listener(NUMBER)
    assert listener.hear(in_quiet(clip("caller_hello"))).text == "hello"
    assert listener.hear(halves()[1]).text != SECOND, "written by ear: the grammar has none of it"


def test_another_sentence_may_follow_an_unfinished_one() -> None:
    listener = Listener(NUMBER)
    assert listener.hear(halves()[0]).text == FIRST
    heard = listener.hear(in_quiet(clip("human_privacy_thankyou")))
    assert heard.text == "thank you" and heard.confidence >= 0.5


# --- grammars ---------------------------------------------------------------------------------

BROKEN = {
    "an unknown rule": "public <u> = yes | <who>;",
    "left recursion": "<a> = <a> b | c; public <u> = <a>;",
    "a bracket": "public <u> = (yes | no;",
    "a lone plus": "public <u> = yes | + no;",
    "no rule": "yes or no",
}


@pytest.mark.parametrize("broken", list(BROKEN))
def test_a_broken_grammar_is_a_problem_and_open_english_takes_its_place(broken: str) -> None:
    stream = moonshine().decoder()
    stream.prepare(BROKEN[broken])
    assert stream.problems and "could not be read" in stream.problems[0]
    stream.begin(0, BROKEN[broken])
    stream.push(in_quiet(clip("human_queue_thankyou")).astype("<i2").tobytes())
    stream.end()
    found = []
    while stream.busy:
        found += stream.step()
    assert found[-1].final and words_of(found[-1].text) == OPEN["human_queue_thankyou"]


def test_each_utterance_has_its_grammar() -> None:
    listener = Listener(Grammar("farewell", "goodbye | hello"))
    assert listener.hear(in_quiet(clip("human_goodbye"))).text == "goodbye"
    listener.grammar = None
    assert words_of(listener.hear(in_quiet(clip("human_transfer"))).text) == OPEN["human_transfer"]
    listener.grammar = FRONT_DESK
    assert listener.hear(in_quiet(clip("human_hours"))).text == "hours"


def test_a_grammar_is_read_once() -> None:
    jsgf = source(FRONT_DESK)
    assert moonshine().constraint(jsgf) is moonshine().constraint(jsgf)


# --- the child's side -------------------------------------------------------------------------


def test_streams_share_a_model_and_nothing_else() -> None:
    """Frames of two calls in turn."""
    sounds = [in_a_room(clip("caller_order_status")), in_a_room(clip("caller_help_me"))]
    alone = []
    for sound in sounds:
        listener = Listener(FRONT_DESK)
        listener.begin()
        listener.push(sound, 10)
        alone.append(listener.end())
    listeners = [Listener(FRONT_DESK) for _ in sounds]
    for listener in listeners:
        listener.begin()
    for at in range(0, max(map(len, sounds)), MIC_HZ // 5):
        for listener, sound in zip(listeners, sounds, strict=True):
            listener.push(sound[at : at + MIC_HZ // 5], 10)
    assert [listener.end() for listener in listeners] == alone


def test_it_tells_what_it_has_taken_and_whether_there_is_work() -> None:
    stream = moonshine().decoder()
    assert not stream.busy and stream.taken is None and stream.step() == []
    stream.begin(7, "")
    assert not stream.busy and stream.taken == (7, 0)
    stream.push(bytes(640))
    assert stream.busy
    while stream.busy:
        stream.step()
    assert stream.taken == (7, 640)
    stream.end()
    assert stream.busy
    (heard,) = stream.step()
    assert heard.final and heard.utterance == 7
    assert not stream.busy and stream.taken is None


def test_what_comes_in_the_wrong_order_is_refused() -> None:
    stream = moonshine().decoder()
    with pytest.raises(ValueError, match="before its utterance began"):
        stream.push(bytes(640))
    with pytest.raises(ValueError, match="has not begun"):
        stream.end()
    stream.begin(0, "")
    with pytest.raises(ValueError, match="utterance 1 begins before 0 has ended"):
        stream.begin(1, "")
    stream.close()
    assert not stream.busy
