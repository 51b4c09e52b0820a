"""What the recogniser makes of recorded speech, through a real child process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from parley_speech import audio
from parley_speech.asr import spoken
from parley_speech.asr.grammar import from_phrases
from parley_speech.asr.pocketsphinx import PocketsphinxRecognizer
from parley_speech.asr.process import ChildStream
from parley_speech.types import MIC_HZ, Grammar, Pcm
from speech.asr_speaker import FRONT_DESK, LEAD_MS, clip, final_of, in_a_room, push, say

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLER = {
    "caller_check_order_12345": (
        "can you check the status of my order number one two three four five"
    ),
    "caller_order_status": "i'd like to check my order status please",
    "caller_thank_you": "thank you very much",
    "caller_help_me": "can you help me with something",
}
HUMAN = {
    "human_hours": "hours",
    "human_goodbye": "goodbye",
    "human_vm_goodbye": "goodbye",
    "human_privacy_thankyou": "thank you",
    "human_digits_0": "zero",
    "human_digits_1": "one",
    "human_digits_7": "seven",
    "human_digits_9": "nine",
}
FAINT = "caller_help_me"
"""Its "with" is all but swallowed: the words are found, the confidence is on the border."""
DIGIT = from_phrases("digit", ["{digit}", "goodbye", "{yesno}"])
UNRELATED = [
    "read_lj001_0002",
    "read_lj001_0006",
    "human_transfer",
    "human_followme_sorry",
    "noise_dog_bark",
    "noise_car_horn",
    "noise_ringing_phone",
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def recognizer() -> AsyncIterator[PocketsphinxRecognizer]:
    recognizer = PocketsphinxRecognizer()
    await recognizer.start()
    yield recognizer
    await recognizer.aclose()


def grammar_for(name: str) -> Grammar:
    return DIGIT if "digits" in name else FRONT_DESK


def noisy(pcm: Pcm) -> Pcm:
    noise = np.random.default_rng(4).normal(0, 1000, len(pcm)).astype(np.int16)
    return audio.mix_at_snr(pcm, noise, 20.0)


def telephone(pcm: Pcm) -> Pcm:
    """G.711 at 8 kHz and back."""
    narrow = audio.resample(pcm, MIC_HZ, 8000)
    return audio.resample(audio.mu_law(narrow), 8000, MIC_HZ)


@pytest.mark.parametrize("name", [*CALLER, *HUMAN])
async def test_a_phrase_of_the_grammar_is_heard_and_trusted(
    recognizer: PocketsphinxRecognizer, name: str
):
    """Each as the first words of a call, when nothing is known of the voice."""
    stream = recognizer.stream(grammar_for(name))
    final = await say(stream, clip(name))
    await stream.aclose()
    assert final.text == (CALLER | HUMAN)[name]
    assert final.confidence >= (0.5 if name != FAINT else 0.3)


@pytest.mark.parametrize("name", list(CALLER)[:3])
async def test_it_is_heard_through_noise_20_db_below(recognizer: PocketsphinxRecognizer, name: str):
    stream = recognizer.stream(FRONT_DESK)
    final = await say(stream, noisy(clip(name)))
    await stream.aclose()
    assert final.text == CALLER[name] and final.confidence >= 0.5


@pytest.mark.parametrize("name", [*list(CALLER)[:3], "human_hours", "human_digits_7"])
async def test_it_is_heard_on_the_telephone(recognizer: PocketsphinxRecognizer, name: str):
    stream = recognizer.stream(grammar_for(name))
    final = await say(stream, telephone(clip(name)))
    await stream.aclose()
    assert final.text == (CALLER | HUMAN)[name]


@pytest.mark.parametrize("name", UNRELATED)
async def test_what_the_grammar_does_not_have_is_not_trusted(
    recognizer: PocketsphinxRecognizer, name: str
):
    stream = recognizer.stream(FRONT_DESK)
    final = await say(stream, clip(name)[: 3 * MIC_HZ])
    await stream.aclose()
    assert final.confidence < 0.5, final.text


async def test_a_call_from_the_question_to_goodbye(recognizer: PocketsphinxRecognizer):
    """Utterances of one stream: numbers count up, times go on, the voice is known better."""
    stream = recognizer.stream(FRONT_DESK)
    finals = [await say(stream, clip(name)) for name in CALLER]
    await stream.aclose()
    assert [f.text for f in finals] == list(CALLER.values())
    assert [f.utterance for f in finals] == [0, 1, 2, 3]
    assert spoken.digits_of(finals[0].text) == "12345"
    starts = [word.start_ms for f in finals for word in f.words]
    assert starts == sorted(starts)


async def test_words_lie_where_they_were_said(recognizer: PocketsphinxRecognizer):
    """The clip's sound runs from 0.10 to 2.00 s; "order" begins at about 1.15 s."""
    stream = recognizer.stream(FRONT_DESK)
    final = await say(stream, clip("caller_order_status"))
    await stream.aclose()
    assert [word.text for word in final.words] == final.text.split()
    assert all(
        a.end_ms <= b.start_ms + 20 for a, b in zip(final.words, final.words[1:], strict=False)
    )
    assert final.words[0].start_ms == pytest.approx(LEAD_MS + 100, abs=120)
    assert final.words[-1].end_ms == pytest.approx(LEAD_MS + 2000, abs=150)
    assert all(0 <= word.confidence <= 1 for word in final.words)


