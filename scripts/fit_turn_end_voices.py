"""Voices that finish, and voices that pause and go on: what fit_turn_end.py learns from.

Sources and the speakers of each split are those of fit_overlap_voices.py. Every voice says both
kinds. A voice that goes on is one of

    clause     a piece of a sentence with a comma behind it, or a hesitation ("um,")
    broken     a whole sentence, broken off where its level is low, without any intonation of an end

and one that has finished is a sentence, a question, an answer or digits.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fit_overlap_voices as overlap_voices
import numpy as np
import soundfile
import soxr
from fit_overlap_texts import phrases
from fit_overlap_voices import ACCENTS, KEPT, KOKORO, VARIANTS

from parley_speech.types import MIC_HZ

OPENINGS = phrases("""
I would like to know | we were going | yesterday I called | the parcel came | my brother told me
| it is about | I have a question about | she wanted | there was | they said | I am calling
about | you sent me | on Thursday | the second letter | if it is possible | as far as I know |
my name is | the number on the box is | when I opened it | my account is | after the storm |
with the new one | the reason is that | I think that | for tomorrow | what I need is | we have
got | maybe | so | well | and then | but | because | to the | it was | the | and my | could you
| is it | I mean | no wait | or | that is | first
""")
CLOSINGS = phrases("""
the invoice from last month | a bigger room | the kitchen lamp | to the station | with my wife |
before the holidays | the wrong colour | seven boxes | the green bicycle | nobody was there | it
did not work | we could come later | at half past nine | in the evening | two tickets to London
| the bill | a refund | the door was open | his telephone is broken | on the ninth of May | the
other address | near the river | an hour ago | for my daughter | it makes a noise | the password
| I am not sure | they will call again | the blue one | forty pounds | again
""")
ANSWERS = phrases("""
yes | no | hello | thank you | that is right | of course | not today | good morning | I do |
never mind | that is all | the first one | maybe later | goodbye | okay | tomorrow
""")
HESITATIONS = phrases("""
um | uh | er | so | well | and | but | or | let me see | I mean | how do you say
""")
QUESTIONS = phrases("""
is it | could you tell me about | do you have | what about | when do you get | where is
""")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]
BROKEN = "--"
"""Behind the text of a sentence that was broken off."""
Say = Callable[[str, str], tuple[np.ndarray, float]]
"""(text, punctuation mark) to samples and their rate."""
CUT_FADE = int(0.015 * MIC_HZ)


@dataclass(frozen=True)
class Stretch:
    """One stretch of voice at 16 kHz, cut to what sounds."""

    pcm: np.ndarray
    finished: bool
    voice: str
    text: str


class Voices(overlap_voices.Voices):
    """Draws stretches of one split's speakers."""

    def calls(self, source: str, count: int, each: int) -> Iterator[list[Stretch]]:
        """Speakers, of whom each says so many stretches."""
        speaker = {
            "espeak": self._espeak_speaker,
            "flite": self._flite_speaker,
            "piper": self._piper_speaker,
            "kokoro": self._kokoro_speaker,
        }[source]
        for _ in range(count):
            voice, say = speaker()
            yield [self._stretch(voice, say) for _ in range(each)]

    def _stretch(self, voice: str, say: Say) -> Stretch:
        finished = self.r.random() < 0.5
        broken = not finished and self.r.random() < 0.3
        text, mark = self._whole() if finished or broken else self._clause()
        x, rate_hz = say(text, mark)
        pcm = _sounding(soxr.resample(np.asarray(x, np.float32), rate_hz, MIC_HZ))
        if broken:
            pcm = _broken(pcm, self.r)
        return Stretch(pcm, finished, voice, text + (BROKEN if broken else mark))

    def _digits(self, low: int, high: int) -> str:
        return " ".join(self.r.choices(DIGITS, k=self.r.randint(low, high)))

    def _whole(self) -> tuple[str, str]:
        r = self.r
        kind = r.random()
        if kind < 0.2:
            return r.choice(ANSWERS), r.choice("...!")
        if kind < 0.35:
            return r.choice(["", "", r.choice(OPENINGS) + " "]) + self._digits(1, 6), "."
        if kind < 0.5:
            return f"{r.choice(QUESTIONS)} {r.choice(CLOSINGS)}", r.choice("?.")
        opening = r.choice(OPENINGS) + " " if r.random() < 0.85 else ""
        return opening + r.choice(CLOSINGS), "."

    def _clause(self) -> tuple[str, str]:
        r = self.r
        kind = r.random()
        if kind < 0.15:
            return r.choice(HESITATIONS), ","
        if kind < 0.35:
            return r.choice(["", "", r.choice(OPENINGS) + " "]) + self._digits(1, 5), ","
        if kind < 0.7:
            return r.choice(OPENINGS), ","
        return f"{r.choice(OPENINGS)} {r.choice(CLOSINGS)}", ","

    def _espeak_speaker(self) -> tuple[str, Say]:
        r = self.r
        kept = [name for names in KEPT.values() for name in names]
        known = KEPT.get(self._split) or [v for v in VARIANTS if v not in kept]
        accent, variant = r.choice(ACCENTS), r.choice(known)
        voice = f"{accent}+{variant}" if variant else accent
        how = r.randint(135, 215), r.randint(25, 75), r.randint(35, 70)

        def say(text: str, mark: str) -> tuple[np.ndarray, float]:
            return self.espeak.say(text + mark, voice, *how) / 32768.0, 22050

        return voice, say

    def _flite_speaker(self) -> tuple[str, Say]:
        r = self.r
        voice = r.choice(["kal16", "awb", "rms", "slt", "slt", "rms"])
        how = ["--setf", f"duration_stretch={r.uniform(0.75, 1.25):.2f}"]
        shift = r.uniform(0.86, 1.16)

        def say(text: str, mark: str) -> tuple[np.ndarray, float]:
            with tempfile.TemporaryDirectory() as folder:
                wav = Path(folder) / "said.wav"
                command = ["flite", "-voice", voice, *how, "-t", f" {text}{mark}", "-o", str(wav)]
                subprocess.run(command, check=True)
                x, rate_hz = soundfile.read(wav)
            return x, rate_hz * shift

        return voice, say

    def _piper_speaker(self) -> tuple[str, Say]:
        """The voice moved up or down with its tempo kept: a row of speakers."""
        r = self.r
        session, ids_of = self._model("piper", overlap_voices._load_piper)
        shift = 2 ** r.uniform(-0.2, 0.5)
        scales = [r.uniform(0.4, 1.0), shift * r.uniform(0.8, 1.25), r.uniform(0.5, 1.0)]

        def say(text: str, mark: str) -> tuple[np.ndarray, float]:
            ids = [1]  # ^
            for phoneme in self.espeak.ipa(text, "en-us") + mark:
                if phoneme in ids_of:
                    ids += [0, *ids_of[phoneme]]
            ids += [0, 2]  # $
            given = {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": np.array(scales, np.float32),
            }
            return session.run(None, given)[0].ravel(), 22050 * shift

        return f"joe*{shift:.2f}", say

    def _kokoro_speaker(self) -> tuple[str, Say]:
        r = self.r
        session, vocabulary, voices = self._model("kokoro", overlap_voices._load_kokoro)
        one, other = r.choices(KOKORO[self._split], k=2)
        share, speed = r.uniform(-0.3, 1.3), r.uniform(0.8, 1.3)
        style = voices[one] * share + voices[other] * (1 - share)
        style = style.reshape(len(style), -1)

        def say(text: str, mark: str) -> tuple[np.ndarray, float]:
            ipa = overlap_voices._to_kokoro(self.espeak.ipa(text, "en-us")) + mark
            tokens = [vocabulary[p] for p in ipa if p in vocabulary]
            given = {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": style[min(len(tokens), len(style)) - 1][None].astype(np.float32),
                "speed": np.array([speed], np.float32),
            }
            return session.run(None, given)[0].ravel(), 24000

        return f"{one}*{share:.1f}+{other}", say


def _sounding(x: np.ndarray) -> np.ndarray:
    """From the first to the last sample at -38 dB of the peak; peak 0.9."""
    peak = float(np.abs(x).max(initial=0.0))
    if peak < 1e-3:
        return np.zeros(0, np.float32)
    loud = np.flatnonzero(np.abs(x) > peak * 10 ** (overlap_voices.ONSET_DB / 20))
    return (x[loud[0] : loud[-1] + 1] * (0.9 / peak)).astype(np.float32)


def _broken(x: np.ndarray, r: random.Random) -> np.ndarray:
    """Broken off at the softest place around 35 to 80 % of it."""
    at = int(len(x) * r.uniform(0.35, 0.8))
    reach = int(0.1 * MIC_HZ)
    low = max(0, at - reach)
    level = np.convolve(np.abs(x[low : at + reach]), np.ones(160) / 160, "same")
    end = low + int(level.argmin())
    cut = x[:end].copy()
    fade = min(CUT_FADE, len(cut))
    cut[len(cut) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return _sounding(cut)
