"""The channel's cepstral mean: the model's own front end, speech only, a prior that fades."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from pocketsphinx import Decoder

from parley_speech.asr.channel import (
    CEPSTRA,
    HOP,
    PRIOR,
    PRIOR_FRAMES,
    SPEECH_FRAMES,
    WINDOW,
    ChannelMean,
    cepstra,
    distance,
)
from parley_speech.types import Pcm

AUDIO = Path(__file__).parent.parent / "data/audio"


def clip(name: str) -> Pcm:
    pcm, rate_hz = soundfile.read(AUDIO / name, dtype="int16")
    assert rate_hz == 16000
    return np.asarray(pcm)


@pytest.mark.parametrize("name", ["human_digits_5.flac", "caller_order_status.flac"])
def test_cepstra_are_those_of_the_decoders_front_end(name: str):
    """Compared by their mean, which is what the decoder shows of its own."""
    pcm = clip(name)
    decoder = Decoder(lm=None, loglevel="FATAL")
    decoder.add_jsgf_string("g", "#JSGF V1.0; grammar g; public <g> = yes;")
    decoder.activate_search("g")
    decoder.set_cmn(",".join(["0"] * CEPSTRA))
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), True, True)  # the mean of this alone
    decoder.end_utt()
    theirs = np.array([float(v) for v in decoder.get_cmn(False).split(",")])
    frames = cepstra(pcm)
    ours = frames[frames[:, 0] > 0].mean(axis=0)  # the decoder leaves out frames below c0 = 0
    assert distance(ours, theirs) < 2.0  # it also takes away noise
    assert distance(ours, PRIOR) > 4.0  # so that the line above says something


def test_cepstra_come_every_hop():
    assert cepstra(np.zeros(WINDOW - 1, np.int16)).shape == (0, CEPSTRA)
    assert cepstra(np.zeros(WINDOW, np.int16)).shape == (1, CEPSTRA)
    assert cepstra(np.zeros(WINDOW + 5 * HOP, np.int16)).shape == (6, CEPSTRA)
    assert np.isfinite(cepstra(np.zeros(WINDOW, np.int16))).all()


def test_pieces_give_what_the_whole_gives():
    pcm = clip("human_digits_5.flac")
    whole = cepstra(pcm)
    first = cepstra(pcm[:8000])
    rest = cepstra(pcm[len(first) * HOP :])
    # Only the pre-emphasis of a piece's first sample differs.
    assert np.abs(np.concatenate([first, rest]) - whole).max(axis=1)[len(first) + 1 :].max() < 1e-9
    assert np.abs(rest[0] - whole[len(first)]).max() < 3.0


def test_without_speech_the_mean_is_the_prior():
    assert np.array_equal(ChannelMean().estimate(np.empty((0, CEPSTRA))), PRIOR)


def test_silence_around_the_speech_does_not_matter():
    rng = np.random.default_rng(0)
    pcm = clip("caller_order_status.flac")
    silence = rng.normal(0, 8, 16000).astype(np.int16)
    bare = ChannelMean().estimate(cepstra(pcm))
    padded = ChannelMean().estimate(cepstra(np.concatenate([silence, pcm, silence])))
    assert distance(bare, padded) < 0.5
    assert distance(bare, PRIOR) > 5


def test_speech_never_outweighs_the_prior_altogether():
    frames = np.full((1000, CEPSTRA), 10.0)
    expected = (PRIOR_FRAMES * PRIOR + SPEECH_FRAMES * 10.0) / (PRIOR_FRAMES + SPEECH_FRAMES)
    assert np.allclose(ChannelMean().estimate(frames), expected)
    few = ChannelMean().estimate(frames[:10])
    assert np.allclose(few, (PRIOR_FRAMES * PRIOR + 100.0) / (PRIOR_FRAMES + 10))


def test_what_was_learnt_serves_the_next_utterance_at_once():
    channel = ChannelMean()
    frames = cepstra(clip("caller_order_status.flac"))
    target = channel.estimate(frames)
    channel.learn(frames)
    assert distance(channel.estimate(np.empty((0, CEPSTRA))), target) < 1e-9


def test_a_new_voice_prevails_after_some_seconds():
    channel = ChannelMean()
    old, new = np.full((2000, CEPSTRA), -8.0), np.full((300, CEPSTRA), 8.0)
    channel.learn(old)
    for _ in range(4):
        channel.learn(new)
    mean = channel.estimate(np.empty((0, CEPSTRA)))
    assert mean[5] > 3.0


def test_what_does_not_help_fades():
    channel = ChannelMean()
    channel.learn(np.full((200, CEPSTRA), 8.0))
    new = np.full((50, CEPSTRA), -8.0)
    before = channel.estimate(new)
    for _ in range(5):
        channel.fade()
    assert channel.estimate(new)[5] < before[5] - 3.0
