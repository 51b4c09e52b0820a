"""The espeak-ng library in this process: one global synthesiser, driven by ctypes.

espeak-ng keeps its state in globals, so all calls are made on one thread (`ESPEAK_THREAD`). ctypes
releases the GIL during a call; the library calls back for every 60 ms of audio it has made, and
stops when the callback returns 1.

espeak-ng is GPL-3.0-or-later. Parley neither contains nor requires it: it is found through the
``espeakng-loader`` package, which the extra ``parley[espeak]`` installs, and nothing imports this
module unless that voice is asked for.

Source: espeak-ng 1.52, ``src/include/espeak-ng/speak_lib.h``.
"""

from __future__ import annotations

import ctypes
import difflib
import os
import re
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from parley_speech.types import EngineUnavailable, Pcm

ESPEAK_HZ = 22_050
RATE_WPM = range(80, 451)
PITCH = range(100)

_OUTPUT_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: an error must not end the process
_CHUNK_MS = 60  # the library rounds anything smaller up to this
_POS_CHARACTER = 1
_CHARS_UTF8 = 1
_EVENT_WORD = 1
_RATE, _VOLUME, _PITCH = 1, 2, 3  # espeak_PARAMETER
_HALF_VOLUME = 50  # at its normal 100 espeak clips its own peaks

ESPEAK_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="espeak-ng")
"""All work on the library, in the order it was asked for; it starts with its first task."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``voice`` is the library's own name of a voice, as `find_voice` gives it."""

    voice: str
    rate_wpm: int = 175
    pitch: int = 50


Sink = Callable[[Pcm, list[tuple[int, int]]], bool]
"""Takes PCM at 22.05 kHz (it may be empty) and the words that begin at or after it, as (character,
sample of the clause); True stops the synthesis."""


class _EventId(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),  # the same, in samples
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


class _Voice(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),  # (priority byte, name, NUL)… until priority 0
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Library:
    """The loaded library. Get it with `library()`; call it on `ESPEAK_THREAD` only."""

    def __init__(self, path: Path, data: Path) -> None:
        """Raises EngineUnavailable where the library or its data cannot be used."""
        self.data = data
        try:
            self._lib = ctypes.CDLL(str(path))
        except OSError as error:
            raise EngineUnavailable(
                f"espeak-ng's library {path} cannot be loaded ({error}); reinstall it: "
                "pip install --force-reinstall espeakng-loader"
            ) from error
        rate = self._lib.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, _CHUNK_MS, os.fsencode(data), _DONT_EXIT
        )
        if rate != ESPEAK_HZ:
            raise EngineUnavailable(
                f"espeak_Initialize gave {rate}, expected {ESPEAK_HZ} Hz, with the data in {data}; "
                "reinstall it: pip install --force-reinstall espeakng-loader"
            )
        self._lib.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self._callback = _Callback(self._on_audio)  # must outlive every synthesis
        self._lib.espeak_SetSynthCallback(self._callback)
        self._sink: Sink | None = None
        self._error: BaseException | None = None
        self._settings: Settings | None = None

    def synthesize(self, text: str, settings: Settings, sink: Sink) -> None:
        """Speaks ``text`` into ``sink``; returns when all was given or the sink stopped it.

        Raises what the sink raised, and RuntimeError if the library refuses the text.
        """
        self._apply(settings)
        encoded = speakable(text).encode() + b"\0"
        self._sink, self._error = sink, None
        try:
            status = self._lib.espeak_Synth(
                encoded, len(encoded), 0, _POS_CHARACTER, 0, _CHARS_UTF8, None, None
            )
        finally:
            self._sink = None
        if self._error is not None:
            raise self._error
        if status != 0:
            raise RuntimeError(f"espeak_Synth failed with status {status} for the text {text!r}")

    def voices(self) -> dict[str, str]:
        """Names of languages and voices, in lower case, and the library's identifier of each."""
        named: list[tuple[int, str, str]] = []  # priority (1: best), name, identifier
        listed = self._lib.espeak_ListVoices(None)
        position = 0
        while listed[position]:
            voice = listed[position].contents
            position += 1
            identifier = voice.identifier.decode()
            if not _has_dictionary(self.data, identifier):
                continue
            named += [(rank, name, identifier) for rank, name in _languages(voice.languages)]
            named += [(99, voice.name.decode().strip(), identifier), (99, identifier, identifier)]
        return {name.lower(): identifier for _, name, identifier in sorted(named, reverse=True)}

    def variants(self) -> list[str]:
        """Names that may follow a voice's name and a plus sign."""
        return sorted(path.name for path in (self.data / "voices" / "!v").iterdir())

    def _apply(self, settings: Settings) -> None:
        if settings == self._settings:
            return
        status = self._lib.espeak_SetVoiceByName(settings.voice.encode())
        if status != 0:
            raise ValueError(f"espeak-ng refuses the voice {settings.voice!r} (status {status})")
        self._lib.espeak_SetParameter(_RATE, settings.rate_wpm, 0)
        self._lib.espeak_SetParameter(_PITCH, settings.pitch, 0)
        self._lib.espeak_SetParameter(_VOLUME, _HALF_VOLUME, 0)
        self._settings = settings

    def _on_audio(
        self, wave: ctypes._Pointer[ctypes.c_short], samples: int, events: ctypes._Pointer[_Event]
    ) -> int:
        """Called by the library; nothing may be raised through it."""
        try:
            words = []
            position = 0
            while (event := events[position]).type != 0:
                position += 1
                if event.type == _EVENT_WORD:
                    words.append((event.text_position - 1, event.sample))
            pcm = np.zeros(0, np.int16)
            if wave and samples > 0:
                pcm = np.ctypeslib.as_array(wave, (samples,)).copy()
            assert self._sink is not None
            return int(self._sink(pcm, words))
        except BaseException as error:  # handed to the caller of synthesize
            self._error = error
            return 1


