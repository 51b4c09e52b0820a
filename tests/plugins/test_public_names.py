"""What ``from livekit.plugins import parley`` offers, whatever was imported before."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
from livekit.plugins import parley


@pytest.mark.parametrize("name", sorted(set(parley.__all__) - {"__version__"}))
def test_a_name_is_the_thing_itself_and_stays_it(name: str) -> None:
    first, second = getattr(parley, name), getattr(parley, name)
    assert first is second and callable(first) and not isinstance(first, ModuleType)


def test_no_module_takes_the_place_of_what_it_offers() -> None:
    """An app that asks for the model first, then for the session's options, as the README shows."""
    code = (
        "from livekit.plugins import parley\n"
        "parley.FullDuplex\n"
        "assert 'vad' in parley.session_options(), parley.session_options\n"
        "assert parley.start.__name__ == 'start'\n"
        "assert parley.start.__name__ == 'start'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = parley.nothing_of_the_kind
