"""The bench of a whole utterance: every hop of the original once, whatever interrupts it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from decoder_tiny import tiny_decoder, tiny_prompt

from parley.bench.voice_total import (
    HopCost,
    Pieces,
    Settings,
    TotalCost,
    code_digest,
    total_cost,
)

SETTINGS = Settings(speech_s=8, left_chunks=4, threads=1, torch="2", code="a")


def test_every_hop_is_measured_once_over_many_runs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pieces.json"
    decoder, voice = tiny_decoder(left_chunks=4), tiny_prompt(50)
    found = None
    for run in range(3):
        pieces = Pieces(path, SETTINGS)
        assert len(pieces.hops) == min(2 * run, 4)
        found = total_cost(decoder, voice, pieces, at_most=2)
        assert found.complete == (run > 0)
    assert found is not None
    # 200 tokens: 25, 50, 100, and the last 25; three are looked ahead to but by the last.
    shape = [(hop.first, hop.given, hop.chunks) for hop in found.hops]
    assert shape == [(0, 28, 1), (25, 78, 2), (75, 178, 4), (175, 200, 1)]
    assert all(hop.recomputed_ms > 0 and hop.cached_ms > 0 for hop in found.hops)
    assert all(hop.chunkwise_ms > 0 for hop in found.hops)
    assert json.loads(json.dumps(found.told()))["complete"]


def test_hops_of_other_code_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "pieces.json"
    Pieces(path, SETTINGS).add(HopCost(0, 28, 1, 3.0, 1.0, 1.0))
    assert len(Pieces(path, SETTINGS).hops) == 1
    assert Pieces(path, replace(SETTINGS, code="b")).hops == []
    assert len(code_digest()) == 16


def test_savings_are_of_sums_and_only_a_whole_utterance_reaches_the_goal() -> None:
    hops = (HopCost(0, 28, 1, 10.0, 10.0, 10.0), HopCost(25, 78, 2, 90.0, 10.0, 15.0))
    whole = TotalCost(SETTINGS, hops, complete=True)
    assert (whole.recomputed_ms, whole.saving, whole.chunkwise_saving) == (100.0, 5.0, 4.0)
    assert whole.reached and not replace(whole, complete=False).reached
    assert whole.told()["hops"][1]["chunkwise_ms"] == 15.0
