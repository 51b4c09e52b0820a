"""The voice ``cosyvoice2``: CosyVoice 2 from its published checkpoint, any voice of a library.

    text ─ front end ─ token LM on vLLM or transformers ─ cached flow and HiFT ─ PCM, marks

torch, transformers and vLLM are imported in ``start``, so that naming this voice costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from parley_speech.text import TextFrontEnd
from parley_speech.token_voice import TokenLm, TokenPrompt
from parley_speech.tts.cosyvoice2_files import HUB_NAME, CheckpointFiles, find_checkpoint
from parley_speech.tts.cosyvoice2_settings import (
    CosyVoice2Settings,
    left_chunks_of,
    read_pronunciations,
)
from parley_speech.tts.token_decoding import MAX_BATCH
from parley_speech.tts.token_stream import TokenSpeechStream
from parley_speech.tts.token_tts import TokenSynthesizer
from parley_speech.types import EngineUnavailable
from parley_speech.voices.conditioning import Conditioner, Conditioning, Mode, prompt_of
from parley_speech.voices.library import Voice, VoiceLibrary
from parley_speech.voices.licences import check_licence

if TYPE_CHECKING:
    from parley_speech.codec.cosyvoice2.decoder import CosyVoice2Decoder

Engine = Literal["auto", "vllm", "transformers"]
VOICES_VARIABLE = "PARLEY_VOICES"
DEFAULT_VOICES = "voices"
WARM_UP_TEXT = "Good morning, and thank you for calling."


class CosyVoice2Synthesizer:
    """Meets `parley_speech.types.Synthesizer`.

    Args:
        model: a checkpoint's folder or its name on the hub; by default what
            ``PARLEY_COSYVOICE2_MODEL`` says, else the published 0.5B model.
        voice: its name in the library; empty: the first one.
        voices: the library's folder, by default ``PARLEY_VOICES``, else ``voices``.
        engine: what runs the token LM; auto: vLLM where it is installed.
        device: "cuda" or "cpu" for the decoder (and the LM on transformers); by default a GPU
            where there is one.
        mode: zero-shot, cross-lingual or instruct; None: as the voice's card suggests.
        overrides: pronunciations, see `TextFrontEnd`; they win over those of the settings.
        normalise: False leaves figures and abbreviations to the model.
        allow_non_commercial: whether voices and models may be under such a licence.
        cache: where what is computed of voices is kept; None: the user's cache.
        lm_options, decoder_options: for the engine's own options class, and for
            ``CosyVoice2Decoder.load``; they win over the settings.
        settings: how it is served; by default from the environment.

    Raises ValueError for an unknown engine and for settings that cannot be; what is missing shows
    in ``start``.
    """

    def __init__(
        self,
        model: Path | str = "",
        *,
        voice: str = "",
        voices: Path | str = "",
        engine: Engine = "auto",
        device: str = "",
        mode: Mode | None = None,
        overrides: Mapping[str, str] | None = None,
        normalise: bool = True,
        allow_non_commercial: bool = False,
        cache: Path | None = None,
        lm_options: Mapping[str, Any] | None = None,
        decoder_options: Mapping[str, Any] | None = None,
        max_batch: int = MAX_BATCH,
        settings: CosyVoice2Settings | None = None,
    ) -> None:
        if engine not in ("auto", "vllm", "transformers"):
            raise ValueError(f"engine is {engine!r}, expected auto, vllm or transformers")
        self.settings = settings or CosyVoice2Settings()
        self.model = model or self.settings.model or HUB_NAME
        self.library = VoiceLibrary(voices or os.environ.get(VOICES_VARIABLE) or DEFAULT_VOICES)
        self.voice, self.engine, self.device, self.mode = voice, engine, device, mode
        listed = self.settings.pronunciations
        self._overrides = {**(read_pronunciations(listed) if listed else {}), **(overrides or {})}
        self._normalise = normalise
        self._allow_non_commercial = allow_non_commercial
        self._cache = cache
        self._lm_options = dict(lm_options or {})
        self._decoder_options = dict(decoder_options or {})
        self._max_batch = max_batch
        self._voices: dict[str, tuple[Voice, Conditioning]] = {}
        self._engine: TokenSynthesizer | None = None

    async def start(self) -> None:
        """Finds checkpoint and voices, loads both models and warms them up, so that the first
        caller waits for nothing that is done once (up to minutes in all). Idempotent.

        Raises EngineUnavailable, UnknownVoice, LicenceRefused and ValueError; each says what is
        wrong and what to do.
        """
        if self._engine is not None:
            return
        self._front_end("en")  # what it needs is missing now rather than in a call
        files = await asyncio.to_thread(self._find)
        self._voices = await asyncio.to_thread(self._condition, files)
        self.voice = self.voice or next(iter(self._voices))
        try:
            lm, decoder = await asyncio.to_thread(self._load, files)
        except ImportError as error:
            raise EngineUnavailable(
                f"CosyVoice 2 needs {error.name}, which is not installed: pip install "
                "'parley[cosyvoice2]' (and vllm, on a GPU)"
            ) from error
        engine = TokenSynthesizer(
            lm, decoder, self._prompt(self.voice), max_batch=self._max_batch, close_anywhere=True
        )
        try:
            await engine.start()
            if self.settings.warm_up:
                await self._warm_up(engine, decoder)
        except BaseException:
            await engine.aclose()
            raise
        self._engine = engine

    async def _warm_up(self, engine: TokenSynthesizer, decoder: CosyVoice2Decoder) -> None:
        """Decodes the references of as many voices as are kept decoded, fills every batch that is
        compiled for, and speaks, unheard, up to the first sound."""
        for name in reversed(list(self._voices)[: decoder.voices.kept]):
            await engine.prepare(self._prompt(name))
        prompt = self._prompt(self.voice)
        await asyncio.wrap_future(engine.decoding.do(lambda: decoder.warm_up(prompt)))
        stream = engine.stream(prompt=prompt, front_end=self._front_end("en"))
        stream.push(WARM_UP_TEXT)
        stream.end()
        async with contextlib.aclosing(stream):
            await anext(aiter(stream), None)

    def voices(self) -> list[str]:
        """The names of the voices that can be spoken in; known after ``start``."""
        return list(self._voices)

    def stream(
        self, *, voice: str | None = None, instructions: str | None = None
    ) -> TokenSpeechStream:
        """One utterance; ``instructions``: how to speak, in words, instead of the voice's own.

        Raises KeyError for a voice that was not in the library at the start.
        """
        if self._engine is None:
            raise RuntimeError("the synthesizer is not started: await start() before stream()")
        name = voice or self.voice
        prompt = self._prompt(name, instructions)
        front_end = self._front_end(self._voices[name][0].language)
        return self._engine.stream(prompt=prompt, front_end=front_end)

    async def aclose(self) -> None:
        """Cancels what still speaks. The engine may be started again."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()

    # --- voices ---

    def _condition(self, files: CheckpointFiles) -> dict[str, tuple[Voice, Conditioning]]:
        """All voices of the library, the wanted one first; computed once, kept on disk."""
        voices = {voice.name: voice for voice in self.library.list()}
        if not voices:
            raise EngineUnavailable(
                f"there is no voice in {self.library.path}: add one with 'parley voices add NAME "
                f"recording.wav …', or say where voices are ({VOICES_VARIABLE})"
            )
        if self.voice:
            wanted = self.library.get(self.voice)
            voices = {wanted.name: wanted, **voices}
        conditioner = Conditioner(files.tokenizer, files.speaker, cache=self._cache)
        return {name: (v, self._conditioned(v, conditioner)) for name, v in voices.items()}

    def _conditioned(self, voice: Voice, conditioner: Conditioner) -> Conditioning:
        check_licence(
            voice.licence, f"voice {voice.name!r}", allow_non_commercial=self._allow_non_commercial
        )
        return conditioner.condition(voice.reference)

    def _prompt(self, name: str, instructions: str | None = None) -> TokenPrompt:
        if name not in self._voices:
            raise KeyError(f"no voice {name!r} was loaded; there are: {', '.join(self._voices)}")
        voice, conditioning = self._voices[name]
        mode = Mode.INSTRUCT if instructions else self.mode
        return prompt_of(voice, conditioning, mode=mode, instruction=instructions)

    def _front_end(self, language: str) -> TextFrontEnd:
        return TextFrontEnd(language, overrides=self._overrides, normalise=self._normalise)

    # --- models ---

    def _find(self) -> CheckpointFiles:
        return find_checkpoint(self.model, allow_non_commercial=self._allow_non_commercial)

    def _load(self, files: CheckpointFiles) -> tuple[TokenLm, CosyVoice2Decoder]:
        import torch

        from parley_speech.codec.cosyvoice2.decoder import CosyVoice2Decoder

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        options: dict[str, Any] = {
            "dtype": getattr(torch, self.settings.dtype),
            "compiled": self.settings.compiled,
            "left_chunks": left_chunks_of(files.folder, self.settings.left_chunks),
            **self._decoder_options,
        }
        decoder = CosyVoice2Decoder.load(files.folder, device=device, **options)
        return self._lm(files.folder, device), decoder

    def _lm(self, folder: Path, device: str) -> TokenLm:
        on_vllm = self.engine == "vllm" or (
            self.engine == "auto" and importlib.util.find_spec("vllm") is not None
        )
        if on_vllm:
            from parley_speech.lm.vllm_engine import VllmTokenLm
            from parley_speech.lm.vllm_start import VllmOptions

            vllm = {"slots": self.settings.slots, **self._lm_options}
            return VllmTokenLm(folder, VllmOptions(**vllm))
        from parley_speech.lm.transformers_engine import TransformersOptions, TransformersTokenLm

        options = {"device": device, "slots": self.settings.slots, **self._lm_options}
        return TransformersTokenLm(folder, TransformersOptions(**options))
