"""What there is to know of one published codec LM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from parley_speech.lm.segments import Allowed, Rule


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    licence: str
    prompt: tuple[int | str, ...]
    """What is fed before the speech: ids, and texts to tokenise with ``{voice}`` and ``{text}``."""
    audio_offset: int
    """The id of code 0 in the first slot of a frame."""
    codes: int
    """Entries of each codebook; code c of slot s has the id audio_offset + s * codes + c."""
    layout: tuple[int, ...]
    """A frame: for each slot the codebook its code belongs to."""
    ends: tuple[int, ...]
    """Ids that end the speech; possible only between frames."""
    rule: Rule
    frame_rate_hz: float
    decoder: str
    """Which decoder of this package turns the codes into sound."""
    context: int = 8192
    voices: tuple[str, ...] = ()
    """Names that the model knows, the first is the default; empty: any."""
    window: tuple[int, int] = (0, 0)
    """Frames of context that the decoder needs on the left and right of a frame."""
    notes: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.layout or self.codes < 1 or not self.ends or not self.prompt:
            raise ValueError(f"recipe {self.name!r} needs a prompt, a layout, codes and ends")

    @property
    def slots(self) -> int:
        """Tokens of one frame."""
        return len(self.layout)

    @property
    def allowed(self) -> Allowed:
        return Allowed(low=self.audio_offset, width=self.codes, cycle=self.slots, ends=self.ends)

    def code(self, token_id: int, position: int) -> int:
        """The code that an id stands for as token number ``position`` of the speech.

        Raises:
            ValueError: it is none of that position's slot.
        """
        slot = position % self.slots
        code = token_id - self.audio_offset - slot * self.codes
        if not 0 <= code < self.codes:
            raise ValueError(
                f"{self.name}: id {token_id} is no code of slot {slot}: expected "
                f"{token_id - code}..{token_id - code + self.codes - 1}"
            )
        return code

    def voice(self, name: str) -> str:
        """The voice to name in the prompt."""
        if self.voices and name and name not in self.voices:
            raise ValueError(f"{self.name} has no voice {name!r}: it has {', '.join(self.voices)}")
        return name or (self.voices[0] if self.voices else "")


def levels(codes: Sequence[int], layout: Sequence[int]) -> list[list[int]]:
    """Whole frames of codes, one after the other, to one list for each codebook."""
    if len(codes) % len(layout):
        raise ValueError(f"{len(codes)} codes are no whole frames of {len(layout)}")
    result: list[list[int]] = [[] for _ in range(max(layout) + 1)]
    for position, code in enumerate(codes):
        result[layout[position % len(layout)]].append(code)
    return result


ORPHEUS = Recipe(
    name="orpheus",
    licence="Apache-2.0 (code); weights canopylabs/orpheus-3b-0.1-ft: see their model card",
    # start of human, start of text, text, end of text, end of human, start of AI, start of speech
    prompt=(128259, 128000, "{voice}: {text}", 128009, 128260, 128261, 128257),
    audio_offset=128266,
    codes=4096,
    layout=(0, 1, 2, 2, 1, 2, 2),
    ends=(128258,),
    rule=Rule(top_p=0.8, top_k=0, temperature=0.6, repetition_penalty=1.3, window=0, tau=0.0),
    frame_rate_hz=24000 / 2048,
    decoder="snac",
    voices=("tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe"),
    # SNAC sees 4,750 samples to either side, 2.3 frames of 2,048.
    window=(3, 3),
    notes="Emotion tags such as <laugh> or <sigh> are written in the text.",
)

RECIPES = {recipe.name: recipe for recipe in (ORPHEUS,)}
