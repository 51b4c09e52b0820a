"""A user's words as sound at 16 kHz, with the true begin and end of every stretch of voice.

A sentence with pauses is spoken piece by piece, each but the last with the intonation of a clause
that goes on (a comma behind it), and joined with silence. Where the voice begins and ends is
measured in the samples: the first and the last at -38 dB of the peak, as in the manifest of the
recorded clips.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parley.bench.floor.scene import Cue, Speaker
from parley_speech import audio
from parley_speech.tts.espeak import EspeakSynthesizer
from parley_speech.types import MIC_HZ, SPEAKER_HZ, EngineUnavailable, Pcm

EDGE_DB = -38.0
LEVEL_DBFS = -20.0
PEAK_FALL_S = 0.35
"""Pauses within a clip longer than this are told apart from the closures inside words."""


@dataclass(frozen=True, slots=True)
class Voiced:
    """One stretch of voice, in samples of its sound."""

    first: int
    last: int
    text: str = ""


@dataclass(frozen=True)
class Utterance:
    """A sound of the user's side."""

    pcm: Pcm
    """(samples,) at 16 kHz."""
    voiced: tuple[Voiced, ...]
    text: str

    @property
    def onset(self) -> int:
        return self.voiced[0].first

    @property
    def end(self) -> int:
        return self.voiced[-1].last


class Studio:
    """Makes utterances, and keeps the pieces it has made in a folder."""

    def __init__(self, cache: Path, clips: Path) -> None:
        """``clips``: the folder of recordings with its manifest.json."""
        self._cache = cache
        self._clips = clips
        self._voices: dict[Speaker, EspeakSynthesizer] = {}
        manifest = clips / "manifest.json"
        self._texts: dict[str, str] = {}
        if manifest.is_file():
            entries = json.loads(manifest.read_text("utf-8"))
            self._texts = {entry["file"]: entry["text"] or "" for entry in entries}

    async def utter(self, cue: Cue) -> Utterance:
        """Raises EngineUnavailable where the voice, FileNotFoundError where the clip is missing."""
        if cue.speaker.voice == "clip":
            return self._clip(cue)
        last = len(cue.pieces) - 1
        pieces = [
            await self._piece(piece + ("," if number < last else "."), cue.speaker)
            for number, piece in enumerate(cue.pieces)
        ]
        return _joined(pieces, cue)

    def recording(self, name: str) -> Pcm:
        """A clip as it is. Raises FileNotFoundError."""
        return audio.read(self._clips / name, MIC_HZ)

    def _clip(self, cue: Cue) -> Utterance:
        if cue.say not in self._texts:
            raise FileNotFoundError(
                f"{cue.say} is not in the manifest of {self._clips}: give the folder of recorded "
                "speech (tests/data/audio in the repository)"
            )
        pcm = audio.scaled(_levelled(audio.read(self._clips / cue.say, MIC_HZ)), cue.gain_db)
        text = self._texts[cue.say]
        return Utterance(pcm, stretches(pcm, text), text)

    async def _piece(self, text: str, speaker: Speaker) -> Pcm:
        """One piece, cut to its voice."""
        key = hashlib.sha256(f"{speaker}/{text}".encode()).hexdigest()[:24]
        kept = self._cache / f"{key}.npy"
        if kept.is_file():
            pcm: Pcm = np.load(kept)
            return pcm
        engine, _, voice = speaker.voice.partition(":")
        said = (
            _flite(text, voice) if engine == "flite" else await self._espeak(text, voice, speaker)
        )
        first, last = edges(said)
        pcm = _levelled(said[first:last])
        _keep(kept, pcm)
        return pcm

    async def _espeak(self, text: str, voice: str, speaker: Speaker) -> Pcm:
        synthesizer = self._voices.get(speaker)
        if synthesizer is None:
            synthesizer = EspeakSynthesizer(voice, rate_wpm=speaker.rate_wpm, pitch=speaker.pitch)
            await synthesizer.start()
            self._voices[speaker] = synthesizer
        stream = synthesizer.stream()
        try:
            stream.push(text)
            stream.end()
            pcm = np.concatenate([chunk.pcm async for chunk in stream])
        finally:
            await stream.aclose()
        return audio.resample(pcm, SPEAKER_HZ, MIC_HZ)

    async def aclose(self) -> None:
        for synthesizer in self._voices.values():
            await synthesizer.aclose()
        self._voices.clear()


def _keep(path: Path, pcm: Pcm) -> None:
    """At once or not at all: another process may make the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        np.save(file, pcm)
    Path(file.name).replace(path)


def _flite(text: str, voice: str) -> Pcm:
    """Raises EngineUnavailable without Debian's flite."""
    if shutil.which("flite") is None:
        raise EngineUnavailable("the voice flite needs the program: apt-get install flite")
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "said.wav"
        command = ["flite", "-voice", voice, "-t", f" {text}", "-o", str(wav)]
        subprocess.run(command, check=True, capture_output=True)
        return audio.read(wav, MIC_HZ)


def _joined(pieces: Sequence[Pcm], cue: Cue) -> Utterance:
    parts: list[Pcm] = []
    voiced: list[Voiced] = []
    at = 0
    for number, (piece, text) in enumerate(zip(pieces, cue.pieces, strict=True)):
        if number:
            gap = round(cue.pauses_s[number - 1] * MIC_HZ)
            parts.append(np.zeros(gap, np.int16))
            at += gap
        parts.append(piece)
        voiced.append(Voiced(at, at + len(piece), text))
        at += len(piece)
    pcm = audio.scaled(np.concatenate(parts), cue.gain_db)
    return Utterance(pcm, tuple(voiced), " ".join(cue.pieces))


# --- samples ----------------------------------------------------------------------------------


def edges(pcm: Pcm) -> tuple[int, int]:
    """First sample of the voice, and the one behind its last. Raises ValueError for silence."""
    level = np.abs(pcm.astype(np.int32))
    bar = max(1.0, float(level.max(initial=0)) * 10 ** (EDGE_DB / 20))
    loud = np.flatnonzero(level >= bar)
    if not loud.size:
        raise ValueError("there is nothing but silence in this sound")
    return int(loud[0]), int(loud[-1]) + 1


def stretches(pcm: Pcm, text: str = "") -> tuple[Voiced, ...]:
    """The voice of a recording, cut at its pauses of at least ``PEAK_FALL_S``."""
    level = np.abs(pcm.astype(np.int32))
    bar = max(1.0, float(level.max(initial=0)) * 10 ** (EDGE_DB / 20))
    loud = np.flatnonzero(level >= bar)
    if not loud.size:
        raise ValueError("there is nothing but silence in this sound")
    breaks = np.flatnonzero(np.diff(loud) > PEAK_FALL_S * MIC_HZ)
    firsts = loud[np.concatenate(([0], breaks + 1))]
    lasts = loud[np.append(breaks, loud.size - 1)]
    return tuple(
        Voiced(int(first), int(last) + 1, text if not number else "")
        for number, (first, last) in enumerate(zip(firsts, lasts, strict=True))
    )


def _levelled(pcm: Pcm) -> Pcm:
    """The voice at -20 dBFS, RMS over what sounds."""
    level = np.abs(pcm.astype(np.int32))
    sounding = pcm[level >= 0.02 * max(1, int(level.max(initial=1)))].astype(np.float64)
    rms = float(np.sqrt(np.mean(sounding**2))) if sounding.size else 1.0
    gain = 10 ** (LEVEL_DBFS / 20) * 32768 / max(rms, 1.0)
    return audio.to_pcm(pcm * min(gain, 32000 / max(1, int(level.max(initial=1)))))
