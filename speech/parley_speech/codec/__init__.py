"""Codec tokens to sound. Each package here is one published token decoder; torch is imported in
their modules, not by this one."""

from __future__ import annotations
