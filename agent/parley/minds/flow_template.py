"""The words of a flow with what the caller told us filled in.

    Your order {order:digits} {orders[order].status}.

``{slot}`` is the slot's value, ``{slot:digits}`` its digits one by one, ``{table[slot]}`` what a
table holds under it and ``{table[slot].field}`` one field of that; ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from parley.minds.flow_numbers import say_digits
from parley.minds.flow_schema import Record

_NAME = r"[A-Za-z_]\w*"
_HOLE = re.compile(
    rf"(?P<table>{_NAME})\[(?P<key>{_NAME})\](?:\.(?P<field>{_NAME}))?"
    rf"|(?P<slot>{_NAME})(?::(?P<style>digits))?"
)
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Hole:
    slot: str
    table: str = ""
    """Where to look the slot's value up; empty: the value itself."""
    field: str = ""
    digits: bool = False


Template = tuple[str | Hole, ...]


def parse(text: str) -> Template:
    """Raises ValueError with what was expected."""
    parts: list[str | Hole] = []
    at = 0
    for found in _PIECE.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found.group() in ("{{", "}}"):
            parts.append(found.group()[0])
        elif found.group(1) is None:
            raise ValueError(f"a single {found.group()!r} in {text!r}; write it twice to speak one")
        else:
            parts.append(_hole(found.group(1)))
    parts.append(text[at:])
    return tuple(part for part in parts if part != "")


def render(
    template: Template, slots: Mapping[str, str], data: Mapping[str, Mapping[str, Record]]
) -> str:
    """``flow_check`` has made sure that every slot is set and every key is in its table."""
    return "".join(part if isinstance(part, str) else _fill(part, slots, data) for part in template)


def _hole(inside: str) -> Hole:
    found = _HOLE.fullmatch(inside.strip())
    if found is None:
        raise ValueError(
            f"{{{inside}}} is not understood; expected {{slot}}, {{slot:digits}}, "
            "{table[slot]} or {table[slot].field}"
        )
    if found["table"]:
        return Hole(found["key"], found["table"], found["field"] or "")
    return Hole(found["slot"], digits=bool(found["style"]))


def _fill(hole: Hole, slots: Mapping[str, str], data: Mapping[str, Mapping[str, Record]]) -> str:
    value = slots[hole.slot]
    if hole.table:
        record = data[hole.table][value]
        return record if isinstance(record, str) else record[hole.field]
    return say_digits(value) if hole.digits else value
