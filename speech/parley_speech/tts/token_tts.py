"""A codec-token voice: text deltas in, PCM and word marks out, many calls on one model.

    text ─ front end ─ pieces ─┬─ token LM ─ decoding thread ─ PCM ─┬─ chunks with marks
                               └────────── words of a piece ────────┘

Here the models are held that all streams share. `token_pieces` cuts text into what the LM speaks in
one go, `token_stream` is one utterance, `token_decoding` the thread that makes sound of tokens.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

from parley_speech.text import TextFrontEnd
from parley_speech.token_voice import TokenDecoder, TokenLm, TokenPrompt
from parley_speech.tts.token_decoding import MAX_BATCH, DecodingThread
from parley_speech.tts.token_stream import TokenSpeechStream
from parley_speech.types import SPEAKER_HZ

TOKEN_RATE_HZ = 25.0  # of CosyVoice 2


class TokenSynthesizer:
    """Meets `parley_speech.types.Synthesizer`.

    Args:
        lm, decoder: the two models; the decoder is used on a thread of its own, and by nobody else.
        prompt: the voice.
        front_end: makes one stream's text front end.
        token_rate_hz: speech tokens per second of sound.
        max_batch: calls in one step of the decoder.
        close_anywhere: the decoder's ``close`` may interrupt a step (see `DecodingThread`).
    """

    def __init__(
        self,
        lm: TokenLm,
        decoder: TokenDecoder,
        prompt: TokenPrompt,
        *,
        front_end: Callable[[], TextFrontEnd] = TextFrontEnd,
        token_rate_hz: float = TOKEN_RATE_HZ,
        max_batch: int = MAX_BATCH,
        close_anywhere: bool = False,
    ) -> None:
        self.lm, self.decoder, self.prompt = lm, decoder, prompt
        self.decoding = DecodingThread(decoder, max_batch=max_batch, close_anywhere=close_anywhere)
        self.samples_per_token = SPEAKER_HZ / token_rate_hz
        self._front_end = front_end
        self._started = False
        self._streams: weakref.WeakSet[TokenSpeechStream] = weakref.WeakSet()

    async def start(self) -> None:
        """Loads the LM and readies the decoder for the voice. Idempotent."""
        if self._started:
            return
        await self.lm.start()
        self.decoding.start()
        await self.prepare(self.prompt)
        self._started = True

    async def prepare(self, prompt: TokenPrompt) -> None:
        """Does now what the decoder does once per voice, if it can be asked to."""
        ready: Callable[[TokenPrompt], object] | None = getattr(self.decoder, "prepare", None)
        if ready is not None:
            await asyncio.wrap_future(self.decoding.do(lambda: ready(prompt)))

    def stream(
        self, *, prompt: TokenPrompt | None = None, front_end: TextFrontEnd | None = None
    ) -> TokenSpeechStream:
        """One utterance, on the running event loop; in another voice if a prompt is given."""
        if not self._started:
            raise RuntimeError("the synthesizer is not started: await start() before stream()")
        stream = TokenSpeechStream(self, prompt or self.prompt, front_end or self._front_end())
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """Cancels what still speaks. The engine may be started again."""
        self._started = False
        for stream in list(self._streams):
            await stream.aclose()
        await asyncio.to_thread(self.decoding.stop)
        await self.lm.aclose()
