"""What a person sees of a conversation afterwards: recording, levels, picture and page.

Pure: arrays and files in, arrays and files out; no room, no clock of its own. Drawing needs the
``report`` extra (matplotlib, jinja2); everything else works without it.
"""

from __future__ import annotations
