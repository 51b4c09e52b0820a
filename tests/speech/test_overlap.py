"""The overlap classifier: its mechanics, its words, and what it decides about recorded sounds."""

from __future__ import annotations

import dataclasses
import json
import statistics
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from parley_speech.audio import frames, level_dbfs, read, scaled, to_pcm
from parley_speech.overlap import (
    DEADLINE_MS,
    DECIDE_INTERRUPTION,
    FEW_WORDS_NOISE,
    LEAST_FRAMES,
    RELEASE_SILENCE_MS,
    OverlapClassifier,
    verdict,
)
from parley_speech.overlap_features import (
    FLOOR,
    HISTORY,
    LEVEL,
    MEL,
    PERIODIC,
    PITCH,
    SIZE,
    VOICE,
    FrameFeatures,
    normalise,
    peak_after,
    raw_features,
)
from parley_speech.overlap_fusion import DECIDE_NOISE, TERMS, Terms, fuse
from parley_speech.overlap_lexicon import Words, classify
from parley_speech.overlap_net import PREROLL, OverlapNet, Weights, load
from parley_speech.overlap_net import read as read_weights
from parley_speech.types import (
    FRAME_MS,
    MIC_FRAME,
    MIC_HZ,
    OverlapEvidence,
    OverlapKind,
    Pcm,
)
from parley_speech.vad.fusion import FusionVad

AUDIO = Path(__file__).parents[1] / "data" / "audio"
MANIFEST = {
    clip["file"].removesuffix(".flac"): clip
    for clip in json.loads((AUDIO / "manifest.json").read_text())
}
SILENT = np.zeros(MIC_FRAME, np.int16)


def tone(hz: float, seconds: float, amplitude: float = 8000.0) -> Pcm:
    """A buzz with ten harmonics: as periodic as a vowel."""
    t = np.arange(int(seconds * MIC_HZ)) / MIC_HZ
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 11))
    return np.asarray(amplitude * wave / 2, np.int16)


LOUD = tone(150.0, FRAME_MS / 1000)


def evidence(**known: object) -> OverlapEvidence:
    base = OverlapEvidence(since_onset_ms=300, voiced_ms=300, silence_ms=0, p_interruption=0.1)
    return dataclasses.replace(base, **known)  # type: ignore[arg-type]


# --- features -------------------------------------------------------------------------------


def test_a_frame_gives_the_same_vector_as_its_samples_in_a_batch() -> None:
    pcm = np.random.default_rng(1).integers(-9000, 9000, 10 * MIC_FRAME).astype(np.int16)
    stream = FrameFeatures()
    streamed = np.stack([stream.push(frame, 0.25) for frame in frames(pcm, MIC_FRAME)])

    padded = np.concatenate((np.zeros(HISTORY - MIC_FRAME), pcm)).astype(np.float32) / 32768
    windows = np.lib.stride_tricks.sliding_window_view(padded, HISTORY)[::MIC_FRAME]
    whole = raw_features(windows, np.full(10, 0.25, np.float32))

    np.testing.assert_allclose(streamed, whole, rtol=1e-4, atol=1e-4)


