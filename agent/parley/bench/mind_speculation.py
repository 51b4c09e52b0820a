"""What guessing brings: recorded callers, the real ears, floor and mind, a model of 200 ms.

Each turn is spoken twice to the same parts: once replies may start on a guess, once they are asked
for when the turn is over. The time counts from the end of the caller's last sound, known from the
recording, until the reply that the caller gets has text; text that is there earlier counts as 0 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from parley.bench.figures import Figure, Goal
from parley.bench.mind_fake import FIRST_S, FakeModel, fake_model
from parley.dialogue import events as ev
from parley.dialogue.ears import Ears
from parley.dialogue.engine import Engine
from parley.dialogue.policy import FloorPolicy
from parley.minds.base import Context, MindEvent, MindSession, Reply, TextDelta, Urgent
from parley.minds.flow import FlowMind
from parley.minds.speculation import SpeculationStats
from parley.minds.vllm import VllmMind, VllmOptions
from parley_speech.registry import load
from parley_speech.types import (
    FRAME_MS,
    MIC_FRAME,
    MIC_HZ,
    SPEAKER_HZ,
    AudioChunk,
    Grammar,
    Pcm,
    Recognizer,
)

SHARE = 0.40
WASTE = 1.5
BEFORE_S, LONGEST_AFTER_S = 0.4, 4.0
TURNS: tuple[tuple[str, ...], ...] = (
    ("caller_order_status.flac",),
    ("caller_check_order_12345.flac",),
    ("caller_help_me.flac",),
    ("caller_thank_you.flac",),
    ("human_hours.flac",),
    ("caller_hello.flac", "caller_order_status.flac"),
    ("caller_help_me.flac", "caller_check_order_12345.flac"),
    ("caller_hi_how_are_you.flac", "caller_help_me.flac"),
    ("caller_order_status.flac", "caller_thank_you.flac"),
)
"""Clips of one turn each, with a pause of thought between two. All end in words that the shop's
grammar knows: words that the recogniser cannot know come late or never, guessed or not."""
PAUSE_S = 0.35


@dataclass
class Turn:
    """What became of one."""

    clip: str
    guessing: bool
    text_ms: float | None = None
    """End of the caller's sound → text of the reply; None: there was none."""
    commit_ms: float | None = None
    """... → the turn was taken to be over."""
    starts: int = 0


@dataclass
class Outcome:
    turns: list[Turn] = field(default_factory=list)
    stats: SpeculationStats = field(default_factory=SpeculationStats)
    """Of the guessing arm."""


# --- instruments ----------------------------------------------------------------------------


