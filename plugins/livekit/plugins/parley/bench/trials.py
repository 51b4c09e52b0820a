"""What the caller does in a call of the bench, and what is kept of it for the judges."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from livekit.plugins.parley.caller import Caller

from parley.bench.instant import Rendering
from parley.bench.records import Trial
from parley_speech.types import MIC_HZ, SPEAKER_HZ, Pcm

REPLY_WAIT_S = 5.0
"""The longest wait for an answer: above the floor's longest, with its network."""
NUDGES = 5
STOP_WAIT_S = 2.0
"""An agent that speaks this long after an interruption has ended was not interrupted."""
SETTLE_S = 1.3
"""After a sound over the agent: the floor's deadline, and the way back up."""
RESERVE_S = 3.0
"""A sound is not begun when less than its length and this is left of a reply."""


class NoAnswer(RuntimeError):
    """The agent does not speak though it was asked to, again and again."""


@dataclass(frozen=True)
class Clip:
    """A sound of the caller's."""

    name: str
    pcm: Pcm
    """(samples,) at 16 kHz."""
    sound: tuple[float, float]
    """First and last audible second."""
    what: str = "speech"
    """speech, backchannel or noise."""
    gain_db: float = 0.0


Tick = Callable[[], None]
"""Called after each trial, for the progress bar."""


class Talk:
    """The caller's side of one call with an agent that answers."""

    def __init__(
        self, caller: Caller, question: Clip, rendering: Rendering, rng: random.Random, tick: Tick
    ) -> None:
        self.trials: list[Trial] = []
        self._caller = caller
        self._question = question
        self._length_s = len(rendering.pcm) / SPEAKER_HZ
        self._rng = rng
        self._tick = tick

    async def interrupt(
        self, clips: Sequence[Clip], ranges_s: Sequence[tuple[float, float]]
    ) -> None:
        """Interrupts a reply with each clip; what the clip says is answered by the next reply."""
        await self._say(self._question)
        for number, clip in enumerate(clips):
            began = await self._answer()
            aimed = self._rng.uniform(*ranges_s[number % len(ranges_s)])
            await self._say(clip, at=began + aimed - clip.sound[0], aimed_s=aimed)
            await self._silence()
            self._tick()
        await self._answer()

    async def sound_over(self, clips: Sequence[Clip]) -> None:
        """Makes each sound over a reply that goes on, if all is well."""
        began = None
        for clip in clips:
            length_s = len(clip.pcm) / MIC_HZ
            left_s = 0.0 if began is None else began + self._length_s - self._caller.now()
            if began is not None and left_s < length_s + RESERVE_S:
                await self._caller.wait_silence(800, timeout_s=self._length_s)
                began = None
            if began is None:
                await self._say(self._question)
                began = await self._answer()
            elif not self._agent_sounds():  # it was stopped; perhaps it takes that for a turn
                began = await self._answer(STOP_WAIT_S)
            await self._say(clip, at=self._caller.now() + self._rng.uniform(0.8, 1.2))
            # What it did shows within this time; there is no event to wait for if it did nothing.
            await asyncio.sleep(SETTLE_S)
            self._tick()

    async def _say(
        self, clip: Clip, *, at: float | None = None, aimed_s: float | None = None
    ) -> None:
        said = self._caller.say(clip.pcm, at=at, gain_db=clip.gain_db, rate_hz=MIC_HZ)
        started = await said
        self.trials.append(
            Trial(
                clip.name,
                clip.what,
                clip.gain_db,
                started + clip.sound[0],
                started + clip.sound[1],
                aimed_s,
            )
        )

    async def _answer(self, wait_s: float = REPLY_WAIT_S) -> float:
        """When the agent began to speak, or now if it does; it is asked again if it does not."""
        for _ in range(NUDGES):
            try:
                return await self._caller.wait_speech(timeout_s=wait_s)
            except TimeoutError:
                wait_s = REPLY_WAIT_S
                await self._say(self._question)
        try:
            return await self._caller.wait_speech(timeout_s=REPLY_WAIT_S)
        except TimeoutError as e:
            raise NoAnswer(
                f"The agent did not answer {NUDGES + 1} questions: see the worker's log and the "
                "call's journal in the folder of the results."
            ) from e

    async def _silence(self) -> None:
        """Until the agent is silent, or has plainly not been interrupted."""
        try:
            await self._caller.wait_silence(300, timeout_s=STOP_WAIT_S)
        except TimeoutError:
            return  # the judge sees that this interruption failed

    def _agent_sounds(self) -> bool:
        heard = self._caller.sounds
        return bool(heard) and heard[-1].end > self._caller.now() - 0.5


async def listen_to_monologue(caller: Caller, replies: int, reply_s: float) -> None:
    """Says nothing until the agent has spoken its replies."""
    await caller.wait_speech()
    await caller.wait_silence(2500, timeout_s=replies * (reply_s + 3))
