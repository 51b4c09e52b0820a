"""Is this recording fit to be a voice? Length, rate, level, clipping, noise, silence.

What the recording gets wrong, the voice gets wrong for ever: a cloned voice repeats hiss, clipping
and room as faithfully as the speaker. Each finding says how to mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parley_speech.audio import SILENCE_DBFS, read, to_mono

MIN_HZ = 16_000
REFERENCE_HZ = 24_000  # what is kept
MIN_S, MAX_S = 3.0, 30.0  # above 30 s the speech tokenizer's window ends
GOOD_S = (5.0, 15.0)

FRAME_MS = 20
SPEECH_RANGE_DB = 30.0  # frames so far below the loudest count as speech
MIN_LEVEL_DBFS = -40.0
LOW_LEVEL_DBFS = -32.0
MIN_SNR_DB, GOOD_SNR_DB = 15.0, 25.0
NOISE_PERCENTILE = 5  # the quietest frames: between and inside words
CLIP_LEVEL, CLIP_RUN = 0.998, 3  # of full scale; samples in a row
MAX_CLIPPED = 5  # places; one or two are not heard
MIN_SPEECH = 0.5  # of the time
EDGE_SILENCE_MS = 700


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    mend: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.mend}"


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    sample_rate_hz: int
    duration_s: float
    speech_s: float
    """Time within 30 dB of the loudest frame."""
    level_dbfs: float
    """RMS of that time."""
    snr_db: float
    """That level above the quietest frames."""
    clipped: int
    """Places where three or more samples stand at full scale."""
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        return not any(finding.fatal for finding in self.findings)


class UnfitReference(ValueError):
    """A recording cannot be a voice; the message lists what to mend."""

    def __init__(self, path: Path, report: ReferenceReport) -> None:
        faults = [f"- {finding}" for finding in report.findings if finding.fatal]
        super().__init__(f"{path} cannot be a voice:\n" + "\n".join(faults))
        self.report = report


def read_reference(path: Path, rate_hz: int = REFERENCE_HZ) -> NDArray[np.int16]:
    """The recording as mono at ``rate_hz``. Raises FileNotFoundError and ValueError."""
    return read(path, rate_hz)


def assess_file(path: Path) -> ReferenceReport:
    """Raises FileNotFoundError, and ValueError for a file that is not audio."""
    import soundfile

    read(path, REFERENCE_HZ)  # for its errors
    data, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    return assess(data, rate_hz)


def assess(pcm: NDArray[np.int16], sample_rate_hz: int) -> ReferenceReport:
    """Judges int16 samples, shape (n,) or (n, channels), at their own rate."""
    clipped = _clipped_places(pcm)
    levels = _frame_levels_dbfs(to_mono(pcm), sample_rate_hz)
    loudest = float(levels.max(initial=SILENCE_DBFS))
    speaks = levels > max(loudest - SPEECH_RANGE_DB, SILENCE_DBFS)
    level = _mean_dbfs(levels[speaks])
    noise = float(np.percentile(levels, NOISE_PERCENTILE)) if levels.size else SILENCE_DBFS
    duration_s = len(pcm) / sample_rate_hz
    measured = ReferenceReport(
        sample_rate_hz,
        duration_s,
        speech_s=float(speaks.sum()) * FRAME_MS / 1000,
        level_dbfs=level,
        snr_db=level - noise,
        clipped=clipped,
        findings=(),
    )
    findings = (*_of_format(measured), *_of_sound(measured), *_of_silence(measured, speaks))
    return ReferenceReport(
        measured.sample_rate_hz,
        measured.duration_s,
        measured.speech_s,
        measured.level_dbfs,
        measured.snr_db,
        measured.clipped,
        findings,
    )


def _of_format(report: ReferenceReport) -> list[Finding]:
    found = []
    if report.sample_rate_hz < MIN_HZ:
        what = f"the rate is {report.sample_rate_hz} Hz, expected {MIN_HZ} Hz or more"
        mend = "record again at 24 or 48 kHz (raising the rate of this file brings nothing back)"
        found.append(Finding(what, mend, fatal=True))
    if report.duration_s < MIN_S:
        what = f"it lasts {report.duration_s:.1f} s, expected {MIN_S:.0f} to {MAX_S:.0f} s"
        found.append(Finding(what, "record a longer passage, 5 to 15 s are best", fatal=True))
    elif report.duration_s > MAX_S:
        what = f"it lasts {report.duration_s:.1f} s, expected {MIN_S:.0f} to {MAX_S:.0f} s"
        mend = "cut out 5 to 15 s at a pause, and cut its text to match"
        found.append(Finding(what, mend, fatal=True))
    elif not GOOD_S[0] <= report.duration_s <= GOOD_S[1]:
        what = f"it lasts {report.duration_s:.1f} s"
        found.append(Finding(what, "5 to 15 s are best", fatal=False))
    return found


def _of_sound(report: ReferenceReport) -> list[Finding]:
    found = []
    if report.level_dbfs < LOW_LEVEL_DBFS:
        what = f"speech has {report.level_dbfs:.0f} dBFS"
        mend = "record louder or closer, about -20 dBFS"
        found.append(Finding(what, mend, fatal=report.level_dbfs < MIN_LEVEL_DBFS))
    if report.clipped:
        what = f"it is clipped in {report.clipped} places"
        mend = "record again with less gain (clipping cannot be undone)"
        found.append(Finding(what, mend, fatal=report.clipped > MAX_CLIPPED))
    if report.snr_db < GOOD_SNR_DB and report.level_dbfs >= MIN_LEVEL_DBFS:
        what = (
            f"speech is {report.snr_db:.0f} dB above the noise, expected {MIN_SNR_DB:.0f} or more"
        )
        mend = "record in a quiet, dry room, or clean it first (the voice would keep the noise)"
        found.append(Finding(what, mend, fatal=report.snr_db < MIN_SNR_DB))
    return found


def _of_silence(report: ReferenceReport, speaks: NDArray[np.bool_]) -> list[Finding]:
    if report.level_dbfs < MIN_LEVEL_DBFS:
        return []  # it is all silence, and said to be
    found = []
    share = float(speaks.mean())
    if share < MIN_SPEECH:
        what = f"only {share:.0%} of it is speech, expected {MIN_SPEECH:.0%} or more"
        found.append(Finding(what, "cut out a passage without long pauses", fatal=True))
    sounding = np.flatnonzero(speaks)
    edges = ("beginning", int(sounding[0])), ("end", len(speaks) - 1 - int(sounding[-1]))
    for name, frames in edges:
        if frames * FRAME_MS > EDGE_SILENCE_MS:
            what = f"its {name} is silent for {frames * FRAME_MS} ms"
            mend = f"cut it to {EDGE_SILENCE_MS} ms or less (the voice would begin replies so)"
            found.append(Finding(what, mend, fatal=False))
    return found


def _frame_levels_dbfs(pcm: NDArray[np.int16], sample_rate_hz: int) -> NDArray[np.float64]:
    frame = sample_rate_hz * FRAME_MS // 1000
    whole = pcm[: len(pcm) // frame * frame].reshape(-1, frame).astype(np.float64) / 32768
    power = (whole - whole.mean(axis=1, keepdims=True)).var(axis=1)
    floor = 10.0 ** (SILENCE_DBFS / 10)
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(power, floor))
    return levels


def _mean_dbfs(levels: NDArray[np.float64]) -> float:
    if not levels.size:
        return SILENCE_DBFS
    return float(10 * np.log10((10 ** (levels / 10)).mean()))


def _clipped_places(pcm: NDArray[np.int16]) -> int:
    """Runs of `CLIP_RUN` or more samples at full scale, over all channels."""
    channels = pcm.reshape(len(pcm), -1).T
    at_limit = np.abs(channels.astype(np.int32)) >= CLIP_LEVEL * 32767
    runs = at_limit[:, CLIP_RUN - 1 :].copy()
    for back in range(1, CLIP_RUN):
        runs &= at_limit[:, CLIP_RUN - 1 - back : at_limit.shape[1] - back]
    begins = runs & ~np.pad(runs, ((0, 0), (1, 0)))[:, :-1]
    return int(begins.sum())