@cache
def library() -> Library:
    """The process's library, loaded once, on `ESPEAK_THREAD`. Raises EngineUnavailable."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise EngineUnavailable(
            "the voice 'espeak' needs espeak-ng, which is not installed; it is GPL-3.0-or-later "
            "and therefore an extra of its own: pip install parley[espeak]"
        ) from error
    try:
        data = Path(espeakng_loader.get_data_path())
    except RuntimeError as error:
        raise EngineUnavailable(
            f"espeakng-loader lacks espeak-ng's data ({error}); reinstall it: "
            "pip install --force-reinstall espeakng-loader"
        ) from error
    return Library(Path(espeakng_loader.get_library_path()), data)


def find_voice(loaded: Library, name: str) -> str:
    """The library's own name for ``name``, such as "en-us", "en-gb" or "de+f3".

    ``espeak_SetVoiceByName`` does not know some codes that the library itself lists ("en-gb",
    "fr-fr") and takes any variant without a word; so both are looked up here.
    Raises ValueError, with what is near.
    """
    base, plus, variant = name.partition("+")
    voices = loaded.voices()
    identifier = voices.get(base.strip().lower())
    if identifier is None:
        raise ValueError(
            f"espeak-ng has no voice {base!r}{_near(base, voices)}; "
            "EspeakSynthesizer.voices() lists them all"
        )
    if not plus:
        return identifier
    variants = {found.lower(): found for found in loaded.variants()}
    if variant.lower() not in variants:
        raise ValueError(
            f"espeak-ng has no variant {variant!r} of a voice{_near(variant, variants)}; "
            "EspeakSynthesizer.variants() lists them all"
        )
    return f"{identifier}+{variants[variant.lower()]}"


def speakable(text: str) -> str:
    """The same text, character for character, without what would end or steer the synthesis.

    NUL ends a C string, U+0001 begins an espeak command, lone surrogates are no UTF-8, and espeak
    keeps signs of its own in the private use area.
    """
    return "".join(
        " " if unicodedata.category(c) in ("Cc", "Cs", "Co") and c not in "\t\n" else c
        for c in text
    )


def _near(name: str, known: dict[str, str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.5)
    return f" (near: {', '.join(close)})" if close else ""


def _languages(address: int) -> list[tuple[int, str]]:
    """The languages of a voice, each with how well it fits (1: best)."""
    names = []
    while rank := ctypes.string_at(address, 1)[0]:
        name = ctypes.string_at(address + 1)
        names.append((rank, name.decode()))
        address += 1 + len(name) + 1
    return names


def _has_dictionary(data: Path, identifier: str) -> bool:
    """Some listed voices have no dictionary in the package: they would speak nothing."""
    definition = (data / "lang" / identifier).read_text(encoding="utf-8", errors="replace")
    named = re.search(r"^dictionary\s+(\S+)", definition, re.MULTILINE)
    language = re.search(r"^language\s+(\w+)", definition, re.MULTILINE)
    found = named or language
    return found is None or (data / f"{found[1]}_dict").exists()
