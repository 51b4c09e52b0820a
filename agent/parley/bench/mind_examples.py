"""Labelled examples for judgements: did the turn end here, what was meant by these words.

One JSON object a line::

    {"history": [["user", "hello"], ["agent", "Hello! How can I help you today?"]],
     "text": "what are your", "finished": false}
    {"history": [["user", "hello"], ["agent", "Hello! How can"]], "text": "mhm",
     "meant": "backchannel"}

``instructions`` may be given too. For the tiny chat model they are drawn from what it was taught.
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

from parley.minds.base import Cause, Context, Said

Meant = Literal["floor", "backchannel", "aside"]
MEANINGS: tuple[Meant, ...] = get_args(Meant)
TINY_SCRIPT = Path("scripts/train_tiny_chat.py")


@dataclass(frozen=True, slots=True)
class Example:
    context: Context
    """Its last item holds the words that are judged."""
    finished: bool | None = None
    meant: Meant | None = None


def read(path: Path) -> list[Example]:
    """Raises ValueError, which names the line that is wrong."""
    examples: list[Example] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            examples.append(_example(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {error!r} (see mind_examples.py)") from error
    return examples


def _example(entry: dict[str, object]) -> Example:
    history = entry.get("history", [])
    if not isinstance(history, list):
        raise ValueError("'history' is no list of [role, text]")
    items = [Said(_role(role), str(text)) for role, text in history]
    context = Context(
        Cause.USER,
        (*items, Said("user", str(entry["text"]))),
        instructions=str(entry.get("instructions", "")),
    )
    if "meant" in entry:
        meant = entry["meant"]
        found = next((m for m in MEANINGS if m == meant), None)
        if found is None:
            raise ValueError(f"'meant' is {meant!r}; expected one of {', '.join(MEANINGS)}")
        return Example(context, meant=found)
    finished = entry["finished"]
    if not isinstance(finished, bool):
        raise ValueError("'finished' is neither true nor false")
    return Example(context, finished=finished)


def _role(role: object) -> Literal["user", "agent"]:
    if role == "user":
        return "user"
    if role == "agent":
        return "agent"
    raise ValueError(f"role {role!r}; expected user or agent")


def tiny(seed: int, n: int) -> list[Example]:
    """``n`` of each kind, drawn as the tiny chat model's own dialogues are."""
    script = _script()
    rng = random.Random(seed)
    return [*_ends(script, rng, n), *_overlaps(script, rng, n)]


def _ends(script: ModuleType, rng: random.Random, n: int) -> Iterator[Example]:
    turns = [turns[0][1] for _, turns, _ in script.exchanges()]
    for _ in range(n):
        words = rng.choice(turns).split()
        heard = rng.randint(1, len(words))
        said = Said("user", " ".join(words[:heard]))
        context = Context(Cause.USER, (said,), instructions=rng.choice(script.SYSTEMS))
        yield Example(context, finished=heard == len(words))


def _overlaps(script: ModuleType, rng: random.Random, n: int) -> Iterator[Example]:
    table = script.OVERLAPS
    for _ in range(n):
        words = rng.choice(list(table))
        letters = [letter for letter, times in table[words].items() for _ in range(times)]
        question, answer = rng.choice(script.SMALL_TALK[:4])
        heard = " ".join(answer.split()[: rng.randint(2, 5)])
        items = (Said("user", question), Said("agent", heard), Said("user", words))
        context = Context(Cause.USER, items, instructions=rng.choice(script.SYSTEMS))
        yield Example(context, meant=MEANINGS["ABC".index(rng.choice(letters))])


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_tiny_chat", TINY_SCRIPT)
    if spec is None or spec.loader is None or not TINY_SCRIPT.is_file():
        raise ValueError(f"{TINY_SCRIPT} is not here: run this in the repository's root")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
