"""What a recogniser hears, as LiveKit's speech events: no task, no channel, no waiting.

A *speech* lasts from the first voice to a pause of ``Pauses.end_ms``; shorter pauses, from
``Pauses.preflight_ms`` on, cut it into *utterances* of the recogniser, so that each pause brings
words that are sure. Recognition lags behind the frames: a speech that has ended waits for its last
words, while the next one may have begun.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from livekit.agents.language import LanguageCode
from livekit.agents.stt import RecognitionUsage, SpeechData, SpeechEvent, SpeechEventType
from livekit.agents.types import TimedString

from parley_speech import types as speech
from parley_speech.types import FRAME_MS, Hypothesis, Pcm, Word
from parley_speech.vad.gate import GateState, SpeechGate

TRUSTED = 0.5
"""A grammar fits anything somehow: below this confidence its words were not said."""


@runtime_checkable
class UtteranceStream(speech.RecognizerStream, Protocol):
    """A recogniser's stream that is told where utterances begin, and costs nothing between."""

    def begin_utterance(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Pauses:
    """Lengths of silence, in ms."""

    preflight_ms: int
    """Closes an utterance: its words become sure."""
    end_ms: int
    """Ends the speech."""

    def __post_init__(self) -> None:
        if not 0 < self.preflight_ms <= self.end_ms:
            raise ValueError(
                "expected 0 < preflight_silence <= min_silence_duration, "
                f"got {self.preflight_ms} and {self.end_ms} ms"
            )


@dataclass(slots=True)
class Speech:
    """One speech of the caller and what was heard of it."""

    began_ms: int
    """Stream time of its onset."""
    heard: dict[int, Hypothesis | None] = field(default_factory=dict)
    """The newest hypothesis of each utterance, by its number; None: nothing yet."""
    shown: str = ""
    """The text last given as interim."""
    sure: str = ""
    """The text last given as preflight."""
    ended_ms: int = 0
    """Stream time of the end of its last sound, once it has ended."""
    ended_at: float = 0.0
    """The same on the wall clock."""

    @property
    def complete(self) -> bool:
        return all(hypothesis and hypothesis.final for hypothesis in self.heard.values())


class Speeches:
    """One call's speech events.

    Args:
        recognizer, vad: of this call.
        guarded: a grammar is in force, whose words count only with confidence.
        offset_s: stream time of the first frame, as LiveKit counts.
    """

    def __init__(
        self,
        recognizer: UtteranceStream,
        vad: speech.Vad,
        pauses: Pauses,
        *,
        language: LanguageCode,
        guarded: bool = False,
        offset_s: float = 0.0,
    ) -> None:
        self._recognizer, self._vad, self._pauses = recognizer, vad, pauses
        self._gate = SpeechGate(min_speech_ms=40, hangover_ms=pauses.end_ms)
        self._language, self._guarded, self._offset_s = language, guarded, offset_s
        self._now_ms = 0
        self._begun = 0  # utterances begun; the recogniser numbers them from 0 in the same way
        self._open = False  # an utterance is
        self._speech: Speech | None = None  # that goes on
        self._ended: deque[Speech] = deque()  # and wait for their last words

    @property
    def speaking(self) -> bool:
        return self._speech is not None

    @property
    def owed(self) -> bool:
        """Whether the recogniser has not given all its final words."""
        going_on = self._speech is not None and not self._open and not self._speech.complete
        return bool(self._ended) or going_on

    def push(self, frame: Pcm) -> list[SpeechEvent]:
        """One microphone frame (320,)."""
        self._now_ms += FRAME_MS
        state = self._gate.push(self._vad.push(frame))
        events = []
        if state.started:
            self._speech = Speech(self._now_ms - state.speech_ms)
            started_at = time.time() - state.speech_ms / 1000
            kind = SpeechEventType.START_OF_SPEECH
            events.append(SpeechEvent(type=kind, speech_start_time=started_at))
        self._bound_utterance(state)
        self._recognizer.push(frame)
        if state.ended:
            self._end(state.silence_ms)
        return events + self.poll()

    def finish(self) -> list[SpeechEvent]:
        """Ends the speech that goes on, now; its last words will follow."""
        if self._speech is not None:
            self._end(0)
            self._gate.reset()
        return self.poll()

    def poll(self) -> list[SpeechEvent]:
        """What has become known since."""
        events: list[SpeechEvent] = []
        for hypothesis in self._recognizer.poll():
            events += self._hear(hypothesis)
        while self._ended and self._ended[0].complete:
            events += self._closing(self._ended.popleft())
        return events

    def _bound_utterance(self, state: GateState) -> None:
        """Tells the recogniser where an utterance begins or ends."""
        if self._speech is None:
            return
        if not self._open and state.silence_ms == 0:
            self._recognizer.begin_utterance()
            self._open = True
            self._speech.heard[self._begun] = None
            self._begun += 1
        elif self._open and state.silence_ms >= self._pauses.preflight_ms:
            self._close_utterance()

    def _close_utterance(self) -> None:
        if self._open:
            self._recognizer.end_utterance()
            self._open = False

    def _end(self, silence_ms: int) -> None:
        assert self._speech is not None
        self._close_utterance()
        self._speech.ended_ms = self._now_ms - silence_ms
        self._speech.ended_at = time.time() - silence_ms / 1000
        self._ended.append(self._speech)
        self._speech = None

    def _hear(self, hypothesis: Hypothesis) -> list[SpeechEvent]:
        known = [*self._ended, self._speech] if self._speech else [*self._ended]
        owner = next((s for s in known if hypothesis.utterance in s.heard), None)
        if owner is None:
            return []
        owner.heard[hypothesis.utterance] = hypothesis
        data = self._data(owner)
        if owner is not self._speech or not data.text:
            return []  # its final transcript follows in a moment
        if not hypothesis.final and data.text != owner.shown:
            owner.shown = data.text
            return [_transcript(SpeechEventType.INTERIM_TRANSCRIPT, data)]
        if hypothesis.final and not self._open and data.text != owner.sure:
            owner.sure = data.text
            return [_transcript(SpeechEventType.PREFLIGHT_TRANSCRIPT, data)]
        return []

    def _closing(self, ended: Speech) -> list[SpeechEvent]:
        data = self._data(ended)
        final = _transcript(SpeechEventType.FINAL_TRANSCRIPT, data)
        final.speech_end_time = ended.ended_at
        end = SpeechEvent(type=SpeechEventType.END_OF_SPEECH, speech_end_time=ended.ended_at)
        usage = SpeechEvent(
            type=SpeechEventType.RECOGNITION_USAGE,
            recognition_usage=RecognitionUsage((ended.ended_ms - ended.began_ms) / 1000),
        )
        return [final, end, usage] if data.text else [end, usage]

    def _data(self, of: Speech) -> SpeechData:
        return speech_data(
            [hypothesis for hypothesis in of.heard.values() if hypothesis is not None],
            language=self._language,
            guarded=self._guarded,
            offset_s=self._offset_s,
            began_ms=of.began_ms,
            ended_ms=of.ended_ms or self._now_ms,
        )


def speech_data(
    utterances: Iterable[Hypothesis],
    *,
    language: LanguageCode,
    guarded: bool = False,
    offset_s: float = 0.0,
    began_ms: int = 0,
    ended_ms: int = 0,
) -> SpeechData:
    """Utterances in a row as one transcript; times are those of its words, if it has any."""
    heard = [h for h in utterances if h.text and not (guarded and h.final and _doubtful(h))]
    words = [word for hypothesis in heard for word in hypothesis.words]
    confidences = [hypothesis.confidence for hypothesis in heard]
    return SpeechData(
        language=language,
        text=" ".join(hypothesis.text for hypothesis in heard),
        start_time=offset_s + (words[0].start_ms if words else began_ms) / 1000,
        end_time=offset_s + (words[-1].end_ms if words else ended_ms) / 1000,
        confidence=sum(confidences) / len(confidences) if confidences else 0.0,
        words=[_timed(word, offset_s) for word in words],
    )


def _doubtful(hypothesis: Hypothesis) -> bool:
    return hypothesis.confidence < TRUSTED


def _timed(word: Word, offset_s: float) -> TimedString:
    return TimedString(
        word.text,
        start_time=offset_s + word.start_ms / 1000,
        end_time=offset_s + word.end_ms / 1000,
        confidence=word.confidence,
        start_time_offset=offset_s,
    )


def _transcript(kind: SpeechEventType, data: SpeechData) -> SpeechEvent:
    return SpeechEvent(type=kind, alternatives=[data])
