from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
from speech_servers import InLoop, serving, talking, until
from tone_voice import PAUSE, WORD, ToneStream, ToneVoice, read, text_of
from websockets.exceptions import ConnectionClosed, InvalidStatus

from parley_speech.server import protocol as wire


@pytest.fixture
async def tone() -> ToneVoice:
    return ToneVoice()


@pytest.fixture
async def server(tone: ToneVoice) -> AsyncIterator[InLoop]:
    async with serving({"tone": tone, "late": ToneVoice(late=True)}, max_calls=4) as running:
        yield running


def pcm(audio: list[wire.Audio]) -> np.ndarray:
    return np.concatenate([part.pcm for part in audio])


# --- an utterance -----------------------------------------------------------------------------


async def test_text_goes_in_and_audio_and_words_come_out(server: InLoop, tone: ToneVoice) -> None:
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0, ahead_ms=60_000))
        for delta in ("w1 w", "2 w", "3"):
            await talk.send(wire.Text(id=0, text=delta))
        await talk.send(wire.End(id=0))
        heard = await talk.until_last(0)

    assert read(pcm(heard.audio)) == [(1, WORD), (2, WORD), (3, WORD)]
    step = WORD + PAUSE
    assert heard.words == [
        ("w1", 0, 2, 0, WORD),
        ("w2", 3, 5, step, step + WORD),
        ("w3", 6, 8, 2 * step, 2 * step + WORD),
    ]
    lengths = [len(a.pcm) for a in heard.audio]
    assert [a.start for a in heard.audio] == [0, *np.cumsum(lengths)[:-1]]
    assert heard.opened is not None
    assert isinstance(heard.last, wire.Done)
    assert (heard.last.samples, heard.last.chars) == (heard.samples, 8)
    assert heard.last.first_chunk_ms is not None
    assert tone.open == 0


async def test_one_message_can_be_a_whole_utterance(server: InLoop) -> None:
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0, text="w1 w2", end=True, ahead_ms=60_000))
        heard = await talk.until_last(0)
    assert [word[0] for word in heard.words] == ["w1", "w2"]


async def test_who_does_not_want_to_know_of_his_slot_is_not_told(server: InLoop) -> None:
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0, text="w1", end=True, opened=False))
        await talk.send(wire.Open(id=1, text="w2", end=True))
        await talk.until_last(0, 1)
    assert talk.of(0).opened is None
    assert talk.of(1).opened is not None
    assert [word[0] for word in talk.of(0).words] == ["w1"]


async def test_what_is_opened_and_cancelled_in_one_go_leaves_nothing(
    server: InLoop, tone: ToneVoice
) -> None:
    async with talking(server.url) as talk:
        for number in range(20):  # five times the slots
            await talk.send(wire.Open(id=number, text="w1 w2", end=True), wire.Cancel(id=number))
        await talk.until_last(*range(20))
    assert all(not isinstance(talk.of(n).last, wire.Error) for n in range(20))
    assert tone.open == 0
    assert server.service.admission.speaking == 0


async def test_an_engine_that_refuses_the_text_of_an_open_frees_its_slot(tone: ToneVoice) -> None:
    class Refuses(ToneVoice):
        def stream(self, *, speed: float = 1.0, instructions: str = "") -> ToneStream:
            if instructions == "fail":
                raise RuntimeError("no voice today")
            stream = super().stream(speed=speed, instructions=instructions)
            if instructions == "full":
                stream.push = self._full  # type: ignore[method-assign]
            return stream

        def _full(self, text: str) -> None:
            raise OverflowError(f"{len(text)} characters are too many")

    voice = Refuses()
    async with serving({"refuses": voice}, max_calls=1) as server, talking(server.url) as talk:
        await talk.send(wire.Open(id=0, text="w1", end=True, instructions="fail"))
        await talk.until_last(0)
        await talk.send(wire.Open(id=1, text="w1", end=True, instructions="full"))
        await talk.until_last(1)
        await talk.send(wire.Open(id=2, text="w1", end=True))
        await talk.until_last(2)
        codes = [getattr(talk.of(n).last, "code", None) for n in range(3)]
        assert codes == ["voice_failed", "text_too_long", None]
        assert (voice.open, server.service.admission.speaking) == (0, 0)


