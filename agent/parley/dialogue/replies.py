"""The replies of a call: being made, being played, being cut; and what each means for the ledger.

At most one reply plays; at most one is committed; at most one is a speculation. The floor numbers
them and says what happens to them, this module carries it out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Literal

import numpy as np

from parley.dialogue import events as ev
from parley.dialogue.ledger import Ledger
from parley.dialogue.mixer import Fade, Mixer
from parley.dialogue.percepts import Sound
from parley.dialogue.speaking import Speaking
from parley.minds.base import HandOver, HangUp, MindEvent, Reply, TextDelta
from parley_speech.types import Pcm, Synthesizer

FEED_MS = 200
"""Audio handed to the mixer ahead of its frame."""


class Replies:
    """One call's. Not thread-safe: everything happens in the engine's tick."""

    def __init__(
        self,
        voice: Synthesizer,
        ledger: Ledger,
        emit: Callable[[ev.EngineEvent], None],
        now_ms: Callable[[], int],
    ) -> None:
        self.dry_frames = 0
        """Frames for which the voice was too slow."""
        self._voice = voice
        self._ledger = ledger
        self._emit = emit
        self._now = now_ms
        self._mixer = Mixer()
        self._making: dict[int, Speaking] = {}
        self._committed = -1
        self._playing: Speaking | None = None
        self._cutting = False
        self._closing: set[asyncio.Task[None]] = set()

    # --- what the floor perceives --------------------------------------------------------------

    def in_hand(self) -> tuple[int, Sound, int | None]:
        """(number, sound, remaining ms) of the committed reply, else of the speculated one."""
        hand = self._making.get(self._committed) or next(iter(self._making.values()), None)
        if hand is None:
            return -1, Sound.NONE, None
        return hand.number, self._sound(hand), self._remaining_ms(hand)

    def _sound(self, hand: Speaking) -> Sound:
        if hand is self._playing:
            return Sound.ENDED if hand.made and self._mixer.done else Sound.PLAYING
        if self._playing is not None and hand.sound is Sound.READY:
            return Sound.MAKING  # the one before it is still fading out
        return hand.sound

    def _remaining_ms(self, hand: Speaking) -> int | None:
        if hand is not self._playing or not hand.finished:
            return None
        return hand.held_ms + self._mixer.waiting_ms

    # --- what the floor decides ----------------------------------------------------------------

    def speculate(
        self, number: int, reply: Reply, *, must_answer: bool, may_call: bool = True
    ) -> None:
        self._making[number] = Speaking(
            number,
            reply,
            self._voice,
            must_answer=must_answer,
            may_call=may_call,
            on_error=self._failed,
        )

    def commit(self, number: int) -> None:
        self.let_go()  # the one before it, when both fall into one tick
        self._committed = number
        if (speaking := self._making.get(number)) is not None:
            speaking.wanted()

    def discard(self, number: int) -> None:
        speaking = self._making.pop(number, None)
        if speaking is not None:
            self._close(speaking)

    def refuse(self, number: int) -> None:
        """End a committed reply before it begins, its tool calls too. Idempotent."""
        speaking = self._making.get(number)
        if speaking is not None:
            speaking.calls.clear()
            self.cut(number)

    def speak(self, number: int) -> None:
        if self._making[number].settled:
            return  # refused
        speaking = self._playing = self._making[number]
        self._cutting = False
        speaking.commit()
        self._ledger.begin(number)
        self._mixer.open()

    def fade(self, fade: Fade) -> None:
        self._mixer.to(fade)

    def cut(self, number: int) -> None:
        """Stop the reply: fading when it plays, at once when it does not. Idempotent."""
        speaking = self._making.get(number)
        if speaking is None:
            return
        speaking.cancel()
        if speaking is self._playing:
            self._cutting = True
            self._mixer.to(Fade.STOP)
        else:
            self._settle(speaking, cut=True)

    def nod(self, text: str) -> None:
        """A listener's word, beside all replies."""
        self._own(asyncio.create_task(self._say_nod(text), name="parley-nod"))

    async def _say_nod(self, text: str) -> None:
        stream = self._voice.stream()
        try:
            stream.push(text)
            stream.end()
            parts = [chunk.pcm async for chunk in stream]
        finally:
            await stream.aclose()
        if parts:
            self._mixer.overlay(np.concatenate(parts))

    # --- a tick --------------------------------------------------------------------------------

    def play(self) -> Pcm:
        """The next loudspeaker frame, accounted for."""
        speaking = self._playing
        if speaking is not None:
            self._feed(speaking)
        mixed = self._mixer.frame()
        if speaking is None:
            return mixed.pcm
        self.dry_frames += mixed.dry
        self._emit(ev.ReplyFrame(self._now(), speaking.number, mixed.pcm))
        self._account(speaking.number, mixed.audible)
        if self._mixer.done:
            self._playing = None
            self._settle(speaking, cut=self._cutting or speaking.broken)
        return mixed.pcm

    def _feed(self, speaking: Speaking) -> None:
        for chunk in speaking.take(FEED_MS, self._mixer.waiting_ms):
            self._ledger.said(speaking.number, speaking.text)
            self._ledger.marked(speaking.number, chunk.marks)
            self._mixer.feed(chunk.pcm)
        if speaking.made:
            self._mixer.finish()

    def _account(self, number: int, audible: int) -> None:
        turn = self._ledger.begin(number)
        words = self._ledger.played(number, audible)
        if words:
            before = len(turn.text_until(turn.heard_words() - len(words)))
            self._emit(ev.ReplyWords(self._now(), number, turn.heard_text()[before:]))

    def _settle(self, speaking: Speaking, *, cut: bool) -> None:
        """It was played to its end, or cut, or had no sound. Happens once: a stop that comes in
        the tick after the last sample finds nothing to cut."""
        if speaking.settled:
            return
        speaking.settled = True
        number = speaking.number
        turn = self._ledger.turn(number)
        before = len(turn.heard_text()) if turn else 0
        if cut:
            self._ledger.cut(number)
        else:
            self._ledger.end(number, speaking.text)
        heard = turn.heard_text() if turn else ""
        if heard[before:]:  # what has no mark of its own: a closing bracket, a last dash
            self._emit(ev.ReplyWords(self._now(), number, heard[before:]))
        self._emit(ev.ReplyEnded(self._now(), number, heard, speaking.text, cut))
        if not cut:
            self._after(speaking.after)

    def _after(self, after: HandOver | HangUp | None) -> None:
        match after:
            case HandOver(to=to):
                self._emit(ev.HandedOver(self._now(), to))
            case HangUp():
                self._emit(ev.HungUp(self._now()))
            case None:
                pass

    def calls(self) -> None:
        """Announce what tools the committed reply has called."""
        speaking = self._making.get(self._committed)
        if speaking is None:
            return
        for call in speaking.take_calls():
            self._ledger.tool(call)
            self._emit(ev.ToolCalled(self._now(), speaking.number, call))

    def let_go(self) -> bool:
        """The floor has left the committed reply: settle and close it. True when there was one."""
        speaking = self._making.pop(self._committed, None)
        self._committed = -1
        if speaking is None:
            return False
        if self._ledger.turn(speaking.number) is None and not speaking.settled:
            speaking.commit()  # a reply without sound, only tool calls perhaps
            self._settle(speaking, cut=False)
        self._close(speaking)
        return True

    # --- letting go ----------------------------------------------------------------------------

    def _close(self, speaking: Speaking) -> None:
        speaking.cancel()
        name = f"parley-close-{speaking.number}"
        self._own(asyncio.create_task(speaking.aclose(), name=name))

    def _own(self, task: asyncio.Task[None]) -> None:
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _failed(self, where: Literal["mind", "voice"], error: BaseException) -> None:
        self._emit(ev.Failed(self._now(), where, str(error) or type(error).__name__))

    async def aclose(self) -> None:
        for speaking in self._making.values():
            self._close(speaking)
        self._making.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)


class FixedReply:
    """A reply whose words are given: session.say()."""

    def __init__(self, text: str | AsyncIterator[str]) -> None:
        self._text = text
        self._stopped = False

    async def __aiter__(self) -> AsyncIterator[MindEvent]:
        if isinstance(self._text, str):
            yield TextDelta(self._text)
            return
        async for delta in self._text:
            if self._stopped:
                return
            yield TextDelta(delta)

    def commit(self) -> None:
        """Nothing follows from it."""

    def cancel(self) -> None:
        self._stopped = True

    async def aclose(self) -> None:
        self.cancel()
