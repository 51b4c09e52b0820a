"""First chunks come first: who has audio in hand gives way while somebody still waits for any.

An utterance that begins keeps its listener in silence; one that runs has a buffer. While any
utterance of the server waits for its first chunk, those whose listener has more than `KEEP_S` in
hand are not asked for more, so that neither the voice nor the network works on what is not needed
yet. Nobody gives way so long that his own buffer runs dry.
"""

from __future__ import annotations

import asyncio
import contextlib

KEEP_S = 0.06
"""What a listener should always have in hand: more than a chunk that is made takes to be sent. Each
chunk that is sent while others wait costs them: with 0.2 s the last of eight first chunks came 5 ms
later."""


class FirstChunks:
    """The utterances of a server that have text and no audio yet."""

    def __init__(self) -> None:
        self._waiting: set[object] = set()
        self._none = asyncio.Event()
        self._none.set()

    def awaited(self, who: object) -> None:
        """It has text now. Idempotent."""
        self._waiting.add(who)
        self._none.clear()

    def came(self, who: object) -> None:
        """It has audio, or has ended. Idempotent."""
        self._waiting.discard(who)
        if not self._waiting:
            self._none.set()

    async def give_way(self, in_hand_s: float) -> None:
        """Returns when nobody waits, or as little as `KEEP_S` is left of what is in hand."""
        if not self._waiting or in_hand_s <= KEEP_S:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(in_hand_s - KEEP_S):
                await self._none.wait()
