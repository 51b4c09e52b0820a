from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conversation import WALL, clip, conversation
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.report.events import (
    Event,
    ReportError,
    ducked_spans,
    floor_states,
    latencies,
    load_events,
    transcript,
)
from parley.report.layout import clean
from parley.report.levels import (
    FLOOR_DBFS,
    Span,
    align,
    clicks,
    gaps,
    level_dbfs,
    levels_dbfs,
    sounds,
)
from parley.report.page import make_scene, stamp, write_report
from parley.report.recording import Recorder, Recording, Run
from parley.report.theme import LIGHT
from parley.report.timeline import Row, draw
from parley_speech.types import Pcm

HZ = 24_000


def tone(seconds: float, hz: float = 500.0, amplitude: float = 16_384.0) -> Pcm:
    t = np.arange(round(seconds * HZ)) / HZ
    return np.rint(amplitude * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def silence(seconds: float) -> Pcm:
    return np.zeros(round(seconds * HZ), np.int16)


# --- levels -----------------------------------------------------------------------------------


def test_levels_are_those_of_known_signals() -> None:
    pcm = np.concatenate((tone(0.1), silence(0.05), tone(0.1, amplitude=1638.4)))
    levels = levels_dbfs(pcm, HZ)
    assert levels.shape == (25,)
    assert levels[:10] == pytest.approx(-9.03, abs=0.02)  # half amplitude, a sine: -6.02 - 3.01
    assert (levels[10:15] == FLOOR_DBFS).all()
    assert levels[15:] == pytest.approx(-29.03, abs=0.02)
    assert level_dbfs(tone(0.1)) == pytest.approx(-9.03, abs=0.02)
    assert level_dbfs(silence(0)) == FLOOR_DBFS
    assert levels_dbfs(silence(0), HZ).size == 0
    assert levels_dbfs(tone(0.0104), HZ).size == 2


def test_sounds_are_found_to_the_millisecond_and_joined_over_short_pauses() -> None:
    pcm = np.concatenate(
        (silence(0.1234), tone(0.2), silence(0.06), tone(0.1), silence(0.5), tone(0.03), silence(1))
    )
    found = sounds(pcm, HZ, join_ms=100)
    assert [s.start_s for s in found] == pytest.approx([0.1234, 0.9834], abs=0.001)
    assert [s.end_s for s in found] == pytest.approx([0.4834, 1.0134], abs=0.001)
    assert len(sounds(pcm, HZ, join_ms=100, least_ms=50)) == 1
    assert len(sounds(pcm, HZ, join_ms=20)) == 3
    assert sounds(silence(1), HZ) == []


def test_a_gap_is_a_hole_between_sounds_and_not_the_silence_around_them() -> None:
    pcm = np.concatenate((silence(0.3), tone(0.2), silence(0.04), tone(0.2), silence(0.3)))
    found = gaps(pcm, HZ)
    assert len(found) == 1
    assert found[0].length_s == pytest.approx(0.04, abs=0.002)
    assert gaps(pcm, HZ, least_ms=60) == []


def test_a_cut_without_a_ramp_clicks_and_one_with_a_ramp_does_not() -> None:
    whole = tone(1.0, hz=311)
    cut = whole.copy()
    at = round(0.5 * HZ) + 19  # not at a zero
    cut[at:] = 0
    assert clicks(cut, HZ) == pytest.approx([at / HZ], abs=0.0002)
    ramped = whole.astype(float)
    ramped[at : at + 240] *= np.linspace(1, 0, 240)
    ramped[at + 240 :] = 0
    assert clicks(ramped.astype(np.int16), HZ).size == 0
    assert clicks(whole, HZ).size == 0
    lost = np.concatenate((whole[:6000], whole[6000 + 227 :]))
    assert clicks(lost, HZ) == pytest.approx([0.25], abs=0.0002)


@pytest.mark.parametrize("name", ["human_vm_intro", "caller_order_status", "read_jfk"])
def test_speech_does_not_click(name: str) -> None:
    assert clicks(clip(name), HZ).size == 0


# --- alignment --------------------------------------------------------------------------------


def worn(pcm: Pcm, rng: np.random.Generator) -> np.ndarray:
    """As after a codec and a long way: duller, noisy, 3 dB softer."""
    dull = np.convolve(pcm.astype(float), np.hanning(9) / np.hanning(9).sum(), "same")
    return dull * 0.7 + rng.normal(0, 40, pcm.size)


def test_alignment_finds_delay_duck_and_cut_of_a_worn_copy() -> None:
    rng = np.random.default_rng(1)
    reference = clip("human_vm_intro")
    heard = worn(reference, rng)
    heard[round(1.0 * HZ) : round(1.5 * HZ)] *= 10 ** (-15 / 20)
    heard[round(3.0 * HZ) :] = rng.normal(0, 4, reference.size - round(3.0 * HZ))
    recording = np.concatenate((silence(0.7331), heard.astype(np.int16), silence(0.5)))
    found = align(reference, recording, HZ)
    assert found.delay_s == pytest.approx(0.7331, abs=0.0002)
    loud = found.gain_db[:90]
    assert np.nanmedian(loud) == pytest.approx(-3.1, abs=0.7)
    ducked = found.gain_db[105:145]
    assert np.nanmedian(ducked) == pytest.approx(-18.1, abs=1.0)
    cut = found.cut_s()
    assert cut is not None
    assert cut == pytest.approx(3.0, abs=0.05)
    longest = max(found.quieter(than_db=-9), key=lambda span: span.length_s)
    assert longest.start_s == pytest.approx(1.0, abs=0.05)
    assert longest.end_s == pytest.approx(1.5, abs=0.05)


def test_alignment_follows_a_jitter_buffer_that_drops_some_milliseconds() -> None:
    reference = clip("read_lj001_0002")
    half = reference.size // 2
    dropped = round(0.012 * HZ)
    recording = np.concatenate((silence(0.2), reference[:half], reference[half + dropped :]))
    found = align(reference, recording, HZ)
    assert found.delays_s[10] == pytest.approx(0.2, abs=0.001)
    assert found.delays_s[-10] == pytest.approx(0.2 - 0.012, abs=0.001)
    assert found.score > 0.9
    assert np.nanmedian(found.gain_db) == pytest.approx(0, abs=0.1)
    assert found.cut_s() is None


def test_what_is_not_there_scores_low_and_silence_has_no_gain() -> None:
    found = align(clip("human_vm_intro"), clip("read_jfk"), HZ)
    assert found.score < 0.5
    assert np.isnan(align(silence(0.5), tone(0.5), HZ).gain_db).all()
    gone = align(clip("caller_yes"), silence(2.0), HZ)
    assert gone.cut_s() == 0.0
    with pytest.raises(ValueError, match="at least one sample"):
        align(silence(0), tone(0.1), HZ)


# --- recording --------------------------------------------------------------------------------


@given(
    delays=st.lists(st.floats(0, 0.018), min_size=20, max_size=120),
    rate_hz=st.sampled_from([8_000, 24_000, 48_000]),
)
@settings(max_examples=60, deadline=None)
def test_a_jittery_track_is_recorded_without_gap_at_its_least_delay(
    delays: list[float], rate_hz: int
) -> None:
    run = Run(rate_hz)
    size = rate_hz // 100
    for i, delay in enumerate(delays):
        run.append(np.full(size, i, np.int16), 1000.0 + i * 0.01 + delay)
    (segment,) = run.segments()
    assert segment.at == pytest.approx(1000.0 + min(delays), abs=1e-6)
    np.testing.assert_array_equal(segment.pcm, np.repeat(np.arange(len(delays)), size))


def test_a_stall_of_the_reader_leaves_no_trace_and_a_hole_of_the_track_does() -> None:
    run = Run(HZ)
    for i in range(300):
        at = i * 0.01
        stalled = max(at, 1.4) if at >= 1.0 else at  # 0.4 s of frames come at once
        run.append(np.full(240, 7, np.int16), stalled + (0.25 if i >= 250 else 0.0))
    first, second = run.segments()
    assert first.at == 0.0
    assert first.pcm.size == 250 * 240
    assert second.at == pytest.approx(2.75)


def test_both_sides_lie_on_one_time_line_whatever_their_rates() -> None:
    recorder = Recorder()
    caller, agent = recorder.caller_run(8_000), recorder.agent_run(HZ)
    for i in range(100):
        caller.append(np.full(80, 0 if i != 50 else 9_000, np.int16), 500.0 + i * 0.01)
        agent.append(np.full(240, 0 if i != 70 else 5_000, np.int16), 500.1 + i * 0.01)
    again = recorder.agent_run(HZ)
    again.append(np.full(240, 30_000, np.int16), 500.80)  # sounds over the first track's frame 70
    recording = recorder.recording()
    assert recording.started_at == 500.0
    assert recording.duration_s == pytest.approx(1.1, abs=0.001)
    (mine,) = sounds(recording.caller, HZ, threshold_dbfs=-20)
    assert 500.0 + mine.start_s == pytest.approx(500.5, abs=0.001)
    assert recording.agent[recording.sample_at(500.805)] == 32767  # 35,000 is limited, not wrapped
    assert not recording.agent[: recording.sample_at(500.799)].any()
    part = recording.between(500.75, 9999.0)
    assert part.started_at == pytest.approx(500.75)
    assert part.duration_s == pytest.approx(0.35, abs=0.001)


def test_a_piece_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"int16 of shape \(samples,\), not float64 of \(3, 2\)"):
        Run(HZ).append(np.zeros((3, 2)), 0.0)
    with pytest.raises(ValueError, match="Nothing was recorded"):
        Recorder().recording()