def test_features_may_begin_with_frames_that_came_before() -> None:
    pcm = np.random.default_rng(6).integers(-9000, 9000, 12 * MIC_FRAME).astype(np.int16)
    every = frames(pcm, MIC_FRAME)
    steady, late = FrameFeatures(), FrameFeatures()
    expected = [steady.push(frame, 0.25) for frame in every]
    late.push(every[0], 0.5)  # of another sound

    got = late.restart(every[1:8], np.full(4, 0.25, np.float32))
    after = [late.push(frame, 0.25) for frame in every[8:]]

    np.testing.assert_allclose(got, expected[4:8], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(after, expected[8:], rtol=1e-4, atol=1e-4)


def test_a_call_that_has_just_begun_has_few_frames_to_begin_with() -> None:
    one = frames(tone(220.0, 0.04), MIC_FRAME)
    fresh, steady = FrameFeatures(), FrameFeatures()
    got = fresh.restart(one, np.full(2, 0.5, np.float32))
    np.testing.assert_allclose(
        got, [steady.push(frame, 0.5) for frame in one], rtol=1e-4, atol=1e-4
    )
    assert fresh.restart([], np.zeros(0, np.float32)).shape == (0, SIZE)


def test_a_buzz_is_periodic_at_its_pitch_and_noise_is_not() -> None:
    features = FrameFeatures()
    for frame in frames(tone(220.0, 0.2), MIC_FRAME):
        buzz = features.push(frame, 0.9)
    rng = np.random.default_rng(2)
    features.reset()
    for _ in range(5):
        hiss = features.push(rng.integers(-8000, 8000, MIC_FRAME).astype(np.int16), 0.1)

    assert buzz[PERIODIC] > 0.95
    assert 160.0 * 2 ** buzz[PITCH] == pytest.approx(220.0, rel=0.03)
    assert hiss[PERIODIC] < 0.5
    assert buzz[VOICE] == np.float32(0.9)


@pytest.mark.parametrize("pitch_hz", [80.0, 120.0, 300.0])
def test_low_tones_fill_low_bands(pitch_hz: float) -> None:
    features = FrameFeatures()
    for frame in frames(tone(pitch_hz, 0.2), MIC_FRAME):
        raw = features.push(frame, 1.0)
    bands = raw[MEL].reshape(2, -1)
    assert (bands[:, :8].max(1) > bands[:, 14:].max(1) + 3.0).all()


def test_the_gain_of_the_line_does_not_show_after_normalisation() -> None:
    def run(gain_db: float) -> list[np.ndarray]:
        features, peak, out = FrameFeatures(), FLOOR, []
        for frame in frames(scaled(tone(150.0, 0.2), gain_db), MIC_FRAME):
            raw = features.push(frame, 1.0)
            peak = peak_after(raw, peak)
            out.append(normalise(raw, peak))
        return out

    for loud, quiet in zip(run(0.0), run(-18.0), strict=True):
        np.testing.assert_allclose(loud, quiet, atol=0.06)


def test_digital_silence_is_finite_and_below_the_floor() -> None:
    raw = FrameFeatures().push(SILENT, 0.0)
    assert np.isfinite(raw).all()
    assert raw.shape == (SIZE,)
    assert raw[LEVEL].max() < FLOOR
    assert peak_after(raw) == FLOOR


@pytest.mark.parametrize(
    "frame", [np.zeros(160, np.int16), np.zeros(320, np.float32), np.zeros((320, 1), np.int16)]
)
def test_a_wrong_frame_is_refused_with_what_was_expected(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"frame: expected int16 of shape \(320,\)"):
        FrameFeatures().push(frame, 0.0)


# --- the network ----------------------------------------------------------------------------


def random_weights(seed: int = 3, k: int = 2, h: int = 5) -> Weights:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) * 0.4

    return Weights(
        W=draw(k, SIZE, 3 * h), U=draw(k, h, 3 * h), b=draw(k, 3 * h), c=draw(k, h),
        V=draw(k, h, 3), d=draw(k, 3),
    )  # fmt: skip


def test_the_recurrence_is_the_documented_one() -> None:
    """Against the equations of the module's docstring, written out unit by unit."""
    weights = random_weights(k=1, h=3)
    W, U, b, c, V, d = (getattr(weights, name)[0].astype(float) for name in "WUbcVd")
    net, h, peak = OverlapNet(weights), np.zeros(3), FLOOR
    rng = np.random.default_rng(4)
    for _ in range(6):
        raw = rng.standard_normal(SIZE).astype(np.float32) - 3.0
        peak = peak_after(raw, peak)
        x = normalise(raw, peak).astype(float)
        new = np.zeros(3)
        for j in range(3):
            z = 1 / (1 + np.exp(-(x @ W[:, j] + h @ U[:, j] + b[j])))
            r = 1 / (1 + np.exp(-(x @ W[:, 3 + j] + h @ U[:, 3 + j] + b[3 + j])))
            n = np.tanh(x @ W[:, 6 + j] + b[6 + j] + r * (h @ U[:, 6 + j] + c[j]))
            new[j] = h[j] + z * (n - h[j])
        h = new
        share = np.exp(h @ V + d)
        got = net.step(raw)
        np.testing.assert_allclose(
            [got.backchannel, got.interruption, got.noise], share / share.sum(), rtol=1e-4
        )


