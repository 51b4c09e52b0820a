"""How CosyVoice 2 is served, from the environment (PARLEY_COSYVOICE2_*).

**The past that the flow sees** (``LEFT_CHUNKS``, seconds besides the reference speech and the
second that is made). The published ``cosyvoice2.yaml`` says -1, all of it. Then a chunk costs more
the older a call is, and a call of 30 s holds 7 GB in float32: no GPU holds many such calls. The
original was served with 2, without its reference, while it had a cache (January to May 2025).
So a service keeps `SERVED_LEFT_CHUNKS` and the reference; ``all`` is the published setting, to
the digit. A bound that a checkpoint's own file states is kept, whatever is set here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVED_LEFT_CHUNKS = 4
ALL = -1


class CosyVoice2Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="PARLEY_COSYVOICE2_", extra="ignore", protected_namespaces=()
    )

    model: str = Field("", description="a checkpoint's folder, or its name on the hub")
    left_chunks: int = Field(
        SERVED_LEFT_CHUNKS,
        ge=ALL,
        description="seconds of its own past that the flow sees; all: the published setting",
    )
    slots: int = Field(
        32,
        ge=1,
        description="utterances that the token LM has at once; those that wait for text"
        " count. Fewer than a server's calls make calls wait",
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the flow; the vocoder stays in float32"
    )
    compiled: bool = Field(False, description="the flow through torch.compile, on a GPU")
    pronunciations: Path | None = Field(
        None, description="a YAML file of words, or words in a row, and how each is spoken"
    )
    warm_up: bool = Field(True, description="speak once, unheard, before the first caller")

    @field_validator("left_chunks", mode="before")
    @classmethod
    def _all_is_a_word(cls, value: object) -> object:
        return ALL if isinstance(value, str) and value.strip().lower() == "all" else value


def read_pronunciations(path: Path) -> dict[str, str]:
    """The overrides of `TextFrontEnd` from a file. Raises ValueError, which names it."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"pronunciations {path} cannot be read: {error}") from error
    pairs = found.items() if isinstance(found, dict) else [(found, None)]
    wrong = [key for key, spoken in pairs if not (isinstance(key, str) and isinstance(spoken, str))]
    if wrong:
        raise ValueError(
            f"pronunciations {path}: {wrong[0]!r} is not as expected; write one line for each, "
            '"SQL: sequel", both sides in quotes where they look like a number'
        )
    return dict(pairs)


def left_chunks_of(folder: Path, wanted: int) -> int:
    """``wanted``, unless the checkpoint's own settings bound the past. Raises CheckpointError."""
    from parley_speech.codec.cosyvoice2.config import read_settings

    stated = read_settings(folder)[0].left_chunks
    return stated if stated >= 0 else wanted
