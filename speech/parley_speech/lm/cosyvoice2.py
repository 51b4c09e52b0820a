"""CosyVoice 2's token LM on any engine; meets `parley_speech.token_voice.TokenLm`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parley_speech.lm.checkpoint import BACKBONE
from parley_speech.lm.engine import Engine, Load
from parley_speech.lm.errors import EngineDied, LmError
from parley_speech.lm.interleave import InterleavedPlan, Quirks, Utterance, WholePlan
from parley_speech.lm.segments import RAS, Dice, Rule
from parley_speech.lm.stream import PlannedStream
from parley_speech.lm.vocabulary import MergedVocabulary
from parley_speech.lm.words import COSYVOICE2_MARKS, TextIds, TextTokenizer
from parley_speech.token_voice import TokenPrompt

END_OF_PROMPT = "<|endofprompt|>"
"""Separates an instruction from the text."""
MARKS = 2
"""Start of sequence, and task."""


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    rule: Rule = RAS
    quirks: Quirks = field(default_factory=Quirks)
    whole_text: bool = False
    """Wait for all text and use the layout that is made for it; first sound comes later."""


class CosyVoice2Lm:
    """What the engines share: prompts and text to ids, ids to a plan, a plan to a stream."""

    def __init__(self, options: SpeechOptions | None = None) -> None:
        self.options = options or SpeechOptions()
        self._engine: Engine | None = None
        self._vocabulary: MergedVocabulary | None = None
        self._tokenizer: TextTokenizer | None = None

    @property
    def load(self) -> Load:
        return self._engine.load if self._engine else Load(0, 0, 0, 0.0, ready=False)

    @property
    def vocabulary(self) -> MergedVocabulary:
        if self._vocabulary is None:
            raise EngineDied("the token LM is not started: await start() first")
        return self._vocabulary

    def utterance(self, prompt: TokenPrompt, *, seed: int | None = None) -> PlannedStream:
        """Text by ``push``; needs the tokenizer's files in the checkpoint.

        With an instruction the voice is left to the decoder alone, as upstream does; a prompt
        without a text (another language, say) leaves out its speech as well.
        """
        text, speech = self._prompt(prompt)
        return self.utterance_of_ids(text, speech, seed=seed)

    def room(self, prompt: TokenPrompt) -> int:
        """Tokens, text and speech together, that an utterance in this voice can have."""
        if self._engine is None:
            raise EngineDied("the token LM is not started: await start() first")
        text, speech = self._prompt(prompt)
        return max(0, self._engine.context - MARKS - len(text) - len(speech))

    def _prompt(self, prompt: TokenPrompt) -> tuple[Sequence[int], Sequence[int]]:
        """Text ids and speech tokens that stand before an utterance's own."""
        if self._tokenizer is None:
            raise LmError(
                "this checkpoint has no tokenizer files: put tokenizer.json, or vocab.json and "
                f"merges.txt, into {BACKBONE}, or use utterance_of_ids"
            )
        if prompt.instruction:
            return self._tokenizer.encode(prompt.instruction + END_OF_PROMPT), ()
        text = self._tokenizer.encode(prompt.text)
        return text, prompt.tokens if text else ()

    def utterance_of_ids(
        self,
        prompt_text: Sequence[int],
        prompt_speech: Sequence[int],
        *,
        seed: int | None = None,
        draws: Sequence[Sequence[float]] = (),
    ) -> PlannedStream:
        """As `utterance`, with the prompt as text ids and speech tokens. ``draws``: recorded
        random numbers to use, one tuple for each token (see `Dice`)."""
        if self._engine is None:
            raise EngineDied("the token LM is not started: await start() first")
        options = self.options
        said = Utterance(
            ids=self.vocabulary,
            limit=self._engine.context,
            prompt_text=tuple(map(self.vocabulary.text, prompt_text)),
            prompt_speech=tuple(prompt_speech),
            window=options.rule.window,
        )
        plan = WholePlan(said) if options.whole_text else InterleavedPlan(said, options.quirks)
        dice = Dice(
            secrets.randbits(63) if seed is None else seed, tuple(tuple(row) for row in draws)
        )
        return PlannedStream(self._engine, plan, options.rule, dice, self._text())

    def _text(self) -> TextIds | None:
        """What makes ids of one utterance's text; None: it can only be pushed as ids."""
        return self._tokenizer.stream() if self._tokenizer else None

    def _use(self, engine: Engine, vocabulary: MergedVocabulary, tokenizer_in: Path) -> None:
        self._engine, self._vocabulary = engine, vocabulary
        self._tokenizer = TextTokenizer.load(tokenizer_in, COSYVOICE2_MARKS)

    async def aclose(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()