def test_several_networks_give_their_mean() -> None:
    pair = random_weights(k=2)
    raw = np.random.default_rng(5).standard_normal(SIZE).astype(np.float32)
    alone = [
        OverlapNet(Weights(**{n: getattr(pair, n)[k : k + 1] for n in "WUbcVd"})).step(raw).noise
        for k in (0, 1)
    ]
    assert OverlapNet(pair).step(raw).noise == pytest.approx(statistics.mean(alone), rel=1e-5)


def test_weights_of_another_feature_set_are_refused() -> None:
    good = random_weights()
    with pytest.raises(ValueError, match=r"fit them again with scripts/fit_overlap\.py"):
        dataclasses.replace(good, W=good.W[:, :-1])


def test_the_weights_that_come_along_are_small_and_readable() -> None:
    import parley_speech

    path = Path(parley_speech.__file__).parent / "data" / "overlap_net.npz"
    assert path.stat().st_size < 150_000
    weights = read_weights(path.read_bytes())
    assert weights.W.dtype == np.float32
    assert all(np.isfinite(getattr(weights, name)).all() for name in "WUbcVd")
    assert load() is load()


# --- mechanics ------------------------------------------------------------------------------


def test_between_overlaps_the_evidence_is_empty() -> None:
    classifier = OverlapClassifier(weights=random_weights())
    classifier.hear(["wait"])
    for frame in frames(tone(150.0, 0.1), MIC_FRAME):
        assert classifier.step(frame, 0.9, 0.0) == OverlapEvidence(0, 0, 0, 0.0)
    classifier.begin(100)
    assert classifier.step(SILENT, 0.9, 0.0).words == ()  # said before: not of this overlap


def test_the_ring_brings_the_onset_into_the_evidence() -> None:
    classifier = OverlapClassifier(weights=random_weights())
    for _ in range(20):
        classifier.step(SILENT, 0.0, 0.0)
    sound = frames(tone(150.0, 0.2), MIC_FRAME)
    for frame in sound[:3]:  # 60 ms before the VAD opens
        classifier.step(frame, 0.1, 0.0)
    classifier.begin(23 * FRAME_MS)
    first = classifier.step(sound[3], 0.8, 0.0)
    assert (first.since_onset_ms, first.voiced_ms, first.silence_ms) == (80, 80, 0)


def test_the_onset_is_never_sought_beyond_the_ring() -> None:
    classifier = OverlapClassifier(weights=random_weights())
    for frame in frames(tone(150.0, 1.0), MIC_FRAME):
        classifier.step(frame, 0.1, 0.0)
    classifier.begin(1000)
    assert classifier.step(SILENT, 0.8, 0.0).since_onset_ms <= (PREROLL + 1) * FRAME_MS


def test_times_count_voice_and_silence() -> None:
    classifier = OverlapClassifier(weights=random_weights())
    for _ in range(20):
        classifier.step(SILENT, 0.0, 0.0)
    classifier.begin(400)
    for frame in frames(tone(150.0, 0.1), MIC_FRAME):
        last = classifier.step(frame, 0.9, 0.0)
    assert (last.since_onset_ms, last.voiced_ms, last.silence_ms) == (100, 100, 0)
    for _ in range(4):
        last = classifier.step(SILENT, 0.1, 0.0)
    assert (last.since_onset_ms, last.voiced_ms, last.silence_ms) == (180, 100, 80)
    assert classifier.step(SILENT, 0.9, 0.0).silence_ms == 0


def test_the_same_sound_gives_the_same_evidence_in_every_overlap_and_call() -> None:
    """No state leaks from one overlap into the next."""

    def overlap(classifier: OverlapClassifier) -> list[OverlapEvidence]:
        for _ in range(PREROLL + 5):
            classifier.step(SILENT, 0.0, 0.0)
        classifier.begin(0)
        out = [classifier.step(f, 0.9, 0.1) for f in frames(tone(180.0, 0.3), MIC_FRAME)]
        classifier.end()
        return out

    used, fresh = OverlapClassifier(), OverlapClassifier()
    first = overlap(used)
    used.begin(7)
    used.hear(["wait", "stop"])
    used.step(SILENT, 0.5, 0.9)
    used.end()
    assert overlap(used) == first == overlap(fresh)