class _Timed:
    """A reply that notes when its first text came, and whether it was wanted."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.text_at: float | None = None
        self.was_wanted = False
        self.whole = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[MindEvent]:
        async for event in self._reply:
            if self.text_at is None and isinstance(event, TextDelta):
                self.text_at = asyncio.get_running_loop().time()
            yield event
        self.whole.set()

    def wanted(self) -> None:
        self.was_wanted = True
        if isinstance(self._reply, Urgent):
            self._reply.wanted()

    def commit(self) -> None:
        self._reply.commit()

    def cancel(self) -> None:
        self._reply.cancel()

    async def aclose(self) -> None:
        await self._reply.aclose()


class _Session:
    """The language model's replies, the shop's grammar."""

    def __init__(self, model: MindSession, shop: MindSession) -> None:
        self._model, self._shop = model, shop
        self.replies: list[_Timed] = []

    def reply(self, context: Context) -> _Timed:
        self.replies.append(_Timed(self._model.reply(context)))
        return self.replies[-1]

    def grammar(self) -> Grammar | None:
        return self._shop.grammar()

    def completeness(self, text: str) -> float | None:
        return None

    async def aclose(self) -> None:
        await self._model.aclose()
        await self._shop.aclose()


class _Quiet:
    """A voice without sound or delay, so that nothing is heard back."""

    async def start(self) -> None:
        """There is nothing to load."""

    def stream(self) -> _QuietSpeech:
        return _QuietSpeech()

    async def aclose(self) -> None:
        """There is nothing to let go of."""


class _QuietSpeech:
    def __init__(self) -> None:
        self._texts: asyncio.Queue[str | None] = asyncio.Queue(1024)

    def push(self, text: str) -> None:
        self._texts.put_nowait(text)

    def end(self) -> None:
        self._texts.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[AudioChunk]:
        while await self._texts.get() is not None:
            yield AudioChunk(np.zeros(SPEAKER_HZ // 10, np.int16))

    def cancel(self) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._texts.put_nowait(None)

    async def aclose(self) -> None:
        self.cancel()


# --- the bench ------------------------------------------------------------------------------


async def figures(
    clips: Path, repeats: int, tell: Callable[[str], None]
) -> tuple[list[Figure], Outcome]:
    recognizer: Recognizer = load("asr", "pocketsphinx")()
    shop = FlowMind("front_desk")
    await asyncio.gather(recognizer.start(), shop.start())
    sounds = {name: _turn(clips, name) for name in TURNS}
    outcome = Outcome()
    async with fake_model() as fake:
        for guessing in (True, False):
            await _one(fake, recognizer, shop, sounds[TURNS[0]], guessing, Outcome())  # warms up
        todo = [(name, g) for _ in range(repeats) for name in TURNS for g in (True, False)]
        for number, (name, guessing) in enumerate(todo):
            tell(f"guessing: turn {number + 1} of {len(todo)}")
            turn = await _one(fake, recognizer, shop, sounds[name], guessing, outcome)
            turn.clip = " + ".join(name)
            outcome.turns.append(turn)
    await asyncio.gather(recognizer.aclose(), shop.aclose())
    return _figures(outcome), outcome


def _figures(outcome: Outcome) -> list[Figure]:
    def of(guessing: bool) -> list[float | None]:
        return [t.text_ms for t in outcome.turns if t.guessing == guessing]

    with_, without = Figure("a", "", samples=tuple(of(True))), of(False)
    plain = Figure("without_guess", "caller's end → text, without guessing", samples=tuple(without))
    mean, base = with_.value("mean"), plain.value("mean")
    share = None if mean is None or not base else mean / base
    s = outcome.stats
    rows = [vars(turn) for turn in outcome.turns]
    return [
        replace(
            with_, name="with_guess", what="caller's end → text, guessing", details={"rows": rows}
        ),
        plain,
        Figure(
            "guess_share",
            f"the first mean ÷ the second, model of {FIRST_S * 1000:.0f} ms",
            "share",
            samples=(share,),
            goals=(Goal("worst", SHARE, "40 %"),),
        ),
        Figure(
            "guess_waste",
            "tokens thrown away ÷ tokens used",
            "share",
            samples=(s.waste,),
            goals=(Goal("worst", WASTE, "1.5"),),
            notes=(
                f"{s.started} started, {s.kept} kept, {s.discarded} discarded; {s.tokens_used} "
                f"tokens used, {s.tokens_discarded} thrown away; {s.resent} sent twice",
            ),
        ),
    ]


async def _one(
    fake: FakeModel,
    recognizer: Recognizer,
    shop: FlowMind,
    sound: tuple[Pcm, float],
    guessing: bool,
    outcome: Outcome,
) -> Turn:
    """One turn, in real time."""
    mind = VllmMind(VllmOptions(base_url=fake.url, temperature=0.0))
    await mind.start()
    session = _Session(mind.session(), shop.session())
    events: list[tuple[float, ev.EngineEvent]] = []
    now = asyncio.get_running_loop().time
    starts = FloorPolicy().most_starts if guessing else 0
    policy = FloorPolicy(no_input_ms=None, most_starts=starts)
    engine = Engine(
        Ears(load("vad", "fusion")(), recognizer.stream()),
        session,
        _Quiet(),
        lambda event: events.append((now(), event)),
        policy=policy,
    )
    running = asyncio.create_task(engine.run(), name="bench call")
    try:
        ended_at = await _speak(engine, *sound)
        kept = await _kept(session, engine)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await mind.aclose()
    if guessing:
        _add(outcome.stats, mind.speculation)
    turn = Turn("", guessing, starts=mind.speculation.started)
    if kept is not None and kept.text_at is not None:
        turn.text_ms = max(0.0, (kept.text_at - ended_at) * 1000)
    committed = [at for at, event in events if isinstance(event, ev.UserTurn)]
    if committed:
        turn.commit_ms = (committed[0] - ended_at) * 1000
    return turn


async def _speak(engine: Engine, pcm: Pcm, end_s: float) -> float:
    """Gives the sound to the engine in real time, silence after it; the time of its end."""
    now = asyncio.get_running_loop().time
    began = now()
    for n in range(len(pcm) // MIC_FRAME):
        await asyncio.sleep(max(0.0, began + (n + 1) * FRAME_MS / 1000 - now()))
        engine.push_mic(pcm[n * MIC_FRAME : (n + 1) * MIC_FRAME])
    return began + end_s


async def _kept(session: _Session, engine: Engine) -> _Timed | None:
    """The reply that the caller gets, once it is whole; the microphone sends silence meanwhile."""
    quiet = np.zeros(MIC_FRAME, np.int16)
    until = asyncio.get_running_loop().time() + LONGEST_AFTER_S
    while asyncio.get_running_loop().time() < until:
        kept = next((r for r in session.replies if r.was_wanted), None)
        if kept is not None and kept.whole.is_set():
            return kept
        engine.push_mic(quiet)
        await asyncio.sleep(FRAME_MS / 1000)
    return next((r for r in session.replies if r.was_wanted), None)


def _add(total: SpeculationStats, more: SpeculationStats) -> None:
    for name in SpeculationStats.__dataclass_fields__:
        setattr(total, name, getattr(total, name) + getattr(more, name))


def _turn(folder: Path, names: tuple[str, ...]) -> tuple[Pcm, float]:
    """16 kHz samples of a turn with silence before it, and when its last sound ends (s)."""
    about = {c["file"]: c for c in json.loads((folder / "manifest.json").read_text())}
    parts: list[Pcm] = [_silence(BEFORE_S)]
    end_s = 0.0
    for name in names:
        if end_s:
            parts = [np.concatenate(parts)[: round(end_s * MIC_HZ)], _silence(PAUSE_S)]
        pcm, rate = soundfile.read(folder / name, dtype="int16")
        begin_s = sum(map(len, parts)) / MIC_HZ
        parts.append(soxr.resample(pcm, rate, MIC_HZ).astype(np.int16) if rate != MIC_HZ else pcm)
        end_s = begin_s + float(about[name]["sound"][1])
    return np.concatenate(parts), end_s


def _silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * MIC_HZ), np.int16)
