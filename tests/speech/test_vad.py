from __future__ import annotations

import importlib.metadata
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_speech import audio
from parley_speech.types import EngineUnavailable, Pcm, Vad
from parley_speech.vad import silero
from parley_speech.vad.fusion import CREDIT, FusionVad
from parley_speech.vad.gate import SpeechGate
from parley_speech.vad.silero import SileroVad
from parley_speech.vad.webrtc import WebRtcVad

DATA = Path(__file__).parents[1] / "data" / "audio"
CLIPS = {clip["file"]: clip for clip in json.loads((DATA / "manifest.json").read_text())}
SPEECH = ["caller_order_status.flac", "human_vm_intro.flac", "read_lj001_0008.flac"]
NOISES = ["car_horn", "dog_bark", "engine_idling", "ringing_phone", "siren"]
LEAD_MS = 1000
ENGINES = [SileroVad, WebRtcVad, FusionVad]


def clip(name: str) -> Pcm:
    """A clip with a second of silence before and half a second after."""
    silence = np.zeros(16 * LEAD_MS, np.int16)
    return np.concatenate([silence, audio.read(DATA / name, 16000), silence[:8000]])


def run(vad: Vad, sound: Pcm) -> list[float]:
    return [vad.push(frame) for frame in audio.frames(sound, 320)]


def longest_ms(probabilities: list[float], above: float) -> int:
    longest = length = 0
    for probability in probabilities:
        length = length + 20 if probability > above else 0
        longest = max(longest, length)
    return longest


# --- all engines ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SPEECH)
def test_speech_is_found_where_it_is(engine: type[Vad], name: str) -> None:
    start, end = CLIPS[name]["sound"]
    onset_ms, offset_ms = LEAD_MS + 1000 * start, LEAD_MS + 1000 * end

    voiced_ms = [20 * (i + 1) for i, p in enumerate(run(engine(), clip(name))) if p > 0.5]

    assert -20 <= voiced_ms[0] - onset_ms <= 200
    assert -400 <= voiced_ms[-1] - offset_ms <= 200  # the last word may end in a whisper
    assert 20 * len(voiced_ms) > 0.6 * (offset_ms - onset_ms)


@pytest.mark.parametrize("engine", ENGINES)
def test_silence_is_no_voice(engine: type[Vad]) -> None:
    assert max(run(engine(), np.zeros(32_000, np.int16))) < 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_clipped_speech_is_a_voice(engine: type[Vad]) -> None:
    loud = audio.scaled(clip("caller_order_status.flac"), 40.0)
    assert max(run(engine(), loud)) > 0.5


@pytest.mark.parametrize("engine", ENGINES)
def test_reset_begins_a_new_call(engine: type[Vad]) -> None:
    vad, sound = engine(), clip("caller_hello.flac")
    first = run(vad, sound)
    vad.reset()
    assert run(vad, sound) == first


@pytest.mark.parametrize("engine", ENGINES)
def test_calls_do_not_disturb_each_other(engine: type[Vad]) -> None:
    mine, other = engine(), engine()
    sound = audio.frames(clip("caller_hello.flac"), 320)
    alone = run(engine(), clip("caller_hello.flac"))
    together = []
    for frame in sound:
        other.push(audio.scaled(frame[::-1].copy(), 6.0))
        together.append(mine.push(frame))
    assert together == alone


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "bad", [np.zeros(480, np.int16), np.zeros(320, np.float32), np.zeros(0, np.int16)]
)
def test_a_wrong_frame_is_refused(engine: type[Vad], bad: Pcm) -> None:
    with pytest.raises(ValueError, match=r"frame: expected int16 of shape \(320,\)"):
        engine().push(bad)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_meets_the_contract(engine: type[Vad]) -> None:
    assert isinstance(engine(), Vad)


# --- silero ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOISES)
def test_silero_hears_no_voice_in_noises(name: str) -> None:
    assert max(run(SileroVad(), clip(f"noise_{name}.flac"))) < 0.5


def test_a_push_gives_the_latest_whole_window() -> None:
    """Frames of 320 against windows of 512: new values come with frames 2, 4, 5, 7, 8, 10…"""
    rng = np.random.default_rng(0)
    noise = audio.to_pcm(rng.standard_normal(320 * 16) * 3000)
    got = run(SileroVad(), noise)
    changed = [i + 1 for i in range(1, 16) if got[i] != got[i - 1]]
    assert got[0] == 0.0
    assert changed == [2, 4, 5, 7, 8, 10, 12, 13, 15, 16]