def test_frames_of_our_own_voice_are_silence_of_the_user() -> None:
    classifier = OverlapClassifier(weights=random_weights())
    classifier.begin(0)
    classifier.step(LOUD, 0.9, 0.1)
    for _ in range(3):
        last = classifier.step(LOUD, 0.9, 0.9)
    assert (last.since_onset_ms, last.voiced_ms, last.silence_ms) == (80, 20, 60)


def test_a_sound_that_is_mostly_our_own_voice_is_never_an_interruption() -> None:
    weights = biased(interruption=9.0)
    user, ours = OverlapClassifier(weights=weights), OverlapClassifier(weights=weights)
    for classifier, echo in ((user, 0.4), (ours, 0.95)):
        classifier.begin(0)
        for _ in range(10):
            last = classifier.step(LOUD, 0.9, echo)
        assert (last.p_interruption >= DECIDE_INTERRUPTION) is (classifier is user)


def test_nothing_is_decided_in_the_first_frames() -> None:
    classifier = OverlapClassifier(weights=biased(interruption=9.0))
    classifier.begin(0)
    course = [classifier.step(LOUD, 0.9, 0.0).p_interruption for _ in range(LEAST_FRAMES)]
    assert course[:-1] == [0.0] * (LEAST_FRAMES - 1)
    assert course[-1] > DECIDE_INTERRUPTION


def test_a_belief_of_one_frame_decides_nothing() -> None:
    classifier = OverlapClassifier(weights=biased(interruption=9.0))
    for _ in range(5):
        classifier.step(SILENT, 0.0, 0.0)
    sound = frames(tone(150.0, 0.2), MIC_FRAME)
    for frame in sound[: LEAST_FRAMES + 1]:
        classifier.step(frame, 0.2, 0.0)
    classifier.begin(0)
    first, second = (classifier.step(frame, 0.9, 0.0) for frame in sound[LEAST_FRAMES + 1 :][:2])
    assert first.since_onset_ms >= LEAST_FRAMES * FRAME_MS
    assert first.p_interruption < 0.1
    assert second.p_interruption > DECIDE_INTERRUPTION


