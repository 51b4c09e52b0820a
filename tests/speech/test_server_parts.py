"""The parts of the speech server that need no socket: slots, turns, pace, settings, protocol."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from speech_servers import until
from tone_voice import ToneVoice

from parley_speech.server import protocol as wire
from parley_speech.server.admission import Admission, ServerBusy
from parley_speech.server.catalogue import Catalogue, NotTaken, UnknownVoice, VoiceSpec
from parley_speech.server.idle import IdleWatch
from parley_speech.server.outlet import FIRST, Outlet
from parley_speech.server.playout import LATE_S, Playout
from parley_speech.server.precedence import KEEP_S, FirstChunks
from parley_speech.server.settings import ServerSettings
from parley_speech.server.speech import Speech, TextTooLong
from parley_speech.types import EngineUnavailable, SpeechStream, Synthesizer

# --- the protocol -----------------------------------------------------------------------------

IDS = st.integers(0, wire.MAX_ID)
CLIENT = st.one_of(
    st.builds(
        wire.Open,
        id=IDS,
        voice=st.text(max_size=128),
        speed=st.floats(0.25, 4.0),
        ahead_ms=st.integers(100, 60_000),
        pace=st.sampled_from(["taken", "clock"]),
        text=st.text(max_size=50),
        end=st.booleans(),
        opened=st.booleans(),
    ),
    st.builds(wire.Text, id=IDS, text=st.text(max_size=200)),
    st.builds(wire.Flush, id=IDS),
    st.builds(wire.End, id=IDS),
    st.builds(wire.Cancel, id=IDS),
    st.builds(wire.Taken, id=IDS, samples=IDS),
    st.just(wire.AskStats()),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=12,
)
TYPES = ["open", "text", "flush", "end", "cancel", "taken", "stats", "hello", "marks"]
ALMOST = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES)},
    optional=dict.fromkeys(
        ("id", "text", "voice", "samples", "speed", "ahead_ms", "rate_hz"), JSON
    ),
)


@given(CLIENT)
def test_what_a_client_writes_is_what_the_server_reads(message: wire.ClientMessage) -> None:
    assert wire.read_client(wire.text_of(message)) == message


@given(
    IDS,
    IDS,
    st.lists(st.integers(-32768, 32767), max_size=50),
    st.lists(st.builds(wire.Mark, IDS, IDS, IDS, IDS), max_size=5),
)
def test_audio_comes_back_as_it_was(
    number: int, start: int, samples: list[int], marks: list[wire.Mark]
) -> None:
    pcm = np.array(samples, np.int16)
    data = wire.audio_of(number, start, pcm, marks)
    audio = wire.read_server(data)
    assert isinstance(audio, wire.Audio)
    assert (audio.id, audio.start, list(audio.marks)) == (number, start, marks)
    with pytest.raises(wire.ProtocolError):
        wire.read_server(data[: wire.HEADER.size - 1])
    if len(marks) > len(samples) // 8:
        with pytest.raises(wire.ProtocolError):
            wire.read_server(data[: wire.HEADER.size + 16 * len(marks) - 1])
    assert np.array_equal(audio.pcm, pcm)


@given(st.one_of(st.text(), st.binary(), JSON.map(json.dumps), ALMOST.map(json.dumps)))
@example('"\\ud800"')
@example("[" * 30_000)
def test_anything_else_is_a_protocol_error(data: str | bytes) -> None:
    for read in (wire.read_client, wire.read_server):
        try:
            message = read(data)
        except wire.ProtocolError as error:
            assert error.message
        else:
            assert message is not None


def test_an_error_does_not_repeat_what_was_said() -> None:
    secret = "my card number is 4711"
    for data in (
        json.dumps({"type": "text", "id": "x", "text": secret}),
        json.dumps({"type": secret, "id": 1}),
        json.dumps({"type": "text", "id": 1, "text": [secret]}),
        json.dumps({"type": "open", "id": 1, "pace": secret}),
        f'{{"type": "text", "text": "{secret}',
    ):
        with pytest.raises(wire.ProtocolError) as refused:
            wire.read_client(data)
        assert "4711" not in str(refused.value)
        assert refused.value.__cause__ is None


def test_a_field_of_a_later_version_is_ignored() -> None:
    assert wire.read_client('{"type":"end","id":1,"softly":true}') == wire.End(id=1)


# --- slots ----------------------------------------------------------------------------------------


def admission(slots: int, waiting: int = 8, patience_s: float = 20.0) -> Admission:
    made = Admission(slots, waiting=waiting, patience_s=patience_s)
    made.open()
    return made


class Holder:
    """Takes a slot and keeps it until it is told."""

    def __init__(self, slots: Admission, got: list[int], number: int) -> None:
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._hold(slots, got, number))

    async def _hold(self, slots: Admission, got: list[int], number: int) -> None:
        async with slots.slot():
            got.append(number)
            await self.leave.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_slots_go_round_in_the_order_of_asking() -> None:
    slots, got = admission(2), list[int]()
    holders = [Holder(slots, got, n) for n in range(5)]
    await settle()
    assert (got, slots.speaking, slots.waiting) == ([0, 1], 2, 3)
    for holder in (holders[1], holders[0], holders[3]):
        holder.leave.set()
        await settle()
    assert (got, slots.speaking, slots.waiting) == ([0, 1, 2, 3, 4], 2, 0)
    for holder in holders:
        holder.leave.set()
    await asyncio.gather(*(holder.task for holder in holders))
    assert slots.speaking == 0


async def test_who_stops_waiting_leaves_no_slot_behind() -> None:
    slots, got = admission(1), list[int]()
    first, second, third = (Holder(slots, got, n) for n in range(3))
    await settle()
    second.task.cancel()
    await settle()
    first.leave.set()
    await settle()
    assert (got, slots.speaking) == ([0, 2], 1)
    third.leave.set()
    await third.task
    assert (slots.speaking, slots.waiting) == (0, 0)


async def test_a_slot_that_comes_with_the_cancel_is_passed_on() -> None:
    slots, got = admission(1), list[int]()
    first, second, third = (Holder(slots, got, n) for n in range(3))
    await settle()
    first.leave.set()
    await asyncio.sleep(0)  # first leaves: the slot is now second's, which does not know yet
    second.task.cancel()
    await settle()
    assert (got[-1], slots.speaking) == (2, 1)
    third.leave.set()
    await third.task
    assert slots.speaking == 0


async def test_a_full_queue_and_a_long_wait_are_busy() -> None:
    slots, got = admission(1, waiting=1, patience_s=0.01), list[int]()
    holder = Holder(slots, got, 0)
    await settle()
    waiter = Holder(slots, got, 1)
    await settle()
    with pytest.raises(ServerBusy, match="all slots") as full:
        async with slots.slot():
            pass
    assert full.value.retry_ms >= 100
    with pytest.raises(ServerBusy):
        await waiter.task
    holder.leave.set()
    await holder.task
    assert (slots.speaking, slots.waiting) == (0, 0)


async def test_the_hint_grows_with_how_long_slots_are_held() -> None:
    slots = admission(1, waiting=0)
    hints = []
    for held_s in (0.1, 100.0):
        slots._held_s = held_s
        async with slots.slot():
            with pytest.raises(ServerBusy) as busy:
                async with slots.slot():
                    pass
        hints.append(busy.value.retry_ms)
    assert hints == [100, 10_000]


async def test_a_drain_tells_who_waits_and_ends_with_the_last() -> None:
    slots, got = admission(1), list[int]()
    holder, waiter = Holder(slots, got, 0), Holder(slots, got, 1)
    await settle()
    slots.drain()
    with pytest.raises(ServerBusy, match="about to stop"):
        await waiter.task
    drained = asyncio.create_task(slots.drained())
    await settle()
    assert not drained.done()
    slots.open()  # loading ended late: it stays closed
    with pytest.raises(ServerBusy):
        async with slots.slot():
            pass
    holder.leave.set()
    await asyncio.wait_for(drained, 20)


async def test_a_slot_that_is_free_can_be_taken_at_once() -> None:
    slots = Admission(1, waiting=1, patience_s=60)
    slots.open()
    first, second, third = slots.slot(), slots.slot(), slots.slot()
    assert first.at_once()
    assert first.at_once()  # it has it
    assert slots.speaking == 1
    assert not second.at_once()

    async def holds_the_second() -> None:
        async with second:
            assert slots.speaking == 1

    async with first as waited_ms:
        assert waited_ms == 0
        waiting = asyncio.create_task(holds_the_second())
        await until(lambda: slots.waiting == 1)
        with pytest.raises(ServerBusy, match="all slots"):
            third.at_once()
    await waiting
    assert (slots.speaking, first.held, second.held) == (0, False, False)


async def test_before_the_voices_are_loaded_nobody_is_let_in() -> None:
    with pytest.raises(ServerBusy, match="loading"):
        async with Admission(1, waiting=1, patience_s=1).slot():
            pass


# --- turns ----------------------------------------------------------------------------------------


async def test_the_earliest_deadline_goes_first() -> None:
    outlet, order = Outlet(), list[float]()

    async def take(deadline: float) -> None:
        async with outlet.turn(deadline):
            order.append(deadline)

    async with outlet.turn():
        waiting = [asyncio.create_task(take(d)) for d in (30.0, 10.0, 20.0, FIRST, 10.0)]
        await settle()
    await asyncio.gather(*waiting)
    assert order == [FIRST, 10.0, 10.0, 20.0, 30.0]


async def test_a_turn_that_is_given_up_is_passed_on() -> None:
    outlet = Outlet()
    got: list[int] = []

    async def take(number: int) -> None:
        async with outlet.turn(number):
            got.append(number)

    async with outlet.turn():
        waiting = [asyncio.create_task(take(n)) for n in range(4)]
        await settle()
        waiting[1].cancel()
    waiting[0].cancel()  # its turn has come, it does not know yet
    await asyncio.gather(*waiting, return_exceptions=True)
    assert got == [2, 3]
    async with asyncio.timeout(20), outlet.turn():
        pass


# --- pace -----------------------------------------------------------------------------------------


def test_a_clocked_listener_hears_in_real_time() -> None:
    playout = Playout(1000, ahead_ms=500, clocked=True)
    assert (playout.deadline, playout.wait_s(100.0)) == (0.0, 0.0)
    playout.sent(400, 100.0)
    assert playout.deadline == 100.4
    assert playout.wait_s(100.0) == 0.0
    playout.sent(400, 100.0)
    assert playout.wait_s(100.0) == pytest.approx(0.3)
    assert playout.wait_s(100.3) == pytest.approx(0.0)


def test_a_listener_that_tells_is_believed() -> None:
    playout = Playout(1000, ahead_ms=500, clocked=False)
    playout.sent(600, 100.0)
    assert playout.wait_s(200.0) is None
    playout.take(100)
    assert playout.wait_s(200.0) is None
    playout.take(101)
    assert playout.wait_s(200.0) == 0.0
    playout.take(50)  # crossed messages
    playout.take(10**9)  # more than was sent
    playout.sent(500, 200.0)
    assert playout.wait_s(200.0) is None


def test_a_gap_is_counted_once_and_shifts_what_follows() -> None:
    playout = Playout(1000, ahead_ms=60_000, clocked=True)
    assert not playout.sent(100, 10.0)
    assert not playout.sent(100, 10.1 + LATE_S / 2)  # nobody hears that
    assert playout.sent(100, 11.0)
    assert playout.deadline == pytest.approx(11.1)
    assert not playout.sent(100, 11.05)
    assert playout.underruns == 1


def test_waiting_for_the_listener_is_no_gap() -> None:
    playout = Playout(1000, ahead_ms=100, clocked=False)
    playout.sent(200, 10.0)
    playout.held(15.0)
    assert not playout.sent(200, 15.0)
    assert playout.underruns == 0


async def test_idling_is_noticed_once_and_progress_puts_it_off() -> None:
    noticed: list[float] = []
    loop = asyncio.get_running_loop()
    watch = IdleWatch(0.05, lambda: noticed.append(loop.time()))
    began = loop.time()
    watch.start()
    watch.progress()
    await until(lambda: noticed)
    assert noticed[0] - began >= 0.1
    watch.stop()
    other = IdleWatch(0.01, lambda: noticed.append(0.0))
    other.start()
    other.stop()
    await asyncio.sleep(0.05)
    assert len(noticed) == 1


# --- first chunks ---------------------------------------------------------------------------------


async def test_who_has_audio_in_hand_gives_way_to_who_has_none() -> None:
    firsts = FirstChunks()
    await asyncio.wait_for(firsts.give_way(60.0), 20)  # nobody waits
    firsts.awaited("a")
    firsts.awaited("b")
    await asyncio.wait_for(firsts.give_way(KEEP_S), 20)  # too little in hand
    giving = asyncio.create_task(firsts.give_way(1000.0))
    firsts.came("a")
    firsts.came("a")
    await settle()
    assert not giving.done()
    firsts.came("b")
    await asyncio.wait_for(giving, 20)


async def test_nobody_gives_way_until_his_own_buffer_is_dry() -> None:
    firsts = FirstChunks()
    firsts.awaited("a")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.wait_for(firsts.give_way(KEEP_S + 0.05), 20)
    assert loop.time() - began >= 0.049


# --- an utterance's text --------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(st.sampled_from(["w1 ", "w2 w", "3 ", " ", "", "w4"]), st.just(None)), max_size=12
    ),
    st.booleans(),
    st.integers(0, 12),
)
async def test_flushes_lose_and_double_nothing(
    pieces: list[str | None], eager: bool, begun_at: int
) -> None:
    voice = ToneVoice()
    speech = Speech(voice.stream, max_chars=1000)
    marks = []

    async def listen() -> None:
        async for chunk in speech.chunks():
            marks.extend(chunk.marks)

    listening = asyncio.create_task(listen())
    for number, piece in enumerate(pieces):
        if number == begun_at:
            speech.begin()
        if piece is None:
            speech.flush()
        else:
            speech.push(piece)
        if eager:
            await settle()
    speech.end()
    await asyncio.wait_for(listening, 20)
    await speech.aclose()

    text = "".join(piece or "" for piece in pieces)
    assert all(text[mark.char_start : mark.char_end] == mark.text for mark in marks)
    assert "".join(mark.text for mark in marks) == "".join(text.split())
    assert all(a.end <= b.start for a, b in pairwise(marks))
    assert voice.open == 0


async def test_the_engine_begins_before_it_is_asked_for_chunks() -> None:
    voice = ToneVoice()
    speech = Speech(voice.stream, max_chars=1000)
    speech.begin()
    assert not voice.streams  # there is no text yet
    speech.push("w1 ")
    speech.begin()
    speech.begin()
    assert len(voice.streams) == 1
    speech.push("w2")
    speech.end()
    marks = [mark.text async for chunk in speech.chunks() for mark in chunk.marks]
    assert (marks, len(voice.streams)) == (["w1", "w2"], 1)
    await speech.aclose()
    assert voice.open == 0


async def test_what_has_begun_and_is_cancelled_gives_nothing() -> None:
    voice = ToneVoice()
    speech = Speech(voice.stream, max_chars=1000)
    speech.push("w1")
    speech.begin()
    speech.cancel()
    assert [chunk async for chunk in speech.chunks()] == []
    speech.begin()
    await speech.aclose()
    assert (len(voice.streams), voice.open) == (1, 0)


async def test_a_cancel_between_two_parts_opens_no_second_stream() -> None:
    voice = ToneVoice()
    speech = Speech(voice.stream, max_chars=1000)
    speech.push("w1")
    speech.flush()
    speech.push("w2")
    async for _ in speech.chunks():
        speech.cancel()
    await speech.aclose()
    assert (len(voice.streams), voice.open) == (1, 0)


def test_too_much_text_is_refused() -> None:
    speech = Speech(ToneVoice().stream, max_chars=10)
    speech.push("x" * 10)
    with pytest.raises(TextTooLong, match="10 characters"):
        speech.push("x")


# --- voices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("espeak", VoiceSpec("espeak", "espeak")),
        ("espeak:de", VoiceSpec("espeak", "espeak", "de")),
        ("anna=espeak", VoiceSpec("anna", "espeak")),
        ("anna = espeak:de+f3", VoiceSpec("anna", "espeak", "de+f3")),
        ("x=mine:/a/b=c", VoiceSpec("x", "mine", "/a/b=c")),
    ],
)
def test_a_voice_is_written_in_one_word(text: str, spec: VoiceSpec) -> None:
    assert VoiceSpec.parse(text) == spec


@pytest.mark.parametrize("text", ["", "=", "a=", "=b", "a=:b", ":b"])
def test_half_a_voice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=ENGINE"):
        VoiceSpec.parse(text)


class Plain:
    """A voice that takes nothing beyond the contract."""

    def __init__(self, inner: ToneVoice) -> None:
        self._inner = inner

    async def start(self) -> None:
        await self._inner.start()

    def stream(self) -> SpeechStream:
        return self._inner.stream()

    async def aclose(self) -> None:
        await self._inner.aclose()


class Several(Plain):
    """A model with voices of its own."""

    asked: list[str | None]

    def voices(self) -> list[str]:
        return ["anna", "bert", "plain"]

    def stream(self, *, voice: str | None = None) -> SpeechStream:
        self.asked = [*getattr(self, "asked", []), voice]
        return self._inner.stream()


async def test_the_catalogue_knows_what_each_voice_takes() -> None:
    several = Several(ToneVoice())
    engines: dict[str, Synthesizer] = {"tone": ToneVoice(), "plain": Plain(ToneVoice())}
    catalogue = Catalogue({**engines, "model": several})
    await catalogue.start()

    assert catalogue.names == ("tone", "plain", "model", "anna", "bert")
    assert catalogue.takes("") == {"speed", "instructions"}
    assert catalogue.takes("plain") == frozenset()
    with pytest.raises(UnknownVoice, match="no voice 'x'; there are: tone, plain, model"):
        catalogue.stream("x")
    with pytest.raises(NotTaken, match=r"speed is 2.0"):
        catalogue.stream("plain", speed=2.0)
    catalogue.stream("plain", instructions="softly")
    catalogue.stream("anna")
    catalogue.stream("model")
    assert several.asked == ["anna", None]
    await catalogue.aclose()


def test_an_engine_that_is_not_installed_is_named() -> None:
    with pytest.raises(EngineUnavailable, match="no tts engine 'nobody'"):
        Catalogue.load([VoiceSpec.parse("nobody")])
    with pytest.raises(ValueError, match="two voices are called 'a'"):
        Catalogue.load([VoiceSpec.parse("a=espeak"), VoiceSpec.parse("a=espeak")])


# --- settings -------------------------------------------------------------------------------------


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_SPEECH_VOICES", "espeak, anna=espeak:de")
    monkeypatch.setenv("PARLEY_SPEECH_TOKENS", "0123456789abcdef,fedcba9876543210")
    settings = ServerSettings()
    assert settings.voices == ("espeak", "anna=espeak:de")
    assert [t.get_secret_value() for t in settings.tokens] == [
        "0123456789abcdef",
        "fedcba9876543210",
    ]
    assert "0123456789abcdef" not in repr(settings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"no_token": True, "host": "0.0.0.0"}, "loopback addresses only"),
        ({"no_token": True, "host": "example.org"}, "loopback addresses only"),
        ({"no_token": True, "tokens": "0123456789abcdef"}, "contradict"),
        ({"tokens": "short"}, "at least 16 characters"),
        ({"voices": ""}, "at least one voice"),
        ({"voices": "=x"}, "expected NAME=ENGINE"),
        ({"max_calls": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ServerSettings(**wrong)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.9.1"])
def test_without_a_token_it_listens_to_its_own_machine(host: str) -> None:
    assert ServerSettings(no_token=True, host=host).no_token
