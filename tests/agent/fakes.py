"""Scripted stand-ins with a controllable clock: a voice, a mind, ears. For the engine's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import numpy as np

from parley.minds.base import Context, MindError, MindEvent, TextDelta
from parley_speech.types import (
    FRAME_MS,
    MIC_FRAME,
    SPEAKER_HZ,
    AudioChunk,
    Cleaned,
    Grammar,
    Hypothesis,
    OverlapEvidence,
    Pcm,
    WordMark,
)

WORD_MS = 200
LOUD = np.full(MIC_FRAME, 3000, np.int16)
QUIET = np.zeros(MIC_FRAME, np.int16)


class ToneVoice:
    """Every word is 200 ms of a constant level; the first chunk comes after ``first_s``."""

    def __init__(self, first_s: float = 0.0, fail_after: int | None = None) -> None:
        self.first_s = first_s
        self.fail_after = fail_after
        self.open = 0

    async def start(self) -> None: ...
    async def aclose(self) -> None: ...

    def stream(self) -> ToneStream:
        return ToneStream(self)


class ToneStream:
    def __init__(self, voice: ToneVoice) -> None:
        self._voice = voice
        self._text = ""
        self._ended = False
        self._cancelled = False
        self._news = asyncio.Event()
        voice.open += 1
        self._closed = False

    def push(self, text: str) -> None:
        self._text += text
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def cancel(self) -> None:
        self._cancelled = True
        self._news.set()

    async def aclose(self) -> None:
        self.cancel()
        if not self._closed:
            self._closed = True
            self._voice.open -= 1

    async def __aiter__(self) -> AsyncIterator[AudioChunk]:
        await asyncio.sleep(self._voice.first_s)
        char = sample = count = 0
        n = SPEAKER_HZ * WORD_MS // 1000
        while not self._cancelled:
            rest = self._text[char:]
            word = rest.split(maxsplit=1)[0] if rest.strip() else ""
            whole = word and (self._ended or rest.lstrip() != word)
            if not whole:
                if self._ended:
                    return
                self._news.clear()
                await self._news.wait()
                continue
            if count == self._voice.fail_after:
                raise RuntimeError("the voice broke")
            at = self._text.index(word, char)
            mark = WordMark(word, at, at + len(word), sample, sample + n)
            yield AudioChunk(np.full(n, 8000, np.int16), (mark,))
            char, sample, count = at + len(word), sample + n, count + 1


@dataclass
class Script:
    """What a scripted reply does: deltas, pauses (float seconds), events, errors."""

    steps: list[str | float | MindEvent | MindError | Exception] = field(default_factory=list)


class ScriptedReply:
    def __init__(self, mind: ScriptedMind, script: Script) -> None:
        self._mind, self._script = mind, script
        self.committed = self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[MindEvent]:
        for step in self._script.steps:
            if self.cancelled:
                return
            if isinstance(step, str):
                yield TextDelta(step)
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                yield step

    def commit(self) -> None:
        self.committed = True
        self._mind.committed += 1

    def cancel(self) -> None:
        self.cancelled = True

    async def aclose(self) -> None:
        self.cancel()


class ScriptedMind:
    def __init__(self, answer: Callable[[Context], Script]) -> None:
        self._answer = answer
        self.contexts: list[Context] = []
        self.replies: list[ScriptedReply] = []
        self.committed = 0
        self.closed = False
        self.sure = 0.5

    def reply(self, context: Context) -> ScriptedReply:
        self.contexts.append(context)
        self.replies.append(ScriptedReply(self, self._answer(context)))
        return self.replies[-1]

    def grammar(self) -> Grammar | None:
        return None

    def completeness(self, text: str) -> float | None:
        return self.sure

    async def aclose(self) -> None:
        self.closed = True


class LevelVad:
    """A loud frame is a voice."""

    def push(self, frame: Pcm) -> float:
        return 1.0 if np.abs(frame.astype(np.int32)).max() > 1000 else 0.0

    def reset(self) -> None: ...


class CleanLine:
    delay_ms: float | None = None

    def process(self, mic: Pcm, far: Pcm) -> Cleaned:
        return Cleaned(mic, 0.0)


class ScriptedRecognizer:
    """Utterance ``i`` is ``words[i]``: a partial after 100 ms, the final when it is asked for."""

    def __init__(
        self, words: list[str], final_late_frames: int = 0, doubted: frozenset[int] = frozenset()
    ) -> None:
        """``doubted``: utterances of whose words it is not sure."""
        self._words = words
        self._doubted = doubted
        self._n = -1
        self._frames = 0
        self._out: list[Hypothesis] = []
        self._late: list[tuple[int, Hypothesis]] = []
        self._late_by = final_late_frames
        self.closed = False
        self.partials = True
        self.partial_confidence = 1.0

    def begin_utterance(self) -> None:
        self._n += 1
        self._frames = 0

    def push(self, frame: Pcm) -> None:
        self._frames += 1
        self._late = [(n - 1, h) for n, h in self._late]
        self._out += [h for n, h in self._late if n < 0]
        self._late = [(n, h) for n, h in self._late if n >= 0]
        if self.partials and self._frames == 100 // FRAME_MS and self._n >= 0:
            first = " ".join(self._text().split()[:1])
            sure = self.partial_confidence
            self._out.append(Hypothesis(first, self._n, final=False, confidence=sure))

    def end_utterance(self) -> None:
        sure = 0.1 if self._n in self._doubted else 1.0
        final = Hypothesis(self._text(), self._n, final=True, confidence=sure)
        if self._late_by:
            self._late.append((self._late_by, final))
        else:
            self._out.append(final)

    def _text(self) -> str:
        return self._words[self._n] if self._n < len(self._words) else ""

    def set_grammar(self, grammar: Grammar | None) -> None: ...

    def poll(self) -> list[Hypothesis]:
        out, self._out = self._out, []
        return out

    async def aclose(self) -> None:
        self.closed = True


class DurationOverlap:
    """Sound longer than 300 ms wants the floor."""

    def begin(self, t_ms: int) -> None:
        self._since = self._silence = self._voiced = 0

    def turn(self, frame: Pcm, voice: bool) -> None: ...

    def step(self, frame: Pcm, p_voice: float, echo: float) -> OverlapEvidence:
        if not hasattr(self, "_since"):
            self.begin(0)
        self._since += FRAME_MS
        self._voiced += FRAME_MS if p_voice > 0.5 else 0
        self._silence = 0 if p_voice > 0.5 else self._silence + FRAME_MS
        p = 0.9 if self._voiced > 300 else 0.2
        return OverlapEvidence(self._since, self._voiced, self._silence, p)

    def hear(self, words: tuple[str, ...], confidence: float = 0.0) -> None: ...
    def end(self) -> None: ...