async def test_audio_comes_before_the_text_is_complete(server: InLoop) -> None:
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0), wire.Text(id=0, text="w1 w2 and so"))
        await talk.until_samples(0, WORD)
        await talk.send(wire.Text(id=0, text="on w3"), wire.End(id=0))
        heard = await talk.until_last(0)
    assert [word[0] for word in heard.words] == ["w1", "w2", "and", "soon", "w3"]


@pytest.mark.parametrize("voice", ["tone", "late"])
async def test_a_mark_comes_before_the_end_of_its_word(server: InLoop, voice: str) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, text_of(*range(5)), voice=voice, ahead_ms=60_000)
        samples, open_words = 0, 0
        while not isinstance(message := await talk.hear(), wire.Done):
            if isinstance(message, wire.Audio):
                samples += len(message.pcm)
                ended = [w for w in talk.of(0).words if w[4] <= samples]
                assert len(ended) >= sum(n == WORD for _, n in read(pcm(talk.of(0).audio))[:-1])
                open_words = len(ended)
        assert open_words == 5


async def test_utterances_of_one_connection_do_not_mix(server: InLoop) -> None:
    async with talking(server.url) as talk:
        for number in range(4):
            await talk.say(number, text_of(*range(10 * number, 10 * number + 5)), ahead_ms=60_000)
        await talk.until_last(0, 1, 2, 3)
        for number in range(4):
            spoken = [word for word, _ in read(pcm(talk.of(number).audio))]
            assert spoken == list(range(10 * number, 10 * number + 5))


async def test_a_flush_ends_a_word_and_counts_on(server: InLoop, tone: ToneVoice) -> None:
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0, ahead_ms=60_000), wire.Text(id=0, text="w1"))
        await talk.send(wire.Flush(id=0), wire.Flush(id=0))
        await talk.until_samples(0, WORD + PAUSE)  # though no white space followed
        await talk.send(wire.Text(id=0, text=" w2"), wire.Flush(id=0))
        await talk.send(wire.Text(id=0, text="w3"), wire.End(id=0))
        heard = await talk.until_last(0)

    step = WORD + PAUSE
    assert [word for word, _ in read(pcm(heard.audio))] == [1, 2, 3]
    assert heard.words == [
        ("w1", 0, 2, 0, WORD),
        ("w2", 3, 5, step, step + WORD),
        ("w3", 5, 7, 2 * step, 2 * step + WORD),
    ]
    assert len(tone.streams) == 3
    assert tone.open == 0


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
async def test_a_text_without_words_is_done_at_once(server: InLoop, text: str) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, text)
        heard = await talk.until_last(0)
    assert isinstance(heard.last, wire.Done)
    assert (heard.samples, heard.last.first_chunk_ms) == (0, None)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
async def test_another_rate_keeps_words_and_lengths(server: InLoop, rate_hz: int) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, text_of(1, 2, 3), rate_hz=rate_hz, ahead_ms=60_000)
        heard = await talk.until_last(0)
    step, length = (WORD + PAUSE) * rate_hz // 24_000, WORD * rate_hz // 24_000
    assert heard.samples == 3 * step
    assert [(start, end) for *_, start, end in heard.words] == [
        (n * step, n * step + length) for n in range(3)
    ]
    middle = pcm(heard.audio)[step + length // 2]
    assert middle == pytest.approx(102, abs=2)


async def test_speed_and_instructions_reach_the_voice(server: InLoop, tone: ToneVoice) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, "w1", speed=1.25, instructions="calm")
        await talk.until_last(0)
    assert (tone.streams[0].speed, tone.streams[0].instructions) == (1.25, "calm")


# --- pace and cancel --------------------------------------------------------------------------


