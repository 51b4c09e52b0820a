"""The optional judge: its spectrogram, its model file, and one call's questions to it."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from parley_speech.turn_end import smart_turn
from parley_speech.turn_end.log_mel import BANDS, log_mel
from parley_speech.turn_end.smart_turn import AGAIN_MS, SECONDS, VARIABLE, SmartTurn, find_model
from parley_speech.types import FRAME_MS, MIC_FRAME, MIC_HZ, EngineUnavailable, Pcm

SOUND, QUIET = np.full(MIC_FRAME, 900, np.int16), np.zeros(MIC_FRAME, np.int16)


# --- the spectrogram ----------------------------------------------------------------------------


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * MIC_HZ)) / MIC_HZ).astype(np.float32)


def test_a_tone_is_loudest_in_the_band_of_its_pitch() -> None:
    # Slaney's scale: 15 mel at 1 kHz, 45.2 at 8 kHz; 82 edges, so a band is 0.558 mel wide.
    for hz, mel in ((500.0, 7.5), (1000.0, 15.0), (6400.0, 42.0)):
        spectrogram = log_mel(tone(hz))
        assert spectrogram.shape == (BANDS, 100)
        assert spectrogram[:, 50].argmax() == pytest.approx(mel / 0.558 - 1, abs=1.0)


def test_the_gain_does_not_matter_and_the_depth_is_bounded() -> None:
    loud, soft = (log_mel((tone(700) * gain).astype(np.float32)) for gain in (0.9, 0.03))
    assert np.allclose(loud, soft, atol=2e-3)
    assert loud.max() - loud.min() == pytest.approx(2.0, abs=1e-5), "8 decades, by 4"


@pytest.mark.slow
def test_the_spectrogram_is_that_of_the_transformers_library() -> None:
    """Radford's recipe as WhisperFeatureExtractor has it."""
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(chunk_length=SECONDS)
    rng = np.random.default_rng(3)
    samples = np.zeros(SECONDS * MIC_HZ, np.float32)
    samples[50_000:] = rng.standard_normal(len(samples) - 50_000) * 0.1 + tone(300, 8.0)[50_000:]
    wanted = extractor(
        samples, sampling_rate=MIC_HZ, do_normalize=True, return_tensors="np",
        padding="max_length", max_length=len(samples), truncation=True,
    ).input_features[0]  # fmt: skip
    assert np.allclose(log_mel(samples), wanted, atol=1e-4)


# --- the model file -----------------------------------------------------------------------------


def test_without_a_model_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(smart_turn, "PACKAGE", "no_such_package_here")
    with pytest.raises(EngineUnavailable, match=f"pipecat-ai.*{VARIABLE}"):
        SmartTurn()


def test_a_path_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.onnx"))
    with pytest.raises(EngineUnavailable, match=r"none\.onnx"):
        SmartTurn()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(EngineUnavailable, match="not a model that onnxruntime can run"):
        SmartTurn(broken)


@pytest.mark.slow
def test_the_model_of_an_installed_pipecat_tells_something() -> None:
    try:
        model = find_model()
    except EngineUnavailable as missing:
        pytest.skip(str(missing))
    judge = smart_turn.Judge(model)
    noise = (np.random.default_rng(1).standard_normal(3 * MIC_HZ) * 800).astype(np.int16)
    assert 0.0 <= judge(noise) <= 1.0
    assert judge(noise) == judge(np.concatenate([np.zeros(5 * MIC_HZ, np.int16), noise]))


# --- a call -------------------------------------------------------------------------------------


class Thread:
    """Stands in for the thread: answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[float], Pcm]] = []

    def submit(self, judge: object, pcm: Pcm) -> Future[float]:
        future: Future[float] = Future()
        self.asked.append((future, pcm))
        return future


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    made = Thread()
    monkeypatch.setattr(smart_turn, "_thread", lambda: made)
    monkeypatch.setattr(smart_turn, "_judge", lambda model: None)
    return made


def push(call: SmartTurn, *, voice: int = 0, silence: int = 0) -> float | None:
    for n in range(voice + silence):
        call.push(SOUND if n < voice else QUIET, 1.0, n < voice)
    return call.p_finished


def test_a_pause_is_asked_about_twice_and_answered_when_the_answer_is_there(thread: Thread) -> None:
    call = SmartTurn(Path("any"))
    assert push(call, silence=20) is None and not thread.asked, "nobody has spoken"
    push(call, voice=30, silence=1)
    [(first, pcm)] = thread.asked
    assert len(pcm) == 51 * MIC_FRAME
    assert push(call, silence=3) is None
    first.set_result(0.3)
    assert push(call, silence=1) == 0.3
    push(call, silence=AGAIN_MS // FRAME_MS)
    assert len(thread.asked) == 2
    thread.asked[1][0].set_result(0.9)
    assert push(call, silence=1) == 0.9
    assert push(call, silence=50) == 0.9 and len(thread.asked) == 2


def test_an_answer_about_a_pause_that_is_over_is_not_used(thread: Thread) -> None:
    call = SmartTurn(Path("any"))
    push(call, voice=10, silence=1)
    push(call, voice=5)
    thread.asked[0][0].set_result(0.9)
    assert push(call, voice=1) is None
    push(call, silence=1)
    assert len(thread.asked) == 2
    thread.asked[1][0].set_result(0.1)
    assert push(call, silence=1) == 0.1


def test_a_slow_model_has_one_question_of_a_call_at_a_time(thread: Thread) -> None:
    call = SmartTurn(Path("any"))
    for _ in range(5):
        push(call, voice=5, silence=15)
    assert len(thread.asked) == 1


def test_no_more_than_eight_seconds_are_kept(thread: Thread) -> None:
    call = SmartTurn(Path("any"))
    push(call, voice=600, silence=1)
    assert len(thread.asked[0][1]) == SECONDS * MIC_HZ


def test_what_the_model_raises_is_raised(thread: Thread) -> None:
    call = SmartTurn(Path("any"))
    push(call, voice=5, silence=1)
    thread.asked[0][0].set_exception(RuntimeError("the model broke"))
    with pytest.raises(RuntimeError, match="the model broke"):
        push(call, silence=1)
