"""Decoding of one stream with pocketsphinx: searches, channel mean, words, confidence.

Runs in the child process. Knows streams of bytes and hypotheses, no pipes.

Settings, each measured on recorded and synthetic speech:
- ``fwdflat`` off: the final comes in 10 ms instead of 100, for 0.2 points of word errors;
- grammars with language weight 1 instead of 6.5, which lets short phrases win over long ones; the
  word insertion penalty is the decoder's own (1e-20 is right for nothing but digits; a loop of
  digits has a penalty of its own, see ``grammar.FURTHER_DIGIT``);
- grammars without ``bestpath``: its lattice costs 200 ms at the end of a 4 s utterance, and gives
  posteriors that say nothing about a grammar's match (area under the curve 0.5);
- an utterance is decoded anew when its channel mean has turned out to be far from the one it was
  begun with (see ``channel``): once in the first seconds of a call, seldom afterwards;
- in open English its later blocks are decoded with the mean as it is known by then, which costs
  nothing. Decoding anew costs the caller's time: 0.7 of the sound decoded so far, in which no new
  sound is. A grammar decodes ten times as fast and is decoded anew more often.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from parley_speech.asr import lexicon, scores
from parley_speech.asr.channel import CEPSTRA, HOP, ChannelMean, FloatArray, cepstra, distance
from parley_speech.asr.heard import Heard

BYTES_PER_MS = 32
BLOCK_MS = 100
"""Decoded in one go; then other streams have their turn, and a partial is looked for."""
OPEN = ""
"""Stands for the search with the open language model, as the source of no grammar."""
OPEN_SEARCH = "open"
GRAMMAR_OPTIONS = {"lw": 1.0, "wip": 0.65, "bestpath": False}
MOST_HMMS = {True: 300, False: 30_000}
"""Kept per frame, in a grammar or not. Noise keeps many: a car horn in a front desk's grammar cost
0.84 of a core without a bound and 0.35 with 300, speech was heard as well. The larger one is the
decoder's own."""
MAX_SEARCHES = 24
"""Compiled grammars kept per stream; a flow has about ten."""

RESTART_MS = {True: (600, 1500), False: (600,)}
"""Audio times at which an utterance may be decoded anew with a better mean, in a grammar or not."""
RESTART_AT_END_MS = 2500
"""A whole utterance in a grammar is decoded anew at its end only if it is no longer than this."""
STEER_MS = 700
"""Sound from which on open English follows the mean as it becomes known."""
RESTART_DISTANCE = 2.0
"""Distance of the means (see ``channel.distance``) that is worth it."""
MIN_SPEECH_FRAMES = 15
LEARN_FROM = 0.2
"""Least confidence of an utterance whose sound tells about the channel: a barking dog's does not,
and after another voice than before, what was learnt is to fade."""


@dataclass(slots=True)
class _Utterance:
    number: int
    source: str
    mean: FloatArray
    pcm: bytearray
    cepstra: list[FloatArray]
    fed: int = 0
    """Bytes decoded in the present pass."""
    reached: int = 0
    """... in the pass that came farthest."""
    measured: int = 0
    """Bytes whose cepstra are known."""
    restarts: int = 0
    ended: bool = False
    partial: str = ""


class Models:
    """What the streams of a child share, and the decoders that are ready for the next stream."""

    def __init__(self, pronunciations: dict[str, str], options: dict[str, Any]) -> None:
        """``options`` are settings of the decoder; raises RuntimeError for an unknown one."""
        import pocketsphinx

        self._ps = pocketsphinx
        self._options = {"loglevel": "FATAL", "fwdflat": False, **options}
        self._pronunciations = pronunciations
        self._spare: list[Any] = []
        first = self._decoder(None)
        self._lm = first.get_lm(OPEN_SEARCH)
        self._spare.append(first)

    def decoder(self) -> StreamDecoder:
        return StreamDecoder(self)

    def borrow(self) -> Any:
        return self._spare.pop() if self._spare else self._decoder(self._lm)

    def give_back(self, decoder: Any) -> None:
        """The next call starts without anything of this one."""
        decoder.activate_search(OPEN_SEARCH)
        decoder.reinit_feat()
        self._spare.append(decoder)

    def _decoder(self, lm: Any) -> Any:
        model_path = self._ps.get_model_path()
        decoder = self._ps.Decoder(lm=None, **self._options)
        for word, phones in self._pronunciations.items():
            decoder.add_word(word, phones, False)
        if lm is None:
            decoder.add_lm_file(OPEN_SEARCH, f"{model_path}/en-us/en-us.lm.bin")
        else:
            decoder.add_lm(OPEN_SEARCH, lm)
        decoder.activate_search(OPEN_SEARCH)
        return decoder


