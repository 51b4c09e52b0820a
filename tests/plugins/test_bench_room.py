"""The bench of the room, at its smallest: real rooms, the real worker, figures that hang together.

How good the figures are is the bench's to say, not the test's: a busy machine must not fail it.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from livekit.plugins.parley.bench import room
from livekit.plugins.parley.bench.clips import Clips
from livekit.plugins.parley.bench.cost import CpuMeter
from livekit.plugins.parley.bench.sizes import Size
from rich.console import Console

from parley.bench.instant import Rendering
from parley.bench.judge import figures
from parley.bench.judged import judge_call
from parley.bench.scenarios import INTERRUPTIONS, NOISES

CLIPS = Path(__file__).parents[1] / "data" / "audio"


@pytest.mark.room
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_an_interruption_is_measured_in_a_real_room(tmp_path: Path) -> None:
    size = Size(2, 1, 1, 3, 1, 1, 1, 1, 4)
    results, renderings = await room.measure(
        tmp_path, Clips(CLIPS), Console(quiet=True), size=size, only="interruptions"
    )
    assert results.failures == []
    assert all(10 < ms < 2000 for ms in results.clicks_ms)
    (call,) = results.calls["interruptions"]
    assert sum(trial.aimed_s is not None for trial in call.trials) == 2
    assert call.agent["over"] and call.agent["stats"]["ticks"] > 100
    assert call.cpu_percent is not None and call.cpu_percent > 1
    judged = judge_call(call, renderings)
    assert judged.replies, "no reply was recognised in the recording"
    heard, known = judged.replies[0]
    assert known is not None and known.waited_ms is not None
    assert 0 < heard.start - known.at < 2
    found = {f.name: f for f in figures(results.calls, renderings, results.clicks_ms)}
    assert found["reply"].n >= 1
    assert (tmp_path / "calls" / f"{call.room}.flac").is_file()


async def test_clips_are_dealt_evenly_and_the_same_for_one_seed() -> None:
    import random

    clips = Clips(CLIPS)
    dealt = [clip.name for clip in clips.interruptions(28, random.Random(5))]
    assert sorted(dealt) == sorted([*INTERRUPTIONS, *INTERRUPTIONS])
    assert dealt == [clip.name for clip in clips.interruptions(28, random.Random(5))]
    sounds = await clips.sounds(20, random.Random(5))
    assert sum(clip.what == "noise" for clip in sounds) == 8
    assert {clip.name for clip in sounds if clip.what == "noise"} == set(NOISES)
    assert all(
        0 <= clip.sound[0] < clip.sound[1] <= len(clip.pcm) / 16_000 + 0.01 for clip in sounds
    )


def test_clips_without_a_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--clips"):
        Clips(tmp_path)


async def test_the_voice_is_rendered_with_every_word_marked() -> None:
    renderings = await room._render()
    assert all(isinstance(r, Rendering) for r in renderings.values())
    for text, rendering in renderings.items():
        assert [mark.text for mark in rendering.marks] == text.split()


def test_the_meter_sees_work_and_idleness() -> None:
    meter = CpuMeter(os.getpid())
    sum(i * i for i in range(2_000_000))
    meter.stop()
    assert meter.percent is not None and meter.percent > 5
    assert CpuMeter.of({}) is None


async def test_jobs_run_a_few_at_a_time_and_all_of_them() -> None:
    running, most, done = 0, 0, 0

    async def job() -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        done += 1

    await room._in_lanes([job] * 7)
    assert done == 7 and most <= room.LANES