def test_a_recording_comes_back_from_its_file(tmp_path: Path) -> None:
    pcm = np.stack((tone(0.3), tone(0.3, 700)), axis=1)
    path = Recording(pcm, HZ, 1_790_000_000.123456).save(tmp_path / "deep" / "call.wav")
    back = Recording.load(path)
    np.testing.assert_array_equal(back.pcm, pcm)
    assert (back.rate_hz, back.started_at) == (HZ, 1_790_000_000.123456)


def test_a_mono_file_is_no_recording() -> None:
    path = Path(__file__).parents[1] / "data" / "audio" / "caller_yes.flac"
    with pytest.raises(ValueError, match=r"has 1 channel\(s\); a recording has two"):
        Recording.load(path)


# --- events -----------------------------------------------------------------------------------


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_events_are_read_sorted_and_unknown_kinds_are_kept(tmp_path: Path) -> None:
    lines = [{"t": 2, "kind": "brandnew", "x": [1]}, {"t": 0.5, "kind": "act", "name": "Duck"}]
    path = written(tmp_path, "\n\n".join(map(json.dumps, lines)) + "\n")
    assert load_events(path) == [
        Event(0.5, "act", {"name": "Duck"}),
        Event(2.0, "brandnew", {"x": [1]}),
    ]
    assert load_events(written(tmp_path, "")) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{broken", "line 2: not JSON"),
        ("[1]", "line 2: an event is a JSON object, not list"),
        ('{"kind": "act"}', 'line 2: "t" must be seconds since the call began, not None'),
        ('{"t": true, "kind": "act"}', '"t" must be seconds'),
        ('{"t": NaN, "kind": "act"}', '"t" must be seconds'),
        ('{"t": 1, "kind": 3}', '"kind" must be a name, not 3'),
    ],
)
def test_a_broken_line_is_told_by_its_number(line: str, fault: str, tmp_path: Path) -> None:
    path = written(tmp_path, '{"t": 0, "kind": "floor", "state": "x"}\n' + line + "\n")
    with pytest.raises(ReportError, match=re.escape(fault)):
        load_events(path)


