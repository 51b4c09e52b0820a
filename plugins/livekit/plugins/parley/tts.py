"""Parley's voices as a LiveKit TTS: text streamed in, audio and the time of each word out.

Usable alone in any `AgentSession`. With ``use_tts_aligned_transcript=True`` in the session, the
transcript that a listener sees follows the words as they sound, and an interrupted reply is cut
where it was heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence

from livekit import rtc
from livekit.agents import tts, utils
from livekit.agents._exceptions import APIError
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, TimedString

from parley_speech.remote import is_url, voice_of
from parley_speech.text import shown
from parley_speech.tts.espeak import EspeakSynthesizer
from parley_speech.types import (
    SPEAKER_HZ,
    AudioChunk,
    EngineUnavailable,
    SpeechStream,
    Synthesizer,
    WordMark,
)

SILENT_SAMPLES = SPEAKER_HZ // 100
"""10 ms: given for a text without a word ("…"), which LiveKit would take for a failure."""


class TTS(tts.TTS[str]):
    """Speech synthesis with one of Parley's engines.

    Args:
        engine: an engine's name, or a `parley_speech.types.Synthesizer`, which is then the
            caller's to close. The default, espeak-ng, is an extra of its own (GPL):
            ``pip install parley[espeak]``.
        url: of a speech server instead (``http://host:port``), or of several that stand in for
            each other; see `RemoteSynthesizer`, also for what happens when one is lost.
        token: the speech servers' access token; None: from PARLEY_SPEECH_TOKEN.
        voice: the server's name of a voice, or the default engine's (see `EspeakSynthesizer`).
        speed, instructions: with ``url``, for voices that take them.
        rate_wpm, pitch: see `EspeakSynthesizer`; for the default engine only.

    Raises EngineUnavailable for the name of an engine that is not installed, and ValueError for a
    bad address. What goes wrong when the engine starts (the extra is missing, an unknown voice, no
    server) comes with the first text, as an APIError that is not retried.
    """

    def __init__(
        self,
        engine: str | Synthesizer | None = None,
        *,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        voice: str | None = None,
        speed: float = 1.0,
        instructions: str = "",
        rate_wpm: int = 175,
        pitch: int = 50,
    ) -> None:
        if engine is not None and url is not None:
            raise ValueError("engine and url exclude each other: one voice speaks")
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=True, aligned_transcript=True),
            sample_rate=SPEAKER_HZ,
            num_channels=1,
        )
        self._engine: Synthesizer
        self._owned = True
        if url is not None:
            from parley_speech.remote import RemoteSynthesizer

            self._model = f"speech server {voice or ''}".strip()
            self._engine = RemoteSynthesizer(
                url, voice=voice or "", speed=speed, instructions=instructions, token=token
            )
        elif engine is None:
            voice = voice or "en-us"
            self._model = f"espeak {voice}"
            self._engine = EspeakSynthesizer(voice, rate_wpm=rate_wpm, pitch=pitch)
        elif isinstance(engine, str):
            self._model = "speech server" if is_url(engine) else engine
            self._engine = voice_of(engine)
        else:
            self._model = type(engine).__name__
            self._engine, self._owned = engine, False
        self._starting: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        return self._model

    @property
    def provider(self) -> str:
        return "parley"

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def stream(
        self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> SynthesizeStream:
        return SynthesizeStream(tts=self, conn_options=conn_options)

    def prewarm(self) -> None:
        """Starts the engine, so that the first reply need not wait for it."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._engine.start(), name="parley.TTS.start")

    async def aclose(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            # Whoever wanted to speak was told of a failure; nobody else needs to be.
            await asyncio.gather(self._starting, return_exceptions=True)
            self._starting = None
        if self._owned:
            await self._engine.aclose()

    async def _utterance(self) -> SpeechStream:
        """A stream of the engine, which is started if it was not."""
        self.prewarm()
        assert self._starting is not None
        try:
            await asyncio.shield(self._starting)
        except (EngineUnavailable, ValueError) as error:
            raise APIError(str(error), retryable=False) from error
        return self._engine.stream()


class SynthesizeStream(tts.SynthesizeStream):
    """One reply. Made by `TTS.stream`."""

    def __init__(self, *, tts: TTS, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=tts, conn_options=conn_options)
        self._voice = tts

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid("parley_"),
            sample_rate=SPEAKER_HZ,
            num_channels=1,
            mime_type="audio/pcm",
            stream=True,
        )
        output_emitter.start_segment(segment_id=utils.shortuuid("seg_"))
        utterance = await self._voice._utterance()
        script = Script()
        feeding = asyncio.create_task(self._feed(utterance, script), name="parley.TTS.feed")
        try:
            await self._speak(utterance, script, output_emitter)
            await feeding
        except (OverflowError, RuntimeError) as error:
            raise APIError(str(error), retryable=False) from error
        finally:
            await utils.aio.cancel_and_wait(feeding)
            await utterance.aclose()
        output_emitter.end_segment()

    async def _feed(self, utterance: SpeechStream, script: Script) -> None:
        """Text to the engine; a flush ends the reply, as a stream has only one."""
        try:
            async for item in self._input_ch:
                if not isinstance(item, str):
                    break
                self._mark_started()
                script.text += item
                utterance.push(item)
        finally:
            utterance.end()

    async def _speak(
        self, utterance: AsyncIterable[AudioChunk], script: Script, emitter: tts.AudioEmitter
    ) -> None:
        spoke = False
        async for chunk in utterance:
            spoke = True
            timed = (script.timed(mark) for mark in chunk.marks)
            emitter.push_timed_transcript([word for word in timed if word])
            emitter.push_frame(rtc.AudioFrame(chunk.pcm.tobytes(), SPEAKER_HZ, 1, len(chunk.pcm)))
        if not spoke and script.text.strip():
            emitter.push_timed_transcript(TimedString(script.text, start_time=0.0, end_time=0.0))
            emitter.push_frame(rtc.AudioFrame.create(SPEAKER_HZ, 1, SILENT_SAMPLES))


class Script:
    """What was pushed so far, and how far its words have been given."""

    def __init__(self) -> None:
        self.text = ""
        self._given = 0  # characters

    def timed(self, mark: WordMark) -> TimedString:
        """A word with the white space before it, so that the words joined give the text back; ""
        for a pause that the text asks for."""
        text, self._given = shown(self.text[self._given : mark.char_end]), mark.char_end
        return TimedString(text, start_time=mark.start / SPEAKER_HZ, end_time=mark.end / SPEAKER_HZ)
