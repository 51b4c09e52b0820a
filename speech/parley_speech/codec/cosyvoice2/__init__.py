"""CosyVoice 2's token decoder: speech tokens at 25 Hz to sound at 24 kHz.

    tokens ─ encoder (looks 3 tokens ahead) ─ flow matching, 10 Euler steps ─ mel ─ HiFT ─ samples

Recipe: CosyVoice 2 (arXiv 2412.10117) and the published checkpoint's files. The code is our own;
every network runs the same modules on a whole utterance or on one chunk after the other
(`memory.py`), so that the two can be compared number by number.
"""

from __future__ import annotations
