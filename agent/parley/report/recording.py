"""A stereo recording on one wall-clock time line: caller left, agent right, 24 kHz.

``Recorder`` collects pieces of sound with the time at which each was handed over; ``Recording`` is
the result, and its file. Pieces of a running track are handed over with a jitter of some
milliseconds, which must not be heard in the recording: within a track samples follow each other
without gap or overlap, and only the track's place as a whole comes from the clock.

How a place is found. Piece *i*, which begins at sample *n_i* of its track, arrives at *t_i*. Delay
is only ever added, so the offsets *t_i - n_i / rate* have the true offset as their lower edge: the
minimum over a window is taken (as network time protocols do). The error is the least delay within
the window: below 1 ms on an idle machine. Where the edge itself moves by more than ``STEP_S`` the
track really has a hole (a stalled sender, frames that were lost), and a new segment begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from parley_speech.types import SPEAKER_HZ, Pcm

STEP_S = 0.020
WINDOW_S = 2.0  # longer than any stall of a healthy event loop
_COMMENT = "parley started_at="


@dataclass(frozen=True, slots=True)
class Segment:
    """Sound without a hole. ``at``: wall-clock time of its first sample, in seconds."""

    at: float
    pcm: Pcm


class Run:
    """One track as it arrives, piece by piece, at one sampling rate."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._pieces: list[Pcm] = []
        self._arrivals: list[float] = []

    def append(self, pcm: Pcm, at: float) -> None:
        """``pcm``: mono (samples,), not changed later; ``at``: when it was handed over."""
        if pcm.ndim != 1 or pcm.dtype != np.int16:
            raise ValueError(
                f"A piece of a track is int16 of shape (samples,), not {pcm.dtype} of {pcm.shape}."
            )
        if pcm.size:
            self._pieces.append(pcm)
            self._arrivals.append(at)

    def segments(self) -> list[Segment]:
        """The track placed on the time line, oldest first, at its own rate."""
        if not self._pieces:
            return []
        lengths = np.array([piece.size for piece in self._pieces])
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1])) / self.rate_hz
        edge = _lower_edge(np.array(self._arrivals) - starts, starts)
        segments = []
        first = 0
        for i in range(1, len(edge) + 1):
            if i == len(edge) or abs(edge[i] - edge[first]) > STEP_S:
                at = float(edge[first] + starts[first])
                segments.append(Segment(at, np.concatenate(self._pieces[first:i])))
                first = i
        return segments


class Recorder:
    """Collects the runs of both sides of a call."""

    def __init__(self) -> None:
        self._caller: list[Run] = []
        self._agent: list[Run] = []

    def caller_run(self, rate_hz: int) -> Run:
        """A new track of the caller; what is appended to it is in the recording."""
        self._caller.append(Run(rate_hz))
        return self._caller[-1]

    def agent_run(self, rate_hz: int) -> Run:
        self._agent.append(Run(rate_hz))
        return self._agent[-1]

    def recording(self) -> Recording:
        """Everything until now. Raises ValueError when nothing was recorded."""
        sides = [[_placed(run) for run in runs] for runs in (self._caller, self._agent)]
        every = [segment for side in sides for run in side for segment in run]
        if not every:
            raise ValueError("Nothing was recorded: neither side sent a single sample.")
        start = min(segment.at for segment in every)
        end = max(segment.at + segment.pcm.size / SPEAKER_HZ for segment in every)
        length = round((end - start) * SPEAKER_HZ) + 1
        columns = [_lay(side, start, length) for side in sides]
        return Recording(np.stack(columns, axis=1), SPEAKER_HZ, start)


@dataclass(frozen=True)
class Recording:
    """Both sides of a call."""

    pcm: NDArray[np.int16]
    """(samples, 2): caller, agent."""
    rate_hz: int
    started_at: float
    """Wall-clock time (as time.time()) of the first sample."""

    @property
    def caller(self) -> Pcm:
        return self.pcm[:, 0]

    @property
    def agent(self) -> Pcm:
        return self.pcm[:, 1]

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / self.rate_hz

    def sample_at(self, at: float) -> int:
        """The sample that sounded at wall-clock time ``at`` (may lie outside)."""
        return round((at - self.started_at) * self.rate_hz)

    def between(self, start: float, end: float) -> Self:
        """The part between two wall-clock times, cut to what there is."""
        first, last = (min(max(self.sample_at(t), 0), len(self.pcm)) for t in (start, end))
        return type(self)(
            self.pcm[first:last], self.rate_hz, self.started_at + first / self.rate_hz
        )

    def save(self, path: str | Path) -> Path:
        """Writes a 16-bit WAV; its comment holds ``started_at``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(path, "w", self.rate_hz, 2, "PCM_16", format="WAV") as file:
            file.comment = f"{_COMMENT}{self.started_at:.6f}"
            file.write(self.pcm)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a stereo file; ``started_at`` is 0 where its comment does not tell it."""
        with soundfile.SoundFile(path) as file:
            if file.channels != 2:
                raise ValueError(
                    f"{path} has {file.channels} channel(s); a recording has two: "
                    "caller left, agent right."
                )
            comment: str = file.comment or ""
            _, _, stamp = comment.partition(_COMMENT)
            pcm: NDArray[Any] = file.read(dtype="int16")
            return cls(pcm, file.samplerate, float(stamp) if stamp else 0.0)


def _lower_edge(offsets: NDArray[np.float64], starts: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each piece the least offset among those that begin within WINDOW_S from it on."""
    edge = np.empty_like(offsets)
    candidates = deque[int]()  # a monotonic queue of indices, least offset first
    last = 0
    for i in range(len(offsets)):
        while last < len(offsets) and starts[last] <= starts[i] + WINDOW_S:
            while candidates and offsets[candidates[-1]] >= offsets[last]:
                candidates.pop()
            candidates.append(last)
            last += 1
        while candidates[0] < i:
            candidates.popleft()
        edge[i] = offsets[candidates[0]]
    return edge


def _placed(run: Run) -> list[Segment]:
    """A run's segments at 24 kHz, later ones cut where they would overlap an earlier one."""
    placed: list[Segment] = []
    for segment in run.segments():
        pcm = segment.pcm
        if run.rate_hz != SPEAKER_HZ:
            # As float: soxr dithers integers, and silence is to stay silence.
            resampled = soxr.resample(pcm.astype(np.float32), run.rate_hz, SPEAKER_HZ)
            pcm = np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)
        at = segment.at
        if placed:
            free_from = placed[-1].at + placed[-1].pcm.size / SPEAKER_HZ
            overlap = max(0, round((free_from - at) * SPEAKER_HZ))
            pcm, at = pcm[overlap:], at + overlap / SPEAKER_HZ
        placed.append(Segment(at, pcm))
    return placed


def _lay(runs: Sequence[Sequence[Segment]], start: float, length: int) -> Pcm:
    """All runs of one side on one time line; tracks that sound at once are summed."""
    line = np.zeros(length, np.int32)
    for segment in (segment for run in runs for segment in run):
        first = round((segment.at - start) * SPEAKER_HZ)
        part = line[first : first + segment.pcm.size]
        part += segment.pcm[: part.size]
    return np.clip(line, -32768, 32767).astype(np.int16)
