"""The merged vocabulary: text and speech ids of CosyVoice 2's token LM in one table.

The published checkpoint holds three embeddings (text, speech, two marks) and a head over speech
only. A server of ordinary language models knows one table, so they are laid end to end, as
upstream's export for reinforcement learning does:

    0 .. offset-1     text (with the rows that pad the text table)
    offset .. +S-1    speech tokens 0..S-1
    +S, +S+1, +S+2    end of speech, a second end (never used), fill ("give me more text")
    +S+3, +S+4        start of sequence, "speech follows from here" (task)
    …                 rows of zeros up to a multiple of 128
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PAD_TO = 128
SPECIAL_SPEECH_ROWS = 3
"""Rows of the speech embedding and of the head beyond the speech tokens: eos, eos2, fill."""
MARK_ROWS = 2
"""Rows of the third embedding: start of sequence, task."""
CONFIG_KEY = "parley_speech"


@dataclass(frozen=True, slots=True)
class MergedVocabulary:
    offset: int
    """Id of speech token 0, which is the number of text rows."""
    speech_tokens: int
    """S: 6561 in the published model."""

    @property
    def eos(self) -> int:
        return self.offset + self.speech_tokens

    @property
    def eos2(self) -> int:
        return self.eos + 1

    @property
    def fill(self) -> int:
        return self.eos + 2

    @property
    def sos(self) -> int:
        return self.eos + 3

    @property
    def task(self) -> int:
        return self.eos + 4

    @property
    def ends(self) -> frozenset[int]:
        """Ids beyond the speech tokens: none of them is followed by speech."""
        return frozenset((self.eos, self.eos2, self.fill))

    @property
    def head_rows(self) -> int:
        """Ids that the head can give: the speech tokens and the three beyond them."""
        return self.speech_tokens + SPECIAL_SPEECH_ROWS

    @property
    def size(self) -> int:
        rows = self.offset + self.head_rows + MARK_ROWS
        return -(-rows // PAD_TO) * PAD_TO

    def speech(self, token: int) -> int:
        """The merged id of a speech token."""
        if not 0 <= token < self.speech_tokens:
            raise ValueError(
                f"{token} is no speech token: expected 0..{self.speech_tokens - 1}; was the voice "
                "made with another speech tokenizer?"
            )
        return self.offset + token

    def text(self, token: int) -> int:
        if not 0 <= token < self.offset:
            raise ValueError(f"{token} is no text id: expected 0..{self.offset - 1}")
        return token

    def as_config(self) -> dict[str, int]:
        """What a converted checkpoint's config.json says under `CONFIG_KEY`."""
        return {"speech_offset": self.offset, "speech_tokens": self.speech_tokens}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MergedVocabulary:
        found = config.get(CONFIG_KEY)
        if not isinstance(found, dict):
            raise ValueError(
                f"config.json has no {CONFIG_KEY!r} entry: it was not written by the converter "
                "(parley_speech.lm.convert); convert the published checkpoint"
            )
        return cls(int(found["speech_offset"]), int(found["speech_tokens"]))