def test_windows_and_context_are_those_of_the_model() -> None:
    """The same as running the model by hand over consecutive windows of the whole sound."""
    sound = clip("caller_hello.flac")[16_000:]
    session = silero._session(silero.find_model())
    x = np.concatenate([np.zeros(64), sound / 32768.0]).astype(np.float32)
    state, by_hand = np.zeros((2, 1, 128), np.float32), []
    for at in range(0, sound.size - 511, 512):
        inputs = {"input": x[None, at : at + 576], "state": state, "sr": np.array(16000)}
        probability, state = session.run(None, inputs)
        by_hand.append(float(probability[0, 0]))
    frames = run(SileroVad(), sound[: 320 * (sound.size // 320)])
    for window, probability in enumerate(by_hand):
        frame = -(-(window + 1) * 512 // 320) - 1
        if frame < len(frames):
            assert frames[frame] == pytest.approx(probability, abs=1e-6)


def test_the_model_is_shared_by_all_calls() -> None:
    assert SileroVad()._session is SileroVad()._session


def test_without_the_model_the_error_names_the_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(EngineUnavailable, match="livekit-plugins-silero or silero-vad"):
        SileroVad()


def test_a_model_that_is_not_there_or_broken_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no silero VAD model at"):
        SileroVad(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineUnavailable, match="not a model that onnxruntime can run"):
        SileroVad(tmp_path / "bad.onnx")


def test_an_unknown_file_is_used_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    copy = tmp_path / "silero_vad.onnx"
    copy.write_bytes(silero.find_model().read_bytes())
    monkeypatch.setattr(silero, "KNOWN_SHA256", set())
    with caplog.at_level(logging.WARNING):
        SileroVad(copy)
    assert "not a silero VAD release" in caplog.text


# --- webrtc ---------------------------------------------------------------------------------


def test_webrtc_is_voiced_by_halves_of_a_frame() -> None:
    assert set(run(WebRtcVad(), clip("caller_order_status.flac"))) == {0.0, 0.5, 1.0}
    assert set(run(WebRtcVad(step_ms=20), clip("caller_order_status.flac"))) == {0.0, 1.0}


def test_the_more_aggressive_the_less_is_voice() -> None:
    sound = audio.mix_at_snr(clip("human_vm_intro.flac"), clip("noise_dog_bark.flac"), 10)
    shares = [sum(run(WebRtcVad(mode), sound)) for mode in range(4)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[3]


@pytest.mark.parametrize(("mode", "step_ms"), [(4, 10), (-1, 10), (3, 30)])
def test_webrtc_refuses_modes_it_has_not(mode: int, step_ms: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        WebRtcVad(mode, step_ms=step_ms)


# --- fusion ---------------------------------------------------------------------------------


class Script:
    """A detector that says what it was told to say."""

    def __init__(self, *probabilities: float) -> None:
        self._all, self._left = probabilities, list(probabilities)

    def push(self, frame: Pcm) -> float:
        return self._left.pop(0) if self._left else 0.0

    def reset(self) -> None:
        self._left = list(self._all)


def fused(quick: list[float], sure: list[float], **settings: int) -> list[float]:
    vad = FusionVad(quick=Script(*quick), sure=Script(*sure), **settings)
    return [vad.push(np.zeros(320, np.int16)) for _ in range(max(len(quick), len(sure)))]


def test_fusion_opens_with_the_quicker() -> None:
    assert fused([0, 1, 1, 1], [0.1, 0.1, 0.2, 0.9]) == [0.1, CREDIT, CREDIT, 0.9]


def test_fusion_holds_with_the_surer() -> None:
    quick, sure = [1.0] * 8, [0.9, 0.9, 0.9, 0.2, 0.1, 0.1, 0.9, 0.1]
    assert fused(quick, sure) == sure


def test_noise_that_only_the_quicker_hears_is_closed_after_100_ms() -> None:
    assert fused([1.0] * 100, [0.1] * 100) == [CREDIT] * 5 + [0.1] * 95


def test_half_a_frame_of_noise_does_not_open() -> None:
    assert max(fused([0.5] * 5, [0.1] * 5)) < 0.5


def test_after_a_refusal_there_is_credit_only_after_a_pause_and_each_time_a_longer_one() -> None:
    bark, quiet = [1.0] * 10, [0.0]
    quick = bark + quiet * 10 + bark + quiet * 16 + bark + quiet * 31 + bark
    opened = [i for i, p in enumerate(fused(quick, [0.1] * len(quick))) if p == CREDIT]
    starts = [i for i in opened if i - 1 not in opened]
    assert starts == [0, 46, 87]  # not at 20: 200 ms were too short; 300 and 600 ms were enough


def test_a_confirmed_voice_restores_credit() -> None:
    quick = [1.0] * 10 + [0.0] * 2 + [1.0] * 2 + [0.0] * 16 + [1.0] * 2
    sure = [0.1] * 12 + [0.9] * 2 + [0.1] * 18
    assert fused(quick, sure)[-2:] == [CREDIT, CREDIT]


def test_without_credit_fusion_is_the_surer() -> None:
    sure = [0.1, 0.3, 0.9, 0.4]
    assert fused([1.0] * 4, sure, credit_ms=0) == sure


@pytest.mark.parametrize("name", NOISES)
def test_fusion_opens_for_noises_at_most_100_ms_at_a_time(name: str) -> None:
    assert longest_ms(run(FusionVad(), clip(f"noise_{name}.flac")), 0.5) <= 100


@pytest.mark.parametrize("name", SPEECH)
def test_fusion_is_never_slower_than_silero(name: str) -> None:
    def onset(vad: Vad) -> int:
        return next(i for i, p in enumerate(run(vad, clip(name))) if p > 0.5)

    assert onset(FusionVad()) <= onset(SileroVad())


def test_fusion_refuses_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="credit_ms must be 0 or more"):
        FusionVad(credit_ms=-1)


# --- gate -----------------------------------------------------------------------------------


def test_the_gate_opens_at_once_and_closes_after_the_hangover() -> None:
    gate = SpeechGate(hangover_ms=60)
    states = [gate.push(p) for p in [0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1]]
    assert [s.speaking for s in states] == [False, True, True, True, True, False, False]
    assert [s.started for s in states] == [False, True] + [False] * 5
    assert [s.ended for s in states] == [False] * 5 + [True, False]
    assert (states[-1].onset_ms, states[-1].offset_ms) == (20, 60)
    assert [s.speech_ms for s in states] == [0, 20, 40, 40, 40, 0, 0]
    assert [s.silence_ms for s in states] == [20, 0, 0, 20, 40, 60, 80]


def test_sounds_shorter_than_min_speech_do_not_open() -> None:
    gate = SpeechGate(min_speech_ms=60)
    states = [gate.push(p) for p in [0.9, 0.9, 0.1, 0.9, 0.9, 0.9]]
    assert [s.speaking for s in states] == [False] * 5 + [True]
    assert states[-1].onset_ms == 60


def test_between_the_thresholds_an_open_gate_stays_open_and_a_closed_one_closed() -> None:
    gate = SpeechGate(on=0.6, off=0.3, hangover_ms=20)
    states = [gate.push(p) for p in [0.5, 0.7, 0.4, 0.4, 0.2, 0.5]]
    assert [s.speaking for s in states] == [False, True, True, True, False, False]


def test_reset_starts_the_clock_again() -> None:
    gate = SpeechGate()
    first = [gate.push(p) for p in [0.9, 0.1]]
    gate.reset()
    assert [gate.push(p) for p in [0.9, 0.1]] == first


@given(st.lists(st.floats(0, 1), max_size=200), st.integers(0, 5), st.integers(0, 10))
def test_every_start_has_one_end_and_times_are_in_order(
    probabilities: list[float], least: int, hang: int
) -> None:
    gate = SpeechGate(min_speech_ms=20 * least, hangover_ms=20 * hang)
    open_since, last_end = None, 0
    for i, state in enumerate(gate.push(p) for p in probabilities):
        now_ms = 20 * (i + 1)
        assert not (state.started and state.ended)
        if state.started:
            assert open_since is None and state.onset_ms is not None
            assert last_end <= state.onset_ms < now_ms and state.offset_ms is None
            open_since = state.onset_ms
        if state.ended:
            assert open_since is not None and state.offset_ms is not None
            assert open_since < state.offset_ms <= now_ms
            assert now_ms - state.offset_ms >= 20 * hang
            open_since, last_end = None, state.offset_ms
        assert state.speaking == (open_since is not None)


@pytest.mark.parametrize(
    "settings", [{"on": 0.3, "off": 0.5}, {"off": 0.0}, {"hangover_ms": -1}, {"on": 1.2}]
)
def test_the_gate_refuses_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SpeechGate(**settings)  # type: ignore[arg-type]