def test_a_last_line_without_its_end_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, '{"t": 0, "kind": "act", "name": "Listen"}\n{"t": 1, "ki')
    assert len(load_events(path)) == 1
    assert "line 2 is not complete" in caplog.text


def test_floor_states_last_until_the_next_and_ducks_until_their_end() -> None:
    events = [
        Event(0.0, "floor", {"state": "listening"}),
        Event(1.0, "floor", {"state": "speaking"}),
        Event(1.5, "act", {"name": "Duck"}),
        Event(1.9, "act", {"name": "Unduck"}),
        Event(3.0, "act", {"name": "Duck"}),
    ]
    assert floor_states(events, 4.0) == [
        (Span(0.0, 1.0), "listening"),
        (Span(1.0, 4.0), "speaking"),
    ]
    assert ducked_spans(events, 4.0) == [Span(1.5, 1.9), Span(3.0, 4.0)]


def test_the_transcript_has_turns_in_order_with_what_was_not_heard() -> None:
    _, events = conversation()
    scene = make_scene(*conversation(), "x")
    lines = scene.lines
    assert [line.who for line in lines] == [
        "agent", "caller", "agent", "caller", "agent", "agent", "caller",
    ]  # fmt: skip
    cut = next(line for line in lines if line.cut)
    assert cut.text.endswith("press the pound")
    assert cut.unheard == "key."
    assert [line.start_s for line in lines if line.who == "caller"] == pytest.approx(
        [2.49, 9.5, 32.0], abs=0.15
    )
    # Without sounds and words a turn is placed at its end.
    bare = transcript([e for e in events if e.kind == "user_turn"])
    assert all(line.start_s == line.end_s for line in bare)
    told = transcript([Event(9.0, "user_turn", {"text": "hm", "start": 7.5})])
    assert (told[0].start_s, told[0].end_s) == (7.5, 9.0)


