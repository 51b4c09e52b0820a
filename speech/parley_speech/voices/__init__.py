"""Voices: a reference recording, what it says, whose it is; and what a model makes of it.

`library` keeps voices as folders, `reference` judges a recording, `conditioning` computes a
model's prompt from it once and keeps it.
"""

from __future__ import annotations