def test_a_voice_that_goes_on_and_on_is_no_nod_but_a_noise_that_does_is_none_either() -> None:
    def course(kind: str) -> list[OverlapEvidence]:
        classifier = OverlapClassifier(weights=biased(**{kind: 6.0}))
        classifier.begin(0)
        return [classifier.step(LOUD, 0.9, 0.0) for _ in range(1500 // FRAME_MS)]

    voice, noise = course("backchannel"), course("noise")
    for seen in (voice, noise):  # until then both have been let pass
        verdicts = [verdict(one) for one in seen[: DEADLINE_MS // FRAME_MS - 1]]
        assert set(verdicts) == {None}
    # Whatever the network takes it for: nobody nods for more than a second.
    assert verdict(voice[-1]) is OverlapKind.INTERRUPTION
    assert {verdict(one) for one in noise[DEADLINE_MS // FRAME_MS :]} == {OverlapKind.NOISE}


def test_a_long_sound_of_which_nothing_is_certain_is_decided_before_the_deadline() -> None:
    classifier = OverlapClassifier(weights=biased())
    # An even belief of one in three is not open enough; one in two is.
    half = OverlapClassifier(weights=biased(interruption=0.7))
    decided_ms = {}
    for name, each in (("third", classifier), ("half", half)):
        each.begin(0)
        course = [each.step(LOUD, 0.9, 0.0) for _ in range(DEADLINE_MS // FRAME_MS - 1)]
        decided_ms[name] = [e.since_onset_ms for e in course if verdict(e) is not None]
    assert decided_ms["third"] == []
    assert TERMS.long_from_ms < decided_ms["half"][0] < TERMS.long_from_ms + 150


# --- the formula ----------------------------------------------------------------------------


def fused(p_sound: float = 0.5, p_noise: float = 0.0, **known: object) -> float:
    base: dict[str, object] = {"voiced_ms": 200, "silence_ms": 0, "words": Words.NONE}
    return fuse(p_sound, p_noise, **{**base, **known})  # type: ignore[arg-type]


def test_a_short_sound_without_words_is_what_the_network_believes() -> None:
    plain = Terms(sound=0.0)
    for p in (0.02, 0.3, 0.5, 0.8, 0.98):
        assert fused(p, terms=plain) == pytest.approx(p)


def test_a_network_is_never_surer_than_trusted_words() -> None:
    assert fused(1.0, words=Words.BACKCHANNEL) < 0.5
    assert fused(0.0, words=Words.OPENER) >= DECIDE_INTERRUPTION
    assert fused(0.0, words=Words.CONTENT) >= DECIDE_INTERRUPTION
    assert fused(0.0, words=Words.ONE) < 0.1


def test_the_longer_a_voice_the_likelier_an_interruption() -> None:
    for belief, from_ms in ((0.5, TERMS.long_from_ms), (0.2, TERMS.endless_from_ms)):
        course = [fused(belief, voiced_ms=ms) for ms in range(0, from_ms + 400, FRAME_MS)]
        assert course == sorted(course)
        assert course[0] == course[from_ms // FRAME_MS] < course[-1]
        assert course[-1] > DECIDE_INTERRUPTION


def test_neither_length_nor_words_make_a_noise_an_interruption() -> None:
    noise = {"p_noise": 0.9, "words": Words.OPENER, "voiced_ms": 900}
    assert fused(0.05, **noise) == pytest.approx(fused(0.05))


def test_a_sound_that_is_over_is_decided_with_less() -> None:
    assert fused(0.7, silence_ms=TERMS.end_ms - 1) == fused(0.7) < fused(0.7, silence_ms=90)


# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", Words.NONE),
        ("um", Words.NONE),
        ("yes", Words.BACKCHANNEL),
        ("Yeah, okay", Words.BACKCHANNEL),
        ("mm-hmm", Words.BACKCHANNEL),
        ("uh huh I see", Words.BACKCHANNEL),
        ("um all right", Words.BACKCHANNEL),
        ("wait", Words.OPENER),
        ("no", Words.OPENER),
        ("hold on", Words.OPENER),
        ("Excuse me please", Words.OPENER),
        ("yes but", Words.OPENER),
        ("okay can you", Words.OPENER),
        ("man", Words.ONE),
        ("yeah tuesday", Words.ONE),
        ("I want", Words.CONTENT),
        ("my order number", Words.CONTENT),
        ("all", Words.ONE),
        ("excuse", Words.ONE),
    ],
)
def test_the_lexicon(said: str, kind: Words) -> None:
    assert classify(said.split()) is kind


def test_a_language_without_a_table_says_nothing_and_a_region_has_its_languages() -> None:
    assert classify(["attends"], "fr") is Words.NONE
    assert classify(["wait"], "en-GB") is Words.OPENER


@pytest.mark.parametrize("said", ["wait", "stop talking", "my order number"])
def test_words_that_want_the_floor_decide(said: str) -> None:
    classifier = OverlapClassifier(weights=biased(backchannel=6.0))
    classifier.begin(0)
    for _ in range(LEAST_FRAMES):
        assert classifier.step(LOUD, 0.9, 0.0).p_interruption < 0.1
    classifier.hear(said.split())
    after = classifier.step(LOUD, 0.9, 0.0)
    assert verdict(after) is OverlapKind.INTERRUPTION
    assert (after.text, after.words) == (said, tuple(said.split()))


def test_words_that_nod_hold_the_decision_back_until_more_is_said() -> None:
    classifier = OverlapClassifier(weights=biased(interruption=6.0))
    classifier.begin(0)
    for _ in range(LEAST_FRAMES):
        before = classifier.step(LOUD, 0.9, 0.0)
    assert verdict(before) is OverlapKind.INTERRUPTION
    classifier.hear(["yeah"])
    assert verdict(classifier.step(LOUD, 0.9, 0.0)) is None
    classifier.hear(["yeah", "but", "when"])
    assert verdict(classifier.step(LOUD, 0.9, 0.0)) is OverlapKind.INTERRUPTION


def test_words_that_a_recogniser_makes_of_a_noise_are_worth_nothing() -> None:
    classifier = OverlapClassifier(weights=biased(noise=6.0))
    classifier.begin(0)
    classifier.hear(["no", "men", "are"])
    for _ in range(5):
        last = classifier.step(LOUD, 0.9, 0.0)
    assert last.p_interruption < 0.1
    assert last.p_noise > 0.9


@pytest.mark.parametrize(
    ("said", "noise", "decides"),
    [
        ("no", 0.0, True),
        ("no", 2.0, False),
        ("hold on", 2.0, False),
        ("no that is wrong", 2.0, True),
    ],
)
def test_few_words_are_a_guess_where_the_network_thinks_of_a_noise(
    said: str, noise: float, decides: bool
) -> None:
    """A grammar makes "no" of a bark; a sentence it does not."""
    classifier = OverlapClassifier(weights=biased(backchannel=4.0, noise=noise))
    classifier.begin(0)
    classifier.hear(said.split())
    for _ in range(LEAST_FRAMES):
        last = classifier.step(LOUD, 0.9, 0.0)
    assert (last.p_noise > FEW_WORDS_NOISE) is (noise > 0.0)
    assert last.p_noise < DECIDE_NOISE
    assert (verdict(last) is OverlapKind.INTERRUPTION) is decides


def test_a_nod_is_one_though_it_sounds_a_little_like_a_noise() -> None:
    classifier = OverlapClassifier(weights=biased(interruption=6.0, noise=4.0))
    classifier.begin(0)
    for _ in range(LEAST_FRAMES):
        before = classifier.step(LOUD, 0.9, 0.0)
    assert verdict(before) is OverlapKind.INTERRUPTION
    classifier.hear(["yeah"])
    last = classifier.step(LOUD, 0.9, 0.0)
    assert last.p_noise > FEW_WORDS_NOISE
    assert verdict(last) is None


def biased(backchannel: float = 0.0, interruption: float = 0.0, noise: float = 0.0) -> Weights:
    """Networks that believe one thing whatever they hear."""
    blank = {n: np.zeros_like(getattr(random_weights(), n)) for n in "WUbcV"}
    one = np.array([backchannel, interruption, noise], np.float32)
    return Weights(**blank, d=np.stack((one, one)))


# --- verdicts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "kind"),
    [
        ({}, None),
        ({"p_interruption": DECIDE_INTERRUPTION}, OverlapKind.INTERRUPTION),
        ({"p_interruption": DECIDE_INTERRUPTION - 0.01}, None),
        ({"silence_ms": RELEASE_SILENCE_MS}, OverlapKind.BACKCHANNEL),
        ({"silence_ms": RELEASE_SILENCE_MS - FRAME_MS}, None),
        ({"silence_ms": RELEASE_SILENCE_MS, "p_noise": 0.9}, OverlapKind.NOISE),
        ({"since_onset_ms": DEADLINE_MS}, OverlapKind.BACKCHANNEL),
        ({"since_onset_ms": DEADLINE_MS, "p_noise": 0.9}, OverlapKind.NOISE),
        ({"since_onset_ms": DEADLINE_MS, "p_interruption": 0.6}, OverlapKind.INTERRUPTION),
        (
            {"since_onset_ms": DEADLINE_MS, "p_interruption": 0.6, "silence_ms": 200},
            OverlapKind.BACKCHANNEL,
        ),
    ],
)
def test_the_verdict(known: dict[str, float], kind: OverlapKind | None) -> None:
    assert verdict(evidence(**known)) is kind


# --- what it decides ------------------------------------------------------------------------

LEAD_MS = 400


@lru_cache
def clip(name: str) -> Pcm:
    return read(AUDIO / f"{name}.flac", MIC_HZ)


def decided(
    pcm: Pcm, onset: int, gain_dbfs: float, *, seed: int = 0, residue_db: float | None = None
) -> tuple[OverlapKind | None, float]:
    """The verdict on a sound over a quiet line, and when after its onset it came, in ms.

    ``residue_db``: an agent's voice that far below the sound, as an echo canceller leaves it.
    """
    rng = np.random.default_rng(seed)
    lead = LEAD_MS * MIC_HZ // 1000 + int(rng.integers(MIC_FRAME))
    sound = scaled(pcm[onset : onset + MIC_HZ], gain_dbfs - level_dbfs(pcm[onset:][:MIC_HZ]))
    line = rng.standard_normal(lead + sound.size + MIC_HZ) * 15.0  # -67 dBFS
    line[lead : lead + sound.size] += sound
    echo = np.zeros(line.size)
    if residue_db is not None:
        agent = np.resize(clip("human_vm_intro"), line.size)
        echo += scaled(agent, gain_dbfs - residue_db - level_dbfs(agent))
    # The likelihood is judged before the canceller, which takes about 20 dB off.
    shares = [
        float(e @ e) / float(e @ e + u @ u)
        for e, u in (
            (10.0 * echo[at : at + MIC_FRAME], line[at : at + MIC_FRAME])
            for at in range(0, line.size, MIC_FRAME)
        )
        if e.size
    ]
    vad, classifier = FusionVad(), OverlapClassifier()
    for index, frame in enumerate(frames(to_pcm(line + echo), MIC_FRAME)):
        p_voice = vad.push(frame)
        if classifier.begun_ms is None and p_voice >= 0.5 and shares[index] < 0.5:
            classifier.begin(index * FRAME_MS)
        evidence = classifier.step(frame, p_voice, shares[index])
        if classifier.begun_ms is None:
            continue
        after_ms = (index + 1) * FRAME_MS - lead * 1000 / MIC_HZ
        kind = verdict(evidence)
        if kind is OverlapKind.INTERRUPTION or (kind is not None and after_ms > 400.0):
            return kind, after_ms
        if kind is not None:
            classifier.end()
    return None, float("inf")


def onset_of(name: str) -> int:
    return int(MANIFEST[name]["sound"][0] * MIC_HZ)


SENTENCES = [
    name
    for name, known in MANIFEST.items()
    if known["kind"] in ("human", "read") and len((known["text"] or "").split()) >= 3
]
"""Of a human speaker none of whose recordings the network was fitted on."""
NOISES = [
    "noise_car_horn",
    "noise_dog_bark",
    "noise_engine_idling",
    "noise_ringing_phone",
    "noise_siren",
]
GAINS_DBFS = (-8, -14, -20, -26, -30)


def test_recorded_interruptions_are_decided_by_their_sound_alone() -> None:
    results = [decided(clip(name), onset_of(name), -20.0) for name in SENTENCES]
    times = sorted(ms for kind, ms in results if kind is OverlapKind.INTERRUPTION)
    assert len(times) >= 0.85 * len(results)
    assert statistics.median(ms for _, ms in results) <= 380.0
    assert times[0] >= 80.0  # sooner would be a guess


@pytest.mark.parametrize("residue_db", [None, 25.0])
def test_yes_never_takes_the_floor(residue_db: float | None) -> None:
    for seed, gain in enumerate(GAINS_DBFS):
        kind, _ = decided(
            clip("caller_yes"), onset_of("caller_yes"), gain, seed=seed, residue_db=residue_db
        )
        assert kind is not OverlapKind.INTERRUPTION, f"at {gain} dBFS"


@pytest.mark.parametrize("name", NOISES)
def test_a_noise_never_takes_the_floor(name: str) -> None:
    for seed, gain in enumerate(GAINS_DBFS):
        kind, _ = decided(clip(name), onset_of(name), gain, seed=seed)
        assert kind is not OverlapKind.INTERRUPTION, f"at {gain} dBFS"


@pytest.mark.parametrize("pitch_hz", [95.0, 140.0, 210.0])
def test_a_hum_in_two_swells_never_takes_the_floor(pitch_hz: float) -> None:
    """Mm-hm: a closed mouth lets only the lowest harmonics out."""
    t = np.arange(int(0.2 * MIC_HZ)) / MIC_HZ
    swell = np.sin(np.pi * t / 0.2) ** 0.5 * sum(
        np.sin(2 * np.pi * pitch_hz * k * t) / k**2 for k in range(1, 9)
    )
    hum = np.concatenate((swell, np.zeros(800), 1.1 * swell))  # 50 ms of breath between
    for gain in GAINS_DBFS:
        kind, _ = decided(to_pcm(9000 * hum), 0, gain)
        assert kind is not OverlapKind.INTERRUPTION, f"at {gain} dBFS"