async def test_it_runs_no_further_ahead_than_asked(server: InLoop, tone: ToneVoice) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, text_of(*range(200)), pace="taken", ahead_ms=500)
        heard = await talk.until_samples(0, 12_000)
        await talk.say(1, "w1")  # whatever could be sent for the first is sent before this is done
        await talk.until_last(1)
        assert heard.samples < 12_000 + 2 * tone.chunk
        made = tone.made

        await talk.send(wire.Taken(id=0, samples=6_000))
        await talk.until_samples(0, 17_000)
        await talk.say(2, "w1")
        await talk.until_last(2)
        assert heard.samples < 18_000 + 2 * tone.chunk
        assert tone.made < made + 20


async def test_the_clock_paces_who_tells_nothing(server: InLoop) -> None:
    async with talking(server.url) as talk:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await talk.say(0, text_of(*range(10)), ahead_ms=200)  # 1.2 s
        await talk.until_last(0)
        assert loop.time() - began > 1.2 - 0.2 - 0.1


async def test_a_first_chunk_goes_before_what_others_do_not_need_yet(server: InLoop) -> None:
    """Of a long text nothing more is made while another utterance has no sound yet."""
    slow = server.service.catalogue._engines["late"]
    tone = server.service.catalogue._engines["tone"]
    assert isinstance(slow, ToneVoice)
    assert isinstance(tone, ToneVoice)
    slow.gate.clear()
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0, voice="late"), wire.Text(id=0, text="w1 "), wire.End(id=0))
        await talk.say(1, text_of(*range(100)), ahead_ms=60_000)  # 12 s
        await talk.until_samples(1, 7_200)
        await talk.send(wire.AskStats())
        while not isinstance(talk.other[-1], wire.Stats):
            await talk.hear()
        assert tone.made * tone.chunk < 4 * 24_000
        slow.gate.set()
        await talk.until_last(0, 1)
        assert talk.of(1).samples == 100 * (WORD + PAUSE)


async def test_a_cancel_stops_the_voice_and_frees_the_slot(server: InLoop, tone: ToneVoice) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, text_of(*range(1000)), ahead_ms=60_000)
        await talk.until_samples(0, WORD)
        await talk.send(wire.Cancel(id=0), wire.Cancel(id=0))
        heard = await talk.until_last(0)
        assert isinstance(heard.last, wire.Cancelled)
        made = tone.made
        assert tone.open == 0
        await talk.say(1, "w1 w2")
        await talk.until_last(1)
        assert tone.made == made + 6
        assert server.service.admission.speaking == 0


async def test_a_cancel_before_any_sound(server: InLoop, tone: ToneVoice) -> None:
    tone.gate.clear()
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0), wire.Text(id=0, text="w1 "), wire.Cancel(id=0))
        assert isinstance((await talk.until_last(0)).last, wire.Cancelled)
        await talk.send(wire.Open(id=1), wire.Cancel(id=1))
        assert isinstance((await talk.until_last(1)).last, wire.Cancelled)
    assert tone.open == 0


async def test_a_client_that_leaves_takes_its_utterances_with_it(
    server: InLoop, tone: ToneVoice
) -> None:
    async with talking(server.url) as talk:
        for number in range(3):
            await talk.say(number, text_of(*range(1000)), ahead_ms=60_000)
        await talk.until_samples(2, WORD)
        talk.socket.transport.abort()
    await until(lambda: server.service.admission.speaking == 0)
    assert tone.open == 0
    metrics = server.service.metrics
    await until(lambda: b"parley_speech_connections 0.0" in metrics.page())
    assert (
        'parley_speech_utterances_total{outcome="lost",voice="tone"} 3.0' in metrics.page().decode()
    )


# --- busy, idle, failing ----------------------------------------------------------------------


