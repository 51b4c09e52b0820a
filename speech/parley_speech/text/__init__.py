"""The text front end of a codec-token voice: source text as it is written, spoken text out.

`markup` knows what stands for a pause, `lexer` cuts a stream of deltas into words that cannot
change any more, `speaking` says how one is read out (`locales` has the tables, `numbers` the
figures), `front_end` joins them and keeps the way back to the source.
"""

from __future__ import annotations

from parley_speech.text.front_end import Break, Spoken, TextFrontEnd
from parley_speech.text.markup import shown

__all__ = ["Break", "Spoken", "TextFrontEnd", "shown"]
