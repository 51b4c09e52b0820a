"""The instruments of ``parley bench mind``: the model of 200 ms, the counters, the pages."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from parley.bench import mind, mind_calls, mind_latency
from parley.bench.figures import Figure, Goal
from parley.bench.mind_calibration import Point, curve
from parley.bench.mind_examples import MEANINGS, tiny
from parley.bench.mind_fake import ANSWER, fake_model
from parley.bench.mind_prefix import _speak
from parley.bench.mind_report import MindRun, as_json, cells, table, write
from parley.bench.mind_server import Metrics, ServerUnavailable, vllm
from parley.bench.mind_speculation import (
    BEFORE_S,
    PAUSE_S,
    TURNS,
    Outcome,
    Turn,
    _figures,
    _turn,
)
from parley.bench.stolen import Stolen
from parley.dialogue.ledger import Ledger
from parley.minds.base import Cause, Context, Said, TextDelta
from parley.minds.speculation import SpeculationStats
from parley.minds.vllm import VllmMind, VllmOptions

ROOT = Path(__file__).resolve().parents[2]
HELLO = Context(Cause.USER, (Said("user", "hello"),), speculative=True)


# --- the model of 200 ms ------------------------------------------------------------------------


async def test_the_fake_gives_its_answer_in_pieces_that_join():
    """A guess ends at its bound and is continued: word for word the whole answer."""
    async with fake_model() as fake:
        model = VllmMind(VllmOptions(base_url=fake.url, speculative_tokens=9))
        await model.start()
        assert model.served.vllm
        reply = model.session().reply(HELLO)
        texts: list[str] = []
        async for event in reply:
            assert isinstance(event, TextDelta)
            texts.append(event.text)
            if len(texts) == 3:
                reply.wanted()  # type: ignore[union-attr]
        assert "".join(texts).split() == ANSWER
        await reply.aclose()
        assert (fake.asked, fake.tokens) == (2, len(ANSWER))
        assert model.speculation.tokens_used == len(ANSWER)
        await model.aclose()


async def test_the_fake_stops_when_its_caller_leaves():
    async with fake_model() as fake:
        model = VllmMind(VllmOptions(base_url=fake.url))
        await model.start()
        reply = model.session().reply(HELLO)
        await anext(aiter(reply))
        await reply.aclose()
        given = fake.tokens
        other = model.session().reply(HELLO)
        assert len([e async for e in other]) > 5
        await other.aclose()
        assert fake.tokens - given <= len(ANSWER) + 2
        await model.aclose()


# --- instruments --------------------------------------------------------------------------------


Answer = Callable[[web.Request], web.Response]


@asynccontextmanager
async def counts_of(answer: Answer) -> AsyncIterator[Metrics]:
    """Of a server that answers so."""

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.headers["accept-encoding"] == "identity"
        return answer(request)

    app = web.Application()
    app.router.add_get("/metrics", handle)
    app.router.add_get("/metrics/", handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as client:
        yield Metrics(client, str(server.make_url("/v1")))


async def test_counters_are_summed_over_labels():
    page = (
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{engine="0",model_name="a"} 2.0\n'
        'vllm:num_requests_running{engine="1",model_name="a"} 1.0\n'
        "python_gc 9\nvllm:prefix_cache_hits_total 1.5e3\n"
    )
    async with counts_of(lambda _: web.Response(text=page)) as metrics:
        assert (await metrics.read())["vllm:prefix_cache_hits_total"] == 1500


@pytest.mark.parametrize("filtered", [True, False])
async def test_running_requests_are_asked_for_alone_where_the_server_can(filtered: bool):
    asked: list[str] = []

    def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path == "/metrics/":
            assert request.query["name[]"] == "vllm:num_requests_running"
            if not filtered:
                return web.Response(status=404)
        page = 'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_running{engine="1"} 1'
        return web.Response(text=page)

    async with counts_of(answer) as metrics:
        assert await metrics.running() == 3
    assert asked == (["/metrics/"] if filtered else ["/metrics/", "/metrics"])


async def test_what_is_added_stands_beside_what_the_machine_makes_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(mind_latency, "WARM_UP", 0)
    async with fake_model() as fake:
        figures = await mind_latency.added(fake.url, 1, lambda _: None)
    assert [f.name for f in figures] == ["added_1", "added_1_null", "added_8", "added_8_null"]
    assert [f.n for f in figures] == [1] * 4
    assert [bool(f.goals) for f in figures] == [True, False] * 2
    assert fake.asked == 3 * (1 + 8), "a bare one, another bare one, ours"


async def test_calls_with_a_process_each_ask_at_one_instant(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mind_latency, "WARM_UP", 0)
    monkeypatch.setattr(mind_calls, "CALLS", 2)
    async with fake_model() as fake:
        figures = await asyncio.to_thread(mind_calls.added, fake.url, 1, lambda _: None)
    assert [f.name for f in figures] == ["added_2_processes", "added_2_processes_null"]
    assert [f.n for f in figures] == [1, 1]
    assert fake.asked == 3 * 2


async def test_a_call_that_fails_in_its_process_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mind_calls, "CALLS", 1)
    with pytest.raises(OSError, match="cannot reach a language model"):
        await asyncio.to_thread(mind_calls.added, "http://127.0.0.1:9/v1", 1, lambda _: None)


def test_a_call_whose_process_is_gone_is_an_error():
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with pytest.raises(OSError, match="died"):
        mind_calls._answer(ours, 1.0)


def test_what_the_host_takes_is_told(tmp_path: Path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 800 0 0 0 50 7 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    stolen = Stolen(stat)
    stat.write_text("cpu  160 0 60 810 0 0 0 70 90 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    assert stolen.note() == "the host took 20.0% of the processors' time"
    assert "not known" in Stolen(tmp_path / "missing").note()


def test_without_a_server_it_says_where_to_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServerUnavailable, match="repository's root"), vllm(None, tmp_path / "log"):
        pass
    with vllm("http://there/v1", tmp_path / "log") as url:
        assert url == "http://there/v1"


def test_an_unknown_part_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="guessing"):
        mind.run(tmp_path, only="everything")


@pytest.mark.parametrize("names", TURNS)
def test_turns_end_where_their_last_sound_ends(names: tuple[str, ...]):
    pcm, end_s = _turn(ROOT / "tests/data/audio", names)
    samples = round(end_s * 16_000)
    assert pcm.dtype == np.int16 and samples <= len(pcm) + 160
    tail = np.abs(pcm[samples + 320 :].astype(int))
    assert not len(tail) or tail.max() < np.abs(pcm.astype(int)).max() / 4
    if len(names) > 1:
        frames = np.abs(pcm[: len(pcm) // 160 * 160].astype(int)).reshape(-1, 160).max(1)
        inner = frames[round(BEFORE_S * 100) + 5 : samples // 160]  # 10 ms each
        silences = [len(list(group)) for quiet, group in groupby(inner < 40) if quiet]
        assert max(silences) * 0.01 >= PAUSE_S - 0.03


def test_shares_are_of_means_and_a_lost_turn_is_a_miss():
    turns = [Turn("a", True, 100.0), Turn("a", False, 800.0), Turn("b", True, 300.0)]
    done = [*turns, Turn("b", False, 800.0)]
    stats = SpeculationStats(tokens_used=10, tokens_discarded=12)
    found = {f.name: f for f in _figures(Outcome(done, stats))}
    assert found["guess_share"].samples == (0.25,) and found["guess_share"].verdict == "OK"
    assert found["guess_waste"].value("worst") == pytest.approx(1.2)
    lost = {f.name: f for f in _figures(Outcome([*done, Turn("c", True)], stats))}
    assert lost["guess_share"].verdict == "MISS"


def test_a_cut_reply_leaves_three_words_in_the_ledger():
    ledger = Ledger()
    _speak(ledger, 1, "one two three four five", cut=True)
    _speak(ledger, 2, "six seven", cut=False)
    _speak(ledger, 3, " ", cut=False)
    assert ledger.items() == (Said("agent", "one two three", cut=True), Said("agent", "six seven"))


def test_examples_of_the_tiny_model_are_what_it_was_taught(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    examples = tiny(3, 200)
    assert examples == tiny(3, 200) != tiny(4, 200)
    ends = [e for e in examples if e.finished is not None]
    assert len(ends) == 200 and 0 < sum(bool(e.finished) for e in ends) < 200
    assert {e.meant for e in examples if e.meant} == set(MEANINGS)


# --- pages --------------------------------------------------------------------------------------


def run() -> MindRun:
    figures = [
        Figure("a", "first <text>", samples=(1.0, 2.0), goals=(Goal("p50", 3, "+3 ms"),)),
        Figure("b", "share", "share", (0.5,), (Goal("worst", 0.4, "40 %"),), notes=("of all",)),
        Figure("c", "never there", samples=(None,)),
    ]
    curves = {"raw": curve([0.1, 0.9, 0.9], [False, True, False])}
    return MindRun(
        figures, curves, "a server", 12.0, about={"when": "now", "cores": 2, "load_average": []}
    )


def test_the_results_are_written_for_programs_and_people(tmp_path: Path):
    pytest.importorskip("matplotlib")
    data, picture, page = write(tmp_path, run())
    read = json.loads(data.read_text())
    assert read == json.loads(json.dumps(as_json(run()))) and read["bench"] == "mind"
    assert read["calibration"]["raw"]["n"] == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "first &lt;text&gt;" in text and "data:image/png;base64," in text and "MISS" in text
    assert [figure.name for figure in run().missed] == ["b"]


def test_parts_that_were_run_earlier_stay_in_the_report(tmp_path: Path):
    pytest.importorskip("matplotlib")
    first = run()
    write(tmp_path, first)
    again = Figure("a", "first <text>", samples=(9.0,))
    more = Figure("d", "of another part", samples=(4.0,))
    about = {"when": "later", "cores": 2, "load_average": []}
    second = MindRun([again, more], {}, "a server", 1.0, about=about)
    joined = second.with_earlier(tmp_path)
    assert [f.name for f in joined.figures] == ["b", "c", "a", "d"]
    assert joined.figures[2].samples == (9.0,) and joined.curves == first.curves
    assert joined.since == "now"
    write(tmp_path, joined)
    assert "the oldest figure of now" in (tmp_path / "mind.html").read_text()
    third = MindRun([more], {}, "a server", 1.0, about=about).with_earlier(tmp_path)
    assert third.since == "now", "the oldest counts, whatever came after it"
    elsewhere = MindRun([again], {}, "another server", 1.0, about=about)
    assert elsewhere.with_earlier(tmp_path) is elsewhere
    quick = MindRun([again], {}, "a server", 1.0, quick=True, about=about)
    assert quick.with_earlier(tmp_path) is quick


def test_a_report_that_cannot_be_read_is_no_earlier_one(tmp_path: Path):
    (tmp_path / "mind.json").write_text('{"bench": "room"}')
    assert run().with_earlier(tmp_path).since == ""


def test_a_part_that_fails_is_told_of_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done: list[str] = []

    async def some(url: str, *_: object) -> list[Figure]:
        assert gc.get_freeze_count(), "what was there before is not collected while it measures"
        return [Figure("abort", url, samples=(1.0,))]

    async def none(url: str, *_: object) -> list[Figure]:
        raise aiohttp.ServerDisconnectedError("the server has gone")

    monkeypatch.setattr(mind, "PARTS", ("latency", "aborts"))
    monkeypatch.setattr(mind.mind_latency, "added", none)
    monkeypatch.setattr(mind.mind_latency, "aborts", some)
    progress = mind.Progress(done=done.append)
    result = mind.run(tmp_path, url="http://there/v1", quick=True, progress=progress)
    assert not gc.get_freeze_count()
    assert [f.what for f in result.figures] == ["http://there/v1"]
    assert list(result.failed) == ["latency"] and "has gone" in result.failed["latency"]
    assert any(line.startswith("latency failed") for line in done)
    assert any(line.startswith("aborts took") for line in done)
    page = write(tmp_path, result)[-1].read_text()
    assert "latency failed: ServerDisconnectedError: the server has gone" in page


def test_the_interval_of_a_share_is_wilsons():
    low, high = Point(0.5, 0.5, 10).interval
    assert (low, high) == pytest.approx((0.2693, 0.7307), abs=1e-3)
    assert Point(0.1, 0.0, 4).interval[0] == 0.0 and Point(0.9, 1.0, 4).interval[1] == 1.0
    assert Point(0.9, 1.0, 4).interval[0] > Point(0.9, 1.0, 2).interval[0] > 0


def test_cells_and_table():
    assert cells(run().figures[1]) == ["1", "50%", "50%", "50%", "50%"]
    assert cells(run().figures[2])[1:] == ["never"] * 4
    assert table(run()).row_count == 3


async def test_nothing_is_left_behind_by_the_fake():
    async with fake_model():
        pass
    assert asyncio.all_tasks() == {asyncio.current_task()}