class StreamDecoder:
    """One stream. ``step`` does a little of the work that is there."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._decoder = models.borrow()
        self._channel = ChannelMean()
        self._searches: OrderedDict[str, str] = OrderedDict()  # source -> search, oldest use first
        self._compiled = 0
        self._now: _Utterance | None = None
        self.problems: list[str] = []

    def close(self) -> None:
        if self._now is not None:
            self._decoder.end_utt()
            self._now = None
        for search in self._searches.values():
            self._decoder.remove_search(search)
        self._searches.clear()
        self._models.give_back(self._decoder)

    # --- grammars ------------------------------------------------------------------------------

    def prepare(self, source: str) -> None:
        """Compiles a grammar (tens of ms), unless it is known. A grammar that cannot be compiled
        is a problem, and open English takes its place."""
        if source == OPEN or source in self._searches:
            return
        try:
            self._searches[source] = self._compile(source)
        except (RuntimeError, ValueError) as error:
            self.problems.append(f"a grammar could not be compiled: {error}: {source[:300]!r}")
            return
        if len(self._searches) > MAX_SEARCHES:
            _, oldest = self._searches.popitem(last=False)
            self._decoder.remove_search(oldest)

    def _compile(self, source: str) -> str:
        self._pronounce(source)
        self._compiled += 1
        search = f"grammar{self._compiled}"
        config = self._decoder.config
        before = {name: config[name] for name in GRAMMAR_OPTIONS}
        for name, value in GRAMMAR_OPTIONS.items():  # a search takes them over when it is made
            config[name] = value
        try:
            self._decoder.add_jsgf_string(search, source)
        finally:
            for name, value in before.items():
                config[name] = value
        return search

    def _pronounce(self, source: str) -> None:
        for word in lexicon.words_of(source):
            if self._decoder.lookup_word(word) is None:
                phones = lexicon.guess(word, self._decoder.lookup_word)
                self._decoder.add_word(word, phones, False)
                self.problems.append(
                    f"{word!r} is not in the dictionary; taken to be said {phones}. "
                    "Give the recogniser its pronunciation if that is wrong."
                )

    # --- utterances ----------------------------------------------------------------------------

    def begin(self, number: int, source: str) -> None:
        if self._now is not None:
            raise ValueError(f"utterance {number} begins before {self._now.number} has ended")
        self.prepare(source)
        if source in self._searches:
            self._searches.move_to_end(source)
        elif source != OPEN:
            source = OPEN
        mean = self._channel.estimate(np.empty((0, CEPSTRA)))
        self._now = _Utterance(number, source, mean, bytearray(), [])
        self._start()

    def push(self, pcm: bytes) -> None:
        if self._now is None:
            raise ValueError("audio came before its utterance began")
        self._now.pcm += pcm

    def end(self) -> None:
        if self._now is None:
            raise ValueError("an utterance ends that has not begun")
        self._now.ended = True

    @property
    def busy(self) -> bool:
        now = self._now
        return now is not None and (now.ended or now.fed < len(now.pcm))

    @property
    def taken(self) -> tuple[int, int] | None:
        """(utterance, bytes decoded)."""
        return None if self._now is None else (self._now.number, self._now.reached)

    def step(self) -> list[Heard]:
        """Decodes at most one block, or finishes the utterance when no audio is left."""
        now = self._now
        if now is None:
            return []
        if now.fed < len(now.pcm):
            return self._decode_block(now)
        return self._finish(now) if now.ended else []

    def _decode_block(self, now: _Utterance) -> list[Heard]:
        block = bytes(now.pcm[now.fed : now.fed + BLOCK_MS * BYTES_PER_MS])
        self._decoder.process_raw(block, False, False)
        now.fed += len(block)
        if now.fed < now.reached:
            return []  # still catching up after a restart
        now.reached = now.fed
        restart_ms = RESTART_MS[now.source != OPEN]
        if now.restarts < len(restart_ms) and now.fed >= restart_ms[now.restarts] * BYTES_PER_MS:
            now.restarts += 1
            if self._restart(now):
                return []
        if now.source == OPEN and now.fed >= STEER_MS * BYTES_PER_MS:
            self._steer(now)
        return self._partial(now)

    def _partial(self, now: _Utterance) -> list[Heard]:
        hypothesis = self._decoder.hyp()
        text = hypothesis.hypstr if hypothesis else ""
        if text == now.partial:
            return []
        now.partial = text
        return [self._heard(now, final=False)]

    def _finish(self, now: _Utterance) -> list[Heard]:
        short = len(now.pcm) <= RESTART_AT_END_MS * BYTES_PER_MS
        most = len(RESTART_MS[True])
        if short and now.source != OPEN and now.restarts <= most:
            now.restarts = most + 1
            if self._restart(now):
                return []
        self._decoder.end_utt()
        heard = self._heard(now, final=True)
        if heard.confidence >= LEARN_FROM:
            self._channel.learn(self._measure(now))
        else:
            self._channel.fade()
        self._now = None
        return [heard]

    # --- the channel mean ----------------------------------------------------------------------

    def _start(self) -> None:
        assert self._now is not None
        search = self._searches[self._now.source] if self._now.source else OPEN_SEARCH
        self._decoder.config["maxhmmpf"] = MOST_HMMS[self._now.source != OPEN]
        self._decoder.activate_search(search)
        self._set_mean(self._now.mean)
        self._decoder.start_utt()

    def _restart(self, now: _Utterance) -> bool:
        """Begins the utterance again with a better mean, if that is worth it."""
        mean = self._channel.estimate(self._measure(now))
        if self._channel.speech_frames < MIN_SPEECH_FRAMES:
            return False
        if distance(mean, now.mean) < RESTART_DISTANCE:
            return False
        self._decoder.end_utt()
        now.mean, now.fed = mean, 0
        self._start()
        return True

    def _steer(self, now: _Utterance) -> None:
        """What follows is decoded with the mean as it is known now."""
        mean = self._channel.estimate(self._measure(now))
        if self._channel.speech_frames >= MIN_SPEECH_FRAMES:
            now.mean = mean
            self._set_mean(mean)

    def _set_mean(self, mean: FloatArray) -> None:
        self._decoder.set_cmn(",".join(f"{value:.4f}" for value in mean))

    def _measure(self, now: _Utterance) -> FloatArray:
        """Cepstra of what has been decoded, (frames, 13). Not of all that has come: what is heard
        must not depend on how the audio was delivered."""
        pcm = np.frombuffer(now.pcm[now.measured : now.reached], "<i2").astype(np.int16)
        frames = cepstra(pcm)
        if len(frames):
            now.cepstra.append(frames)
            now.measured += 2 * HOP * len(frames)
        return np.concatenate(now.cepstra) if now.cepstra else frames

    def _heard(self, now: _Utterance, *, final: bool) -> Heard:
        found = tuple(scores.words(self._decoder))
        text = " ".join(word.text for word in found)
        in_grammar = now.source != OPEN
        confidence = scores.confidence(found, in_grammar=in_grammar)
        if not final and not in_grammar:
            confidence = min(confidence, scores.UNPROVEN)
        if final and in_grammar and not self._complete(now.source, text):
            confidence *= scores.INCOMPLETE
        words = tuple(
            (w.text, w.start_ms, w.end_ms, scores.confidence([w], in_grammar=in_grammar))
            for w in found
        )
        return Heard(now.number, text, final, words, confidence)

    def _complete(self, source: str, text: str) -> bool:
        """The grammar allows to stop after these words."""
        return bool(self._decoder.get_fsg(self._searches[source]).accept(text))
