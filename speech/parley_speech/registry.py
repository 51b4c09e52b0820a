"""Finds engines by name: every engine is an entry point of the group ``parley.<kind>``.

A third party adds an engine by declaring one in its own package, for example

    [project.entry-points."parley.tts"]
    mine = "my_package.voice:MySynthesizer"

Nothing is imported until it is asked for.
"""

from __future__ import annotations

import importlib.metadata
from typing import Final, Literal, get_args

from parley_speech.types import EngineUnavailable

Kind = Literal["vad", "asr", "tts", "mind", "turn_end"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

DISTRIBUTION = "parley"


def names(kind: Kind) -> list[str]:
    """The engines of a kind that are installed, sorted."""
    return sorted({point.name for point in _points(kind)})


def load(kind: Kind, name: str) -> type:
    """The class of the engine ``name`` of this kind.

    Raises EngineUnavailable when there is none of that name (the message lists those there are)
    or when its package lacks something it needs (the message names the extra that brings it).
    """
    candidates = [point for point in _points(kind) if point.name == name]
    if not candidates:
        raise EngineUnavailable(_unknown(kind, name))
    # Two packages may claim one name: ours wins, so that an engine cannot be taken over unseen.
    point = min(candidates, key=lambda p: (p.dist is None or p.dist.name != DISTRIBUTION, p.value))
    try:
        engine = point.load()
    except ImportError as error:
        raise EngineUnavailable(
            f"the {kind} engine {name!r} ({point.value}) cannot be imported: {error}. "
            f"{_advice(point)}"
        ) from error
    except AttributeError as error:
        raise EngineUnavailable(
            f"the {kind} engine {name!r} names {point.value}, which is not there: {error}. "
            f"{_advice(point)}"
        ) from error
    if not isinstance(engine, type):
        raise EngineUnavailable(
            f"the {kind} engine {name!r} ({point.value}) must be a class, "
            f"it is a {type(engine).__name__}"
        )
    return engine


def _points(kind: Kind) -> importlib.metadata.EntryPoints:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return importlib.metadata.entry_points(group=f"parley.{kind}")


def _unknown(kind: Kind, name: str) -> str:
    installed = names(kind)
    if installed:
        return (
            f"no {kind} engine {name!r} is installed; there are: {', '.join(installed)}. An engine "
            f"from another package appears here once that package is installed."
        )
    return (
        f"no {kind} engine {name!r}: no package that is installed declares any {kind} engine. "
        f"Install {DISTRIBUTION} itself (pip install {DISTRIBUTION}, or pip install -e . in its "
        "repository); running from its source folder alone is not enough."
    )


def _advice(point: importlib.metadata.EntryPoint) -> str:
    """How to get what an engine lacks: the distribution's extra of its name, else a reinstall."""
    owner = point.dist.name if point.dist is not None else DISTRIBUTION
    extras = point.dist.metadata.get_all("Provides-Extra") if point.dist is not None else None
    if point.name in (extras or []):
        return f"Install what it needs with: pip install '{owner}[{point.name}]'"
    return f"Reinstall {owner} with the extras you want: {', '.join(extras or []) or 'it has none'}"