async def test_no_slot_is_a_clear_busy_with_a_hint(tone: ToneVoice) -> None:
    async with (
        serving({"tone": tone}, max_calls=1, max_waiting=1, patience_ms=50) as server,
        talking(server.url) as talk,
    ):
        await talk.send(wire.Open(id=0))
        await talk.send(wire.Open(id=1), wire.Open(id=2))
        await talk.until_last(1, 2)
        for number in (1, 2):
            last = talk.of(number).last
            assert isinstance(last, wire.Busy)
            assert last.reason == "full"
            assert last.retry_ms >= 100
        assert talk.of(1).opened is None
        page = server.service.metrics.page().decode()
        assert 'parley_speech_busy_total{reason="full"} 2.0' in page


async def test_a_slot_that_is_given_back_goes_to_who_waits(tone: ToneVoice) -> None:
    async with (
        serving({"tone": tone}, max_calls=1, patience_ms=20_000) as server,
        talking(server.url) as talk,
    ):
        await talk.send(wire.Open(id=0))
        await talk.say(1, "w7")
        waits = wire.Stats(speaking=1, slots=1, waiting=1, draining=False)
        while talk.other[-1] != waits:
            await talk.send(wire.AskStats())
            await talk.hear()
        await talk.send(wire.Cancel(id=0))
        heard = await talk.until_last(1)
        assert isinstance(heard.last, wire.Done)
        assert read(pcm(heard.audio)) == [(7, WORD)]


async def test_while_voices_load_it_says_so(tone: ToneVoice) -> None:
    async with serving({"tone": tone}, load=False) as server, talking(server.url) as talk:
        await talk.say(0, "w1")
        last = (await talk.until_last(0)).last
        assert isinstance(last, wire.Busy)
        assert last.reason == "loading"
        await server.service.load()
        await talk.say(1, "w1")
        assert isinstance((await talk.until_last(1)).last, wire.Done)


async def test_a_drain_finishes_what_runs_and_begins_nothing(
    server: InLoop, tone: ToneVoice
) -> None:
    async with talking(server.url) as talk:
        await talk.send(wire.Open(id=0, ahead_ms=60_000), wire.Text(id=0, text="w1 w2 "))
        await talk.until_samples(0, WORD)
        draining = asyncio.create_task(server.service.drain())
        while not talk.other or not isinstance(talk.other[-1], wire.Draining):
            await talk.hear()
        await talk.say(1, "w9")
        refused = (await talk.until_last(1)).last
        assert isinstance(refused, wire.Busy)
        assert refused.reason == "draining"
        assert not draining.done()

        await talk.send(wire.Text(id=0, text="w3"), wire.End(id=0))
        heard = await talk.until_last(0)
        await asyncio.wait_for(draining, 20)
    assert [word for word, _ in read(pcm(heard.audio))] == [1, 2, 3]


async def test_an_utterance_without_progress_is_ended(tone: ToneVoice) -> None:
    async with serving({"tone": tone}, idle_s=0.1) as server, talking(server.url) as talk:
        await talk.send(wire.Open(id=0), wire.Text(id=0, text="w1 "))
        last = (await talk.until_last(0)).last
        assert isinstance(last, wire.Error)
        assert last.code == "idle"
        assert tone.open == 0
        assert server.service.admission.speaking == 0


async def test_a_voice_that_fails_ends_its_utterance_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    voices = {"tone": ToneVoice(), "broken": ToneVoice(fail_after=2)}
    async with serving(voices) as server, talking(server.url) as talk:
        await talk.send(wire.Open(id=0, ahead_ms=60_000), wire.Text(id=0, text="w1 "))
        await talk.say(1, "w4711 w2", voice="broken")
        failed = await talk.until_last(1)
        await talk.send(wire.Text(id=0, text="w2"), wire.End(id=0))
        heard = await talk.until_last(0)

    assert isinstance(failed.last, wire.Error)
    assert failed.last.code == "voice_failed"
    assert [word for word, _ in read(pcm(heard.audio))] == [1, 2]
    assert "4711" not in failed.last.message + caplog.text
    assert "tone_voice.py" in caplog.text
    assert (voices["tone"].open, voices["broken"].open) == (0, 0)


