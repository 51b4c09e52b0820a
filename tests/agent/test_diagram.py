from __future__ import annotations

from pathlib import Path

from parley.dialogue.diagram import mermaid, page
from parley.dialogue.floor import TABLE


def test_the_page_in_the_documentation_is_the_generated_one() -> None:
    path = Path(__file__).parents[2] / "docs" / "floor.md"
    assert path.read_text() == page(), "run: python -m parley.dialogue.diagram > docs/floor.md"


def test_every_row_is_drawn() -> None:
    drawn = mermaid()
    for (_, event), row in TABLE.items():
        assert event.value in drawn
        assert all(act in drawn for act in row.acts)
