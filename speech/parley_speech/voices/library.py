"""A library of voices: a folder per voice.

    voices/
      anna/
        reference.wav   5-15 s of clean speech (or reference.flac)
        voice.yaml      name, text, language, licence, consent; optional instruction, source

`voice.yaml` is written by `VoiceLibrary.add` and may be edited by hand.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parley_speech.audio import write
from parley_speech.voices.licences import check_licence
from parley_speech.voices.reference import (
    REFERENCE_HZ,
    ReferenceReport,
    UnfitReference,
    assess_file,
    read_reference,
)

CARD = "voice.yaml"
REFERENCES = ("reference.wav", "reference.flac")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_FIELDS = ("name", "text", "language", "licence", "consent", "instruction", "source")
_NEEDED = ("name", "language", "licence", "consent")


class UnknownVoice(KeyError):
    """No voice of this name; the message lists those there are."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Voice:
    name: str
    """Lower-case letters, digits, - and _."""
    text: str
    """What the reference says, word for word; empty: only cross-lingual or instructed speech."""
    language: str
    """BCP 47, "en" or "en-US"."""
    licence: str
    consent: str
    """Who agreed to what, when: the speaker's consent, or why none is needed."""
    reference: Path
    instruction: str = ""
    """How it should speak, in words, unless a caller says otherwise."""
    source: str = ""
    """Where the recording is from."""


class VoiceLibrary:
    """The voices of a folder. Reads the folder at each call: nothing is held."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def names(self) -> tuple[str, ...]:
        if not self.path.is_dir():
            return ()
        return tuple(sorted(card.parent.name for card in self.path.glob(f"*/{CARD}")))

    def list(self) -> tuple[Voice, ...]:
        """All voices by name. Raises ValueError for a card that cannot be read."""
        return tuple(self.get(name) for name in self.names())

    def get(self, name: str) -> Voice:
        """Raises UnknownVoice, and ValueError for a folder that is not a whole voice."""
        if name not in self.names():
            there = ", ".join(self.names()) or "none yet"
            raise UnknownVoice(
                f"no voice {name!r} in {self.path}; there are: {there}. Add one with: "
                f"parley voices add {name} recording.wav --text '…'"
            )
        return read_voice(self.path / name)

    def add(
        self,
        name: str,
        audio: Path | str,
        *,
        text: str,
        language: str,
        licence: str,
        consent: str,
        instruction: str = "",
        source: str = "",
        allow_non_commercial: bool = False,
        replace: bool = False,
    ) -> tuple[Voice, ReferenceReport]:
        """Checks a recording and makes it a voice, kept as mono at 24 kHz.

        Raises UnfitReference, LicenceRefused, FileExistsError (unless ``replace``), and ValueError
        for a name, language or note that does not do. Nothing is left behind by a failure.
        """
        card = {
            "name": _checked(name, _NAME, "a voice's name", "lower-case letters, digits, - and _"),
            "text": " ".join(text.split()),
            "language": _checked(language, _LANGUAGE, "a language", "a tag such as en or en-US"),
            "licence": check_licence(
                licence, f"voice {name!r}", allow_non_commercial=allow_non_commercial
            ),
            "consent": _consent(consent),
            "instruction": " ".join(instruction.split()),
            "source": source.strip(),
        }
        home = self.path / name
        if home.exists() and not replace:
            raise FileExistsError(
                f"there is a voice {name!r} in {self.path}: say replace to renew it"
            )
        report = assess_file(Path(audio))
        if not report.usable:
            raise UnfitReference(Path(audio), report)
        self._write(home, card, Path(audio))
        return read_voice(home), report

    def _write(self, home: Path, card: dict[str, str], audio: Path) -> None:
        """All or nothing: made beside its place, then moved there."""
        self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path, prefix=".adding-") as making:
            new = Path(making) / "new"
            new.mkdir()
            write(new / REFERENCES[0], read_reference(audio), REFERENCE_HZ)
            kept = {key: value for key, value in card.items() if value}
            text = yaml.safe_dump(kept, allow_unicode=True, sort_keys=False)
            (new / CARD).write_text(text, encoding="utf-8")
            if home.exists():
                shutil.move(home, Path(making) / "old")
            new.rename(home)


def read_voice(folder: Path) -> Voice:
    """The voice of a folder. Raises FileNotFoundError and ValueError that name what is wrong."""
    card = _read_card(folder / CARD)
    reference = next((folder / n for n in REFERENCES if (folder / n).is_file()), None)
    if reference is None:
        raise FileNotFoundError(f"{folder} has no {' or '.join(REFERENCES)}: a voice needs one")
    return Voice(
        name=folder.name,
        text=card.get("text", ""),
        language=card["language"],
        licence=card["licence"],
        consent=card["consent"],
        reference=reference,
        instruction=card.get("instruction", ""),
        source=card.get("source", ""),
    )


def _read_card(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not a voice: it has no {CARD}")
    try:
        card: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(card, dict):
        raise ValueError(f"{path}: expected the fields {', '.join(_FIELDS)}, got {card!r:.80}")
    if unknown := sorted(str(key) for key in card if key not in _FIELDS):
        raise ValueError(f"{path}: unknown {', '.join(unknown)}; there are: {', '.join(_FIELDS)}")
    if missing := [key for key in _NEEDED if not str(card.get(key) or "").strip()]:
        raise ValueError(f"{path}: {', '.join(missing)} is missing or empty")
    if str(card["name"]) != path.parent.name:
        raise ValueError(
            f"{path}: the name {card['name']!r} is not its folder's, "
            f"{path.parent.name!r}: make them equal"
        )
    _checked(str(card["language"]), _LANGUAGE, f"{path}: language", "a tag such as en or en-US")
    return {key: str(value or "") for key, value in card.items()}


def _checked(value: str, pattern: re.Pattern[str], what: str, expected: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{what} is {value!r}, expected {expected}")
    return value


def _consent(note: str) -> str:
    kept = " ".join(note.split())
    if not kept:
        raise ValueError(
            "a voice needs a note on consent: who agreed to what and when, or why none is needed "
            "(for example 'speaker agreed in writing, 2026-03-01' or 'synthetic voice')"
        )
    return kept
