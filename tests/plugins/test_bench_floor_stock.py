"""LiveKit's session on the floor bench's line: its loudspeaker and its told recogniser."""

from __future__ import annotations

import numpy as np
from livekit import rtc
from livekit.plugins.parley.bench.floor_stock import Loudspeaker, ToldSTT

from parley.bench.floor.line import SILENCE, Line
from parley.bench.floor.scene import Cue, Scene, Speaker
from parley.bench.floor.utterances import Utterance, Voiced
from parley_speech.types import SPEAKER_FRAME, SPEAKER_HZ, Pcm


def a_line() -> Line:
    cues = tuple(Cue(kind, "start", 0.0, "x", Speaker("clip")) for kind in ("turn", "noise"))  # type: ignore[arg-type]
    scene = Scene("s", "f", "test", 1, "desk", "answers", "short", cues)
    sound = Utterance(np.full(800, 5000, np.int16), (Voiced(0, 800, "hello"),), "hello there")
    return Line(scene, [sound, sound], 1.0)


def speech(frames: int) -> Pcm:
    return np.arange(1, frames * SPEAKER_FRAME + 1, dtype=np.int16)


async def capture(loudspeaker: Loudspeaker, pcm: Pcm) -> None:
    """In frames of another length than the line's."""
    for at in range(0, len(pcm), 700):
        piece = pcm[at : at + 700]
        await loudspeaker.capture_frame(rtc.AudioFrame(piece.tobytes(), SPEAKER_HZ, 1, len(piece)))


async def test_a_speech_is_played_in_step_to_its_end() -> None:
    loudspeaker = Loudspeaker(a_line())
    finished: list[object] = []
    loudspeaker.on("playback_finished", finished.append)
    pcm = speech(3)
    await capture(loudspeaker, pcm)
    loudspeaker.flush()
    out = np.concatenate([loudspeaker.take() for _ in range(4)])
    assert np.array_equal(out[: len(pcm)], pcm)
    assert not out[len(pcm) :].any()
    (reply,) = loudspeaker.replies
    assert reply.cause == "user" and not reply.cut
    assert np.array_equal(reply.pcm, pcm)
    (event,) = finished
    assert event.playback_position == 0.06 and not event.interrupted  # type: ignore[attr-defined]


async def test_a_pause_is_heard_as_silence_and_loses_nothing() -> None:
    loudspeaker = Loudspeaker(a_line())
    loudspeaker.asked = True
    pcm = speech(4)
    await capture(loudspeaker, pcm)
    loudspeaker.flush()
    loudspeaker.take()
    loudspeaker.pause()
    assert not loudspeaker.take().any()
    loudspeaker.resume()
    rest = np.concatenate([loudspeaker.take() for _ in range(3)])
    assert np.array_equal(rest, pcm[SPEAKER_FRAME:])
    assert loudspeaker.replies[0].cause == "instructed"
    assert len(loudspeaker.replies[0].pcm) == len(pcm) + SPEAKER_FRAME, "silence is part of it"


async def test_a_cleared_speech_is_cut_and_the_next_one_begins_anew() -> None:
    loudspeaker = Loudspeaker(a_line())
    await capture(loudspeaker, speech(4))
    loudspeaker.take()
    loudspeaker.flush()
    loudspeaker.clear_buffer()
    assert loudspeaker.replies[0].cut
    assert not loudspeaker.take().any()
    await capture(loudspeaker, speech(1))
    assert loudspeaker.take().any()
    assert [r.number for r in loudspeaker.replies] == [0, 1]


async def test_the_told_recogniser_knows_words_and_of_noise_none() -> None:
    line = a_line()
    told = ToldSTT(line)
    heard = []
    for _ in range(2):
        while len(line.placed) <= len(heard):
            line.step(SILENCE)
        event = await told._recognize_impl([], language="en")
        heard.append(event.alternatives[0].text)
    assert heard == ["hello there", ""]
