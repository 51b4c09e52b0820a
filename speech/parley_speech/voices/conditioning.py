"""What a model makes of a voice: computed once, kept on disk, mapped to a `TokenPrompt` per mode.

| mode | the LM is given | the decoder is given |
|---|---|---|
| zero-shot | reference text and tokens | tokens, mel, embedding |
| cross-lingual | nothing | tokens, mel, embedding |
| instruct | the instruction | tokens, mel, embedding |

So `TokenPrompt.tokens` are always there for the decoder, and belong to the LM's prompt only where
`TokenPrompt.text` is given: without its text, the LM would take the reference's speech for the
beginning of its answer. Source: CosyVoice 2, `cosyvoice/cli/frontend.py`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parley_speech.audio import FULL_SCALE
from parley_speech.token_voice import TokenPrompt
from parley_speech.voices.encoders import SpeakerEncoder, SpeechTokenizer
from parley_speech.voices.features import (
    PROMPT_HZ,
    S3_HZ,
    Floats,
    prompt_mel,
)
from parley_speech.voices.library import Voice
from parley_speech.voices.reference import MAX_S, read_reference

logger = logging.getLogger(__name__)

MEL_PER_TOKEN = 2
_FORMAT = b"parley voice 1"  # changes when what is computed changes
_MIN_S = 0.5  # below it there is no token to speak of


class Mode(Enum):
    ZERO_SHOT = "zero-shot"
    CROSS_LINGUAL = "cross-lingual"
    INSTRUCT = "instruct"


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A reference as a model sees it."""

    tokens: tuple[int, ...]
    """25 per second."""
    mel: Floats
    """(2 * tokens, 80), 50 frames per second."""
    embedding: Floats
    """(192,)."""


class Conditioner:
    """Computes, and keeps, the conditioning of voices for one pair of networks.

    Args:
        tokenizer: `speech_tokenizer_v2.onnx` (or its torch checkpoint).
        speaker: `campplus.onnx` (or its torch checkpoint).
        cache: a folder for results, by default one for this user; results are found again by the
            content of the recording and of both networks.

    The networks are loaded when a voice is not in the cache.
    """

    def __init__(self, tokenizer: Path, speaker: Path, *, cache: Path | None = None) -> None:
        self._tokenizer, self._speaker = tokenizer, speaker
        self.cache = cache if cache is not None else default_cache()
        self._networks: tuple[SpeechTokenizer, SpeakerEncoder] | None = None
        self._networks_hash: bytes | None = None

    def condition(self, reference: Path) -> Conditioning:
        """Blocking: a second or two for a new voice.

        Raises FileNotFoundError, and ValueError for a recording that is too long or too short.
        """
        kept = self.cache / f"{self._key(reference)}.npz"
        if (found := _read(kept)) is not None:
            return found
        conditioning = self._compute(reference)
        _write(kept, conditioning)
        return conditioning

    def _key(self, reference: Path) -> str:
        if self._networks_hash is None:
            self._networks_hash = _sha256(self._tokenizer) + _sha256(self._speaker)
        return hashlib.sha256(_FORMAT + self._networks_hash + _sha256(reference)).hexdigest()

    def _compute(self, reference: Path) -> Conditioning:
        at_16k, at_24k = (_samples(reference, rate) for rate in (S3_HZ, PROMPT_HZ))
        seconds = len(at_16k) / S3_HZ
        if not _MIN_S <= seconds <= MAX_S:
            raise ValueError(
                f"{reference} lasts {seconds:.1f} s, expected 3 to {MAX_S:.0f} s: cut it at a "
                "pause, and its text with it"
            )
        if self._networks is None:
            self._networks = SpeechTokenizer(self._tokenizer), SpeakerEncoder(self._speaker)
        tokenizer, speaker = self._networks
        return _aligned(tokenizer(at_16k), prompt_mel(at_24k), speaker(at_16k))


def _aligned(tokens: tuple[int, ...], mel: Floats, embedding: Floats) -> Conditioning:
    """Exactly two mel frames per token: the longer of both is cut."""
    count = min(len(tokens), len(mel) // MEL_PER_TOKEN)
    return Conditioning(tokens[:count], mel[: MEL_PER_TOKEN * count], embedding)


def prompt_of(
    voice: Voice,
    conditioning: Conditioning,
    *,
    mode: Mode | None = None,
    instruction: str | None = None,
) -> TokenPrompt:
    """The prompt of a voice; ``instruction`` overrides the voice's own.

    Without a mode: instruct where there is an instruction, else zero-shot where the reference's
    text is known, else cross-lingual. Raises ValueError where the mode lacks what it needs.
    """
    instruction = voice.instruction if instruction is None else instruction.strip()
    mode = mode or _natural_mode(voice, instruction)
    if mode is Mode.ZERO_SHOT and not voice.text:
        raise ValueError(
            f"voice {voice.name!r} has no text, which zero-shot speech needs: write what its "
            "reference says into voice.yaml, or use the mode cross-lingual"
        )
    if mode is Mode.INSTRUCT and not instruction:
        raise ValueError(f"voice {voice.name!r}: the mode instruct needs an instruction")
    return TokenPrompt(
        name=voice.name,
        text=voice.text if mode is Mode.ZERO_SHOT else "",
        tokens=conditioning.tokens,
        mel=conditioning.mel,
        embedding=conditioning.embedding,
        instruction=instruction if mode is Mode.INSTRUCT else "",
    )


def _natural_mode(voice: Voice, instruction: str) -> Mode:
    if instruction:
        return Mode.INSTRUCT
    return Mode.ZERO_SHOT if voice.text else Mode.CROSS_LINGUAL


def _samples(reference: Path, rate_hz: int) -> Floats:
    pcm = read_reference(reference, rate_hz)
    samples: Floats = pcm.astype(np.float32) / np.float32(FULL_SCALE)
    return samples


# --- the cache ------------------------------------------------------------------------------


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "parley" / "voices"


def _sha256(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _read(path: Path) -> Conditioning | None:
    """None where nothing is kept, or what is kept is damaged: it is computed again then."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            tokens: NDArray[np.int32] = kept["tokens"]
            mel, embedding = kept["mel"], kept["embedding"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s is damaged and is computed again: %s", path, error)
        return None
    return Conditioning(tuple(int(t) for t in tokens), mel, embedding)


def _write(path: Path, conditioning: Conditioning) -> None:
    """All or nothing: two processes may compute the same voice at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(
            file,
            tokens=np.asarray(conditioning.tokens, np.int32),
            mel=conditioning.mel,
            embedding=conditioning.embedding,
        )
    Path(file.name).replace(path)