def test_latencies_are_summed_up_by_name() -> None:
    events = [Event(0, "latency", {"name": "reply", "ms": ms}) for ms in range(1, 101)]
    events += [Event(0, "latency", {"name": "odd", "ms": v}) for v in ("x", None, True)]
    (reply,) = latencies(events)
    assert (reply.name, reply.count) == ("reply", 100)
    assert (reply.p50_ms, reply.p95_ms, reply.max_ms) == pytest.approx((50.5, 95.05, 100))


# --- picture and page -------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser would take from the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of the made-up conversation, in which somebody tries to be clever."""
    recording, events = conversation()
    attack = "</td></script><script>alert(1)</script><img src=x onerror=alert(2)>"
    events += [
        Event(14.0, "user_turn", {"text": attack}),
        Event(14.1, "error", {"message": attack}),
        Event(14.2, "latency", {"name": attack, "ms": 5}),
        Event(14.3, attack, {attack: attack}),
        Event(14.4, "floor", {"state": attack}),
        Event(14.5, "agent_word", {"text": "$\\frac{ \x00 \n😀 漢字"}),
    ]
    events.sort(key=lambda event: event.t)
    return write_report(tmp_path_factory.mktemp("report"), recording, events, title=attack)


def test_the_page_needs_nothing_from_outside(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    addresses = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action") and value
    ]
    assert len(addresses) == 3  # two pictures and the sound
    assert all(address.startswith("data:") for address in addresses)
    assert page.all("audio")[0]["src"].startswith("data:audio/flac;base64,")  # type: ignore[union-attr]
    assert not page.all("link")


