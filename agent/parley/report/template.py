"""The pages' templates: jinja2 as all of them use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from parley.report.timeline import DrawingUnavailable

if TYPE_CHECKING:
    import jinja2


def template(folder: Path, what: str, **filters: Callable[..., str]) -> jinja2.Template:
    """``report.html.j2`` of a folder; ``what`` names the page in the error. ``filters`` are what
    it may call by these names.

    A name that is missing is an error, and what is filled in is escaped. Raises DrawingUnavailable
    without jinja2.
    """
    try:
        import jinja2
    except ImportError as error:
        raise DrawingUnavailable(f"{what} needs jinja2: pip install 'parley[report]'.") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template("report.html.j2")
