"""The bench of the room: `parley bench room`."""

from __future__ import annotations