async def test_too_much_text_is_refused(tone: ToneVoice) -> None:
    async with serving({"tone": tone}, max_text_chars=100) as server, talking(server.url) as talk:
        assert isinstance(talk.other[0], wire.Hello)
        assert talk.other[0].max_text_chars == 100
        await talk.say(0, "w1 " * 40)
        last = (await talk.until_last(0)).last
        assert isinstance(last, wire.Error)
        assert last.code == "text_too_long"
        assert tone.open == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [({"voice": "nobody"}, "unknown_voice"), ({"rate_hz": 12_345}, "bad_request")],
)
async def test_a_wrong_value_ends_its_utterance_only(
    server: InLoop, options: dict[str, object], code: str
) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, "w1", **options)
        last = (await talk.until_last(0)).last
        assert isinstance(last, wire.Error)
        assert last.code == code
        await talk.say(1, "w1")
        assert isinstance((await talk.until_last(1)).last, wire.Done)


# --- breaking the protocol ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        "hello",
        "[]",
        "{}",
        '{"type":"open"}',
        '{"type":"sing","id":1}',
        '{"type":"open","id":-1}',
        '{"type":"open","id":1,"speed":NaN}',
        '{"type":"open","id":1,"ahead_ms":1e9}',
        '{"type":"text","id":5,"text":"never opened"}',
        '{"type":"open","id":0}{"type":"open","id":1}',
        "[" * 50_000,
        b"\x01\x01\x00\x00",
        b"",
    ],
)
async def test_garbage_closes_its_own_connection_with_a_reason(
    server: InLoop, garbage: str | bytes
) -> None:
    async with talking(server.url) as other, talking(server.url) as talk:
        await other.send(wire.Open(id=0, ahead_ms=60_000), wire.Text(id=0, text="w1 "))
        await talk.socket.send(garbage)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == wire.BAD_MESSAGE
        said = talk.other[-1]
        assert isinstance(said, wire.Error)
        assert said.code == "bad_message"

        await other.send(wire.Text(id=0, text="w2"), wire.End(id=0))
        heard = await other.until_last(0)
        assert [word for word, _ in read(pcm(heard.audio))] == [1, 2]


async def test_a_message_that_is_too_large_closes_the_connection(server: InLoop) -> None:
    async with talking(server.url) as talk:
        await talk.socket.send('{"type":"stats","x":"' + "x" * wire.MAX_MESSAGE_BYTES + '"}')
        with pytest.raises(ConnectionClosed) as closed:
            await talk.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == wire.TOO_BIG


async def test_an_id_is_used_once(server: InLoop) -> None:
    async with talking(server.url) as talk:
        await talk.say(3, "w1")
        await talk.until_last(3)
        await talk.send(wire.Open(id=3))
        with pytest.raises(ConnectionClosed):
            await talk.hear()
            await talk.hear()


async def test_what_crosses_with_the_end_of_an_utterance_is_ignored(server: InLoop) -> None:
    async with talking(server.url) as talk:
        await talk.say(0, "w1")
        await talk.until_last(0)
        await talk.send(
            wire.Taken(id=0, samples=5),
            wire.Text(id=0, text="w2"),
            wire.Flush(id=0),
            wire.End(id=0),
            wire.Cancel(id=0),
        )
        await talk.say(1, "w2")
        assert isinstance((await talk.until_last(1)).last, wire.Done)


# --- who is let in -------------------------------------------------------------------------------


async def test_a_token_is_needed_where_one_is_set(tone: ToneVoice) -> None:
    async with serving({"tone": tone}, "right-token-1234", "other-token-1234") as server:
        for wrong in (None, "wrong", "right-token-123"):
            with pytest.raises(InvalidStatus) as refused:
                async with talking(server.url, wrong):
                    pass
            assert refused.value.response.status_code == 401
        for right in ("right-token-1234", "other-token-1234"):
            async with talking(server.url, right) as talk:
                await talk.say(0, "w1")
                assert isinstance((await talk.until_last(0)).last, wire.Done)
