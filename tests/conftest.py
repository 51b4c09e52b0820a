"""For all tests: on a CI machine hypothesis draws the same examples every time, so that a change
is judged by what it changed; elsewhere it keeps looking for new ones."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
