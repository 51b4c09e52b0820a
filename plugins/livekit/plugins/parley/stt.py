"""Parley's recognisers as a LiveKit STT that also says when speech begins and ends.

Usable alone in any `AgentSession`. With ``turn_handling={"turn_detection": "stt"}`` its events
drive the turns: a pause of ``preflight_silence`` gives what was heard so far as preflight (LiveKit
may start a reply on it); if the pause grows to ``min_silence_duration``, the final transcript and
the end of speech follow; if the speaker goes on, so does the transcript.

    START_OF_SPEECH, INTERIM…, PREFLIGHT, (INTERIM…, PREFLIGHT,)… FINAL, END_OF_SPEECH, USAGE
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
from livekit import rtc
from livekit.agents import stt, utils
from livekit.agents._exceptions import APIConnectionError, APIError
from livekit.agents.language import LanguageCode
from livekit.agents.stt import SpeechEvent, SpeechEventType
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)

from parley_speech import registry
from parley_speech import types as speech
from parley_speech.asr.choice import AUTO, resolved
from parley_speech.types import FRAME_MS, MIC_FRAME, EngineUnavailable, Grammar, Hypothesis
from parley_speech.vad.silero import SileroVad

from .stt_speeches import Pauses, Speeches, UtteranceStream, speech_data
from .vad import Microphone

POLL_S = FRAME_MS / 1000
"""How often the recogniser is asked while it owes something and no audio comes."""
OVERDUE_S = 10.0
"""Final words that take longer will not come: the recogniser is taken for dead."""
MUTED_S = 0.2
"""A microphone that is muted in mid-word gives no frames: after this, it counts as silence."""
_SILENCE = np.zeros(MIC_FRAME, np.int16)


class STT(stt.STT[str]):
    """Recognition with one of Parley's engines.

    Args:
        engine: an engine's name, or a `parley_speech.types.Recognizer`, which is then the caller's
            to close. The default is moonshine where it is installed, else pocketsphinx; both are
            for English.
        vad: makes the detector that says when someone speaks, for each stream.
        grammar: the only sentences that count; None: anything may be said.
        min_silence_duration: seconds of silence that end a speech.
        preflight_silence: seconds of silence after which what was heard is given as preflight.
        language: given with each transcript.

    Raises EngineUnavailable for an engine that is not installed and ValueError for durations that
    contradict each other. An engine that cannot start shows in the first stream, as an APIError
    that is not retried.
    """

    def __init__(
        self,
        engine: str | speech.Recognizer | None = None,
        *,
        vad: Callable[[], speech.Vad] = SileroVad,
        grammar: Grammar | None = None,
        min_silence_duration: float = 0.3,
        preflight_silence: float = 0.14,
        language: str = "en",
    ) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True, interim_results=True, aligned_transcript="word", manual_flush=True
            )
        )
        self._pauses = Pauses(round(preflight_silence * 1000), round(min_silence_duration * 1000))
        self._vad, self._grammar, self._language = vad, grammar, LanguageCode(language)
        self._engine: speech.Recognizer
        self._owned = True
        if engine is None or isinstance(engine, str):
            self._model = resolved(engine or AUTO)
            self._engine = registry.load("asr", self._model)()
        else:
            self._engine, self._model = engine, type(engine).__name__
            self._owned = False
        self._starting: asyncio.Task[None] | None = None

    @property
    def model(self) -> str:
        return self._model

    @property
    def provider(self) -> str:
        return "parley"

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> RecognizeStream:
        """``language`` is taken as given: each engine has one of its own."""
        return RecognizeStream(stt=self, conn_options=conn_options)

    def prewarm(self) -> None:
        """Starts the engine, so that the first words need not wait for it."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._engine.start(), name="parley.STT.start")

    async def aclose(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            # Whoever wanted to listen was told of a failure; nobody else needs to be.
            await asyncio.gather(self._starting, return_exceptions=True)
            self._starting = None
        if self._owned:
            await self._engine.aclose()

    async def _utterances(self) -> UtteranceStream:
        """A stream of the engine, which is started if it was not."""
        self.prewarm()
        assert self._starting is not None
        try:
            await asyncio.shield(self._starting)
        except (EngineUnavailable, ValueError) as error:
            raise APIError(str(error), retryable=False) from error
        stream = self._engine.stream()
        if not isinstance(stream, UtteranceStream):
            await stream.aclose()
            raise APIError(
                f"the recogniser {self._model} cannot be told where utterances begin: its stream "
                "needs a begin_utterance() method",
                retryable=False,
            )
        stream.set_grammar(self._grammar)
        return stream

    def _speeches(self, utterances: UtteranceStream, offset_s: float) -> Speeches:
        return Speeches(
            utterances,
            self._vad(),
            self._pauses,
            language=self._language,
            guarded=self._grammar is not None,
            offset_s=offset_s,
        )

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> SpeechEvent:
        """The whole buffer as one utterance."""
        utterances = await self._utterances()
        microphone, frame = Microphone(), utils.combine_frames(buffer)
        rest = rtc.AudioFrame.create(frame.sample_rate, frame.num_channels, frame.sample_rate // 10)
        try:
            utterances.begin_utterance()
            for piece in (frame, rest):  # the rest brings the last samples through
                for pcm, _ in microphone.push(piece):
                    utterances.push(pcm)
            utterances.end_utterance()
            heard = await _final(utterances)
        finally:
            await utterances.aclose()
        data = speech_data([heard], language=self._language, guarded=self._grammar is not None)
        return SpeechEvent(type=SpeechEventType.FINAL_TRANSCRIPT, alternatives=[data])


async def _final(utterances: UtteranceStream) -> Hypothesis:
    due = time.monotonic() + OVERDUE_S
    while time.monotonic() < due:
        final = next((heard for heard in utterances.poll() if heard.final), None)
        if final is not None:
            return final
        await asyncio.sleep(POLL_S)
    raise _overdue()


def _overdue() -> APIConnectionError:
    return APIConnectionError(f"the recogniser has given no final words for {OVERDUE_S:.0f} s")


class RecognizeStream(stt.RecognizeStream):
    """One call's recognition. Made by `STT.stream`."""

    def __init__(self, *, stt: STT, conn_options: APIConnectOptions) -> None:
        self._recognizer = stt
        super().__init__(stt=stt, conn_options=conn_options)  # starts _run

    async def _run(self) -> None:
        utterances = await self._recognizer._utterances()
        speeches = self._recognizer._speeches(utterances, self.start_time_offset)
        try:
            await self._listen(speeches)
        except RuntimeError as error:  # the engine's process died
            raise APIConnectionError(f"the recogniser failed: {error}") from error
        finally:
            await utterances.aclose()

    async def _listen(self, speeches: Speeches) -> None:
        """Frames in, events out, until the input has ended and all its words are known."""
        microphone, patience = Microphone(), Patience()
        ended = False
        while not ended or speeches.owed:
            try:
                item = await self._next(speeches, ended=ended)
            except utils.aio.ChanClosed:
                ended = True
                self._send(speeches.finish())
                continue
            self._send(self._take(item, microphone, speeches))
            patience.check(speeches.owed)

    async def _next(self, speeches: Speeches, *, ended: bool) -> rtc.AudioFrame | object | None:
        """What comes next in the input; None if the recogniser or a muted microphone comes first.

        Raises ChanClosed when the input has ended.
        """
        if ended:
            await asyncio.sleep(POLL_S)
            return None
        timeout = POLL_S if speeches.owed else MUTED_S if speeches.speaking else None
        try:
            return await asyncio.wait_for(self._input_ch.recv(), timeout)
        except TimeoutError:
            return None

    def _take(
        self, item: rtc.AudioFrame | object | None, microphone: Microphone, speeches: Speeches
    ) -> list[SpeechEvent]:
        if isinstance(item, rtc.AudioFrame):
            frames = [frame for frame, _ in microphone.push(item)]
        elif item is not None:  # a flush: what was said is wanted now
            return speeches.finish()
        elif speeches.speaking and not speeches.owed:
            frames = [_SILENCE] * round(MUTED_S / POLL_S)
        else:
            return speeches.poll()
        return [event for frame in frames for event in speeches.push(frame)]

    def _send(self, events: list[SpeechEvent]) -> None:
        for event in events:
            self._event_ch.send_nowait(event)


class Patience:
    """Notices a recogniser that owes something for too long."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def check(self, owed: bool) -> None:
        """Raises APIConnectionError when words have been owed for OVERDUE_S."""
        now = time.monotonic()
        if not owed:
            self._since = now
        elif now - self._since > OVERDUE_S:
            raise _overdue()
