"""The recogniser of a call in virtual time: real decoding, modelled delays, the same every time.

A call's recogniser decodes in another process, and what it finds comes when it comes. Here the
same decoder (``child.Decoder``) runs in this process, between two ticks, and its results are held
back until the virtual time at which a machine of a given speed would have had them: one decoder
does its work in order. Pocketsphinx: a block of audio costs ``load`` times its length, and a final
``final_ms`` more. Moonshine: sound that was encoded and tokens that were computed, each its price.
So a run does not depend on how busy this machine is, and a slower one is a number away. The
backlog, the pre-roll and the order of messages are a call's own.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from parley_speech.asr import child, decoding, wire
from parley_speech.asr.backlog import Backlog
from parley_speech.asr.grammar import jsgf_source
from parley_speech.asr.heard import Heard
from parley_speech.asr.moonshine.recognizer import HELP, find_model
from parley_speech.asr.moonshine.stream import MoonshineModels, models
from parley_speech.asr.wire import Kind, Message
from parley_speech.types import FRAME_MS, EngineUnavailable, Grammar, Hypothesis, Pcm


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the modelled machine decodes: about 1.3 times the CPU time that was measured on one
    core (desk grammar 0.06, open English 0.7 beside other work; finals 4 and 60 ms)."""

    load_grammar: float = 0.08
    """Time per time of audio, in a grammar."""
    load_open: float = 0.7
    """... in open English."""
    final_ms: float = 5.0
    """What the end of an utterance costs."""
    final_open_ms: float = 80.0
    """... in open English, with the best path through the lattice."""
    way_ms: float = 2.0
    """Between the processes, both ways."""
    encode: float = 0.018
    """Moonshine: time per time of audio that is encoded."""
    step_ms: float = 5.5
    """... a step of its decoder,"""
    row_ms: float = 1.8
    """... and each token in it."""


class LockstepRecognizer:
    """Meets `parley_speech.types.Recognizer`. ``stream`` is a call's."""

    def __init__(self, pace: Pace | None = None, asr: str = "pocketsphinx") -> None:
        """``asr``: pocketsphinx or moonshine."""
        if asr not in child.ENGINES:
            raise ValueError(f"virtual time knows {', '.join(child.ENGINES)}, not {asr!r}")
        self._pace = pace or Pace()
        self._asr = asr
        self._models: child.Models | None = None

    async def start(self) -> None:
        """Loads the models, 0.3 to 1 s. Idempotent. Raises EngineUnavailable."""
        if self._models is not None:
            return
        if self._asr == "moonshine":
            if (folder := find_model()) is None:
                raise EngineUnavailable(HELP)
            self._models = models({"folder": folder, "threads": 1})
        else:
            self._models = decoding.Models({}, {})

    def stream(self) -> LockstepStream:
        if self._models is None:
            raise RuntimeError("stream() before start(): await recognizer.start() first")
        return LockstepStream(self._models, self._pace)

    async def aclose(self) -> None:
        self._models = None


class LockstepStream:
    """Meets `parley_speech.types.RecognizerStream`; its clock is the frames it is given."""

    def __init__(self, models: child.Models, pace: Pace) -> None:
        self._pace = pace
        self._models = models
        self._decoder = models.decoder()
        self._backlog = Backlog()
        self._reader = wire.Reader()
        self._inbox: deque[Message] = deque()
        self._grammar: Grammar | None = None
        self._now_ms = 0.0
        self._free_ms = 0.0
        """When the decoder will have done what it has begun."""
        self._due: deque[tuple[float, Hypothesis]] = deque()

    def push(self, frame: Pcm) -> None:
        self._now_ms += FRAME_MS
        given_up = self._backlog.push(frame)
        self._due.extend((self._now_ms, hypothesis) for hypothesis in given_up)
        self._work()

    def begin_utterance(self) -> None:
        self._backlog.begin()

    def end_utterance(self) -> None:
        self._backlog.end()
        self._work()

    def set_grammar(self, grammar: Grammar | None) -> None:
        if grammar != self._grammar:
            self._grammar = grammar
            self._backlog.set_grammar(grammar)
            if grammar is not None:
                self._decoder.prepare(jsgf_source(grammar))

    def poll(self) -> list[Hypothesis]:
        found: list[Hypothesis] = []
        while self._due and self._due[0][0] <= self._now_ms:
            found.append(self._due.popleft()[1])
        return found

    async def aclose(self) -> None:
        self._decoder.close()

    # --- the child's side ----------------------------------------------------------------------

    def _work(self) -> None:
        """What the decoder begins within this tick."""
        self._receive()
        self._obey()
        while self._decoder.busy and self._free_ms < self._now_ms + FRAME_MS:
            before = self._decoder.taken
            begun_ms = max(self._free_ms, self._now_ms)
            cost_ms = self._clock()
            heard = self._decoder.step()
            ended_ms = self._free_ms = begun_ms + cost_ms(heard)
            for result in heard:
                self._found(result, ended_ms)
            after = self._decoder.taken
            if after is not None and after != before:
                self._backlog.taken(*after)
            self._receive()
            self._obey()

    def _clock(self) -> Callable[[Sequence[Heard]], float]:
        """Started before a step; tells after it what it cost."""
        if isinstance(self._models, MoonshineModels):
            return _moonshine_ms(self._models, self._pace)
        assert isinstance(self._decoder, decoding.StreamDecoder)
        return _pocketsphinx_ms(self._decoder, self._pace)

    def _receive(self) -> None:
        for data in self._backlog.outgoing(0):
            self._inbox.extend(self._reader.feed(data))

    def _obey(self) -> None:
        """As the child does: what is for the utterance that is being finished comes first."""
        decoder, inbox = self._decoder, self._inbox
        while inbox and (not decoder.busy or inbox[0].kind is Kind.AUDIO):
            message = inbox.popleft()
            match message.kind:
                case Kind.BEGIN:
                    fields = message.fields
                    decoder.begin(fields["utterance"], fields["source"])
                case Kind.AUDIO:
                    decoder.push(message.payload)
                case Kind.END:
                    decoder.end()
                case other:
                    raise wire.WireError(f"{other.name} is not for a decoder")

    def _found(self, heard: Heard, at_ms: float) -> None:
        fields = {
            "utterance": heard.utterance,
            "words": [(*times, round(confidence, 3)) for *times, confidence in heard.words],
            "confidence": round(heard.confidence, 3),
            "final": heard.final,
        }
        for hypothesis in self._backlog.heard(fields):
            self._due.append((at_ms + self._pace.way_ms, hypothesis))


def _pocketsphinx_ms(
    decoder: decoding.StreamDecoder, pace: Pace
) -> Callable[[Sequence[Heard]], float]:
    now = decoder._now
    assert now is not None, "a busy decoder has an utterance"
    left_ms = (len(now.pcm) - now.fed) / 32
    block_ms = min(float(decoding.BLOCK_MS), left_ms)
    decoding_ms = block_ms * (pace.load_grammar if now.source else pace.load_open)
    final_ms = pace.final_ms if now.source else pace.final_open_ms
    return lambda heard: decoding_ms + final_ms * any(result.final for result in heard)


def _moonshine_ms(models: MoonshineModels, pace: Pace) -> Callable[[Sequence[Heard]], float]:
    before = dataclasses.replace(models.model.work)

    def cost(heard: Sequence[Heard]) -> float:
        work = models.model.work
        encoding_ms = pace.encode * (work.samples - before.samples) / 16
        steps_ms = pace.step_ms * (work.steps - before.steps)
        return encoding_ms + steps_ms + pace.row_ms * (work.rows - before.rows)

    return cost