def test_texts_stay_texts(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    shown = " ".join(page.text)
    assert shown.count("<script>alert(1)</script>") >= 5
    assert "Check order 1 2 3 4 5, <please> & it cost $5 or $6." in shown


def test_rows_seek_to_where_the_turn_is_in_the_sound(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    rows = [a for a in page.all("tr") if a.get("class") in ("caller", "agent")]
    assert len(rows) == 8
    starts = [float(row["data-at"] or "nan") for row in rows]
    assert starts == sorted(starts)
    assert starts[1] == pytest.approx(2.49, abs=0.15)


def test_the_picture_has_a_row_for_each_twenty_seconds(tmp_path: Path, report: Path) -> None:
    picture = (report.parent / "timeline.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    recording, events = conversation()
    rows = draw(make_scene(recording, events, "x"), tmp_path / "t.png", LIGHT)
    assert [(row.start_s, row.end_s) for row in rows] == [(0, 20), (20, 40)]
    assert 0 < rows[0].top < rows[0].bottom < rows[1].top < rows[1].bottom < 1
    image = pixels(tmp_path / "t.png")
    # The caller's first words (2.5 to 4.4 s) are drawn in the caller's colour, there and not later.
    assert has_colour(image, rows[0], 2.6, 4.0, LIGHT.caller)
    assert not has_colour(image, rows[0], 5.2, 5.6, LIGHT.caller, above_text=False)
    assert has_colour(image, rows[0], 5.2, 5.6, LIGHT.agent)


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.rint(imread(path)[..., :3] * 255).astype(int)


def has_colour(
    image: np.ndarray, row: Row, start: float, end: float, colour: str, above_text: bool = True
) -> bool:
    """Whether a stretch of a row's voices (its middle, without the texts) holds a colour."""
    height, width = image.shape[:2]
    xs = [
        round(
            width
            * (row.left + (row.right - row.left) * (t - row.start_s) / (row.end_s - row.start_s))
        )
        for t in (start, end)
    ]
    top = row.top + (row.bottom - row.top) * (0.3 if not above_text else 0.25)
    bottom = row.top + (row.bottom - row.top) * 0.72
    part = image[round(height * top) : round(height * bottom), xs[0] : xs[1]]
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return bool((np.abs(part - wanted).max(axis=-1) <= 2).sum() > 20)


def test_the_recordings_clock_and_the_calls_are_brought_together() -> None:
    recording, events = conversation()
    later = Recording(recording.pcm, recording.rate_hz, WALL + 1.5)
    assert make_scene(later, events, "x").offset_s == pytest.approx(1.5)
    without = [event for event in events if event.kind != "start"]
    assert make_scene(later, without, "x").offset_s == 0.0


def test_a_call_with_nothing_in_it_makes_a_report_too(tmp_path: Path) -> None:
    empty = Recording(np.zeros((HZ, 2), np.int16), HZ, 0.0)
    page = Page(write_report(tmp_path, empty, []).read_text(encoding="utf-8"))
    assert "Nobody's turn was completed." in " ".join(page.text)


def test_a_long_call_is_linked_and_keeps_its_picture_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.report.page.EMBED_BYTES", 1000)
    monkeypatch.setattr("parley.report.timeline.MOST_ROWS", 2)
    pcm = np.stack((np.tile(tone(1.0), 61), np.zeros(61 * HZ, np.int16)), axis=1)
    recording = Recording(pcm, HZ, 0.0).save(tmp_path / "call.wav")
    events = written(tmp_path, '{"t": 1, "kind": "act", "name": "Listen"}\n')
    page = Page(write_report(tmp_path, recording, events).read_text(encoding="utf-8"))
    assert page.all("audio")[0]["src"] == "recording.flac"
    assert Recording.load(tmp_path / "recording.flac").pcm.shape == pcm.shape
    rows = draw(make_scene(Recording.load(recording), [], "x"), tmp_path / "t.png")
    assert [row.end_s for row in rows] == [31, 62]


def test_small_formats() -> None:
    assert [stamp(t) for t in (0, 59.96, 61.26, -0.5)] == ["0:00.0", "1:00.0", "1:01.3", "-0:00.5"]
    assert clean(" a\x00b\n") == "a b"