@pytest.mark.parametrize(
    "name", ["human_please_try_again", "human_one_moment_please", "human_queue_thankyou"]
)
async def test_open_english_is_right_about_clear_speech(
    recognizer: PocketsphinxRecognizer, name: str
):
    texts = {
        "human_please_try_again": "please try again",
        "human_one_moment_please": "one moment please",
        "human_queue_thankyou": "thank you for your patience",
    }
    stream = recognizer.stream()
    final = await say(stream, clip(name))
    await stream.aclose()
    assert final.text == texts[name] and final.confidence > 0.5


async def test_a_grammar_holds_from_the_next_utterance_on(recognizer: PocketsphinxRecognizer):
    stream = recognizer.stream(Grammar("digits", "<digits>"))
    push(stream, in_a_room(clip("human_digits_7")))
    stream.set_grammar(Grammar("farewell", "goodbye | hello"))
    stream.end_utterance()
    stream.poll()
    first = await say_rest(stream)
    second = await say(stream, clip("human_goodbye"))
    stream.set_grammar(None)
    third = await say(stream, clip("human_please_try_again"))
    await stream.aclose()
    assert [first, second.text, third.text] == ["seven", "goodbye", "please try again"]


async def say_rest(stream: ChildStream) -> str:
    return (await final_of(stream))[1].text


async def test_a_call_leaves_nothing_to_the_next(recognizer: PocketsphinxRecognizer):
    """The decoder is used again, what it knows of the voice is not."""

    async def first_words() -> tuple[str, float]:
        stream = recognizer.stream(FRONT_DESK)
        final = await say(stream, clip("human_hours"))
        await stream.aclose()
        return final.text, round(final.confidence, 2)

    before = await first_words()
    stream = recognizer.stream(FRONT_DESK)
    await say(stream, clip("caller_order_status"))
    await stream.aclose()
    assert await first_words() == before


async def test_two_calls_share_a_child(recognizer: PocketsphinxRecognizer):
    streams = [recognizer.stream(FRONT_DESK) for _ in range(2)]
    names = ["caller_order_status", "human_goodbye"]
    for stream, name in zip(streams, names, strict=True):
        push(stream, in_a_room(clip(name)))
        stream.end_utterance()
    texts = [await say_rest(stream) for stream in streams]
    for stream in streams:
        await stream.aclose()
    assert texts == ["i'd like to check my order status please", "goodbye"]


async def test_a_word_of_no_dictionary_is_guessed_and_reported(
    recognizer: PocketsphinxRecognizer, caplog: pytest.LogCaptureFixture
):
    stream = recognizer.stream(Grammar("names", "gudbye | zottle"))
    final = await say(stream, clip("human_goodbye"))
    await stream.aclose()
    assert final.text == "gudbye"
    assert "'zottle' is not in the dictionary; taken to be said Z AA T AH L" in caplog.text


async def test_silence_is_no_words(recognizer: PocketsphinxRecognizer):
    stream = recognizer.stream(FRONT_DESK)
    final = await say(stream, np.zeros(MIC_HZ, np.int16))
    await stream.aclose()
    assert final.final and final.confidence < 0.5


async def test_an_utterance_without_a_frame_has_a_final(recognizer: PocketsphinxRecognizer):
    stream = recognizer.stream(FRONT_DESK)
    stream.begin_utterance()
    stream.end_utterance()
    assert await say_rest(stream) == ""
    await stream.aclose()
