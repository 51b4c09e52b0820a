"""A codec LM by its recipe, on vLLM or transformers; meets `parley_speech.token_voice.TokenLm`.

These models read the whole text before they speak, so the first token comes after ``end()``.
Only ids that make whole frames can be sampled: the slot's own codes, and the end between frames.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from parley_speech.codec_lm.recipe import Recipe
from parley_speech.lm.engine import Engine, Load
from parley_speech.lm.errors import EngineDied, LmError, UtteranceTooLong
from parley_speech.lm.segments import Dice, Segment
from parley_speech.lm.stream import PlannedStream
from parley_speech.lm.words import TextTokenizer
from parley_speech.token_voice import TokenPrompt


class PromptPlan:
    """Meets `parley_speech.lm.segments.Plan`: the prompt, then speech to its end. Pure.

    What is fed to it is the prompt, tokenised.
    """

    def __init__(self, recipe: Recipe, limit: int) -> None:
        self._recipe, self._limit = recipe, limit
        self._prompt: list[int] = []
        self._spoken = self._most = 0
        self._ended = self._asked = self.finished = False

    def feed(self, text_ids: Sequence[int]) -> None:
        self._prompt.extend(text_ids)
        if len(self._prompt) > self._limit:
            raise UtteranceTooLong(
                f"a prompt of {len(self._prompt)} tokens does not fit into {self._limit}: split "
                "the text into shorter utterances"
            )

    def end(self) -> None:
        self._ended = True

    def next(self) -> Segment | None:
        if not self._ended or self._asked:
            return None
        self._asked = True
        self._most = self._limit - len(self._prompt)
        if self._most < self._recipe.slots + 1:
            raise UtteranceTooLong(
                f"a prompt of {len(self._prompt)} tokens leaves no room to speak in {self._limit}"
            )
        return Segment(
            feed=tuple(self._prompt),
            max_tokens=self._most,
            stops=frozenset(self._recipe.ends),
            allowed=self._recipe.allowed,
            last=True,
        )

    def take(self, token: int) -> int | None:
        if token in self._recipe.ends:
            self.finished = True
            return None
        code = self._recipe.code(token, self._spoken)
        self._spoken += 1
        if self._spoken >= self._most:
            self.finished = True
            raise UtteranceTooLong(
                f"the context of {self._limit} tokens was full after {self._spoken} tokens of "
                "speech: split the text into shorter utterances"
            )
        return code


class TemplateText:
    """Meets `parley_speech.lm.words.TextIds`: text that goes into a recipe's prompt."""

    def __init__(self, recipe: Recipe, voice: str, encode: Callable[[str], list[int]]) -> None:
        self._recipe, self._voice, self._encode = recipe, voice, encode
        self._text = ""

    def push(self, text: str) -> list[int]:
        self._text += text
        return []

    def end(self) -> list[int]:
        if not self._text.strip():
            return []
        ids: list[int] = []
        for part in self._recipe.prompt:
            if isinstance(part, int):
                ids.append(part)
            else:
                # Not str.format: the text may hold braces.
                filled = part.replace("{voice}", self._voice).replace("{text}", self._text)
                ids += self._encode(filled)
        return ids


class _SilentPlan(PromptPlan):
    """Ends at once when there is nothing to say."""

    def next(self) -> Segment | None:
        if self._ended and not self._prompt:
            self.finished = True
            return None
        return super().next()


class CodecLm:
    """``engine``: a `VllmEngine` or `TransformersEngine` on the model's folder."""

    def __init__(self, recipe: Recipe, folder: Path, engine: Engine) -> None:
        self.recipe, self._folder, self._engine = recipe, folder, engine
        self._tokenizer: TextTokenizer | None = None
        self._started = False

    @property
    def load(self) -> Load:
        return self._engine.load

    async def start(self) -> None:
        await self._engine.start()
        self._tokenizer = TextTokenizer.load(self._folder)
        self._started = True

    def utterance(self, prompt: TokenPrompt, *, seed: int | None = None) -> PlannedStream:
        """``prompt.name`` is the voice; its reference is not used by these models."""
        if self._tokenizer is None:
            raise LmError(f"{self._folder} has no tokenizer.json: push ids to utterance_of_ids")
        text = TemplateText(self.recipe, self.recipe.voice(prompt.name), self._tokenizer.encode)
        return self._stream(text, seed)

    def utterance_of_ids(self, *, seed: int | None = None) -> PlannedStream:
        """An utterance whose whole prompt is pushed as ids."""
        return self._stream(None, seed)

    def room(self, prompt: TokenPrompt) -> int:
        """Tokens, text and speech together, that an utterance in this voice can have."""
        if self._tokenizer is None:
            raise LmError(f"{self._folder} has no tokenizer.json: push ids to utterance_of_ids")
        text = TemplateText(self.recipe, self.recipe.voice(prompt.name), self._tokenizer.encode)
        text.push(".")
        return max(0, self._limit - len(text.end()))

    @property
    def _limit(self) -> int:
        return min(self._engine.context, self.recipe.context)

    def _stream(self, text: TemplateText | None, seed: int | None) -> PlannedStream:
        if not self._started:
            raise EngineDied("the codec LM is not started: await start() first")
        dice = Dice(secrets.randbits(63) if seed is None else seed)
        plan = _SilentPlan(self.recipe, self._limit)
        return PlannedStream(self._engine, plan, self.recipe.rule, dice, text)

    async def aclose(self) -> None:
        self._started = False
        await self._engine.aclose()
