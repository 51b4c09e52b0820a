"""The example app: the same agents in a stock session, on Parley, and in a real room."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from livekit.agents import AgentSession
from livekit.plugins.parley.caller import Caller
from livekit.plugins.parley.server import LiveKitServer
from livekit.plugins.parley.worker_process import WorkerProcess

from agent.fake_openai import FakeOpenAI, fake_openai
from plugins import restaurant
from plugins.line import Line

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "restaurant"
CLIPS = ROOT / "tests" / "data" / "audio"
SHOWN = "<!-- the difference that examples/restaurant/README.md shows -->\n"


def the_difference() -> str:
    """From the stock app to the one on Parley, as the documentation shows it."""
    stock, parley = (
        (EXAMPLE / name).read_text().splitlines(keepends=True) for name in ("stock.py", "agent.py")
    )
    diff = "".join(difflib.unified_diff(stock, parley, "stock.py", "agent.py", n=1))
    return f"```diff\n{diff}```\n"


def test_the_documentation_shows_the_difference_as_it_is() -> None:
    assert the_difference() in (EXAMPLE / "README.md").read_text()
    page = (ROOT / "README.md").read_text()
    if SHOWN in page:
        assert SHOWN + the_difference() in page
    changed = [line for line in the_difference().splitlines() if line[:1] in "+-"]
    assert len(changed) <= 10, "an app changes in a handful of lines"


@pytest.fixture
def staff(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import staff

    monkeypatch.setattr(staff, "LOOK_UP_S", 0.0)
    return staff


CALLER = ("caller_help_me.flac", "caller_order_status.flac", "caller_thank_you.flac")
SPOKEN = ["a table please", "four at half past seven", "my name is Ada"]
STORY = [
    ("assistant", restaurant.WELCOME),
    ("user", SPOKEN[0]),
    ("assistant", restaurant.WHEN),
    ("user", SPOKEN[1]),
    ("assistant", restaurant.NAME),
    ("user", SPOKEN[2]),
    ("assistant", restaurant.BOOKED),
]


def told(session: AgentSession[Any]) -> list[tuple[str, str]]:
    return [
        (item.role, item.text_content or "")
        for item in session.history.items
        if item.type == "message" and item.role in ("user", "assistant")
    ]


async def test_the_agents_in_a_stock_session(staff: ModuleType) -> None:
    session = AgentSession[Any](llm=restaurant.StockLlm(), userdata=staff.Call())
    await session.start(staff.Host(), capture_run=True)
    for words in SPOKEN:
        await session.run(user_input=words)
    assert told(session) == STORY
    assert session.userdata.bookings == [staff.Booking(4, "19:30", "Ada")]
    await session.aclose()


async def test_the_same_agents_on_parley_by_voice(staff: ModuleType) -> None:
    async with Line(restaurant.mind, SPOKEN, agent=staff.Host(), userdata=staff.Call()) as line:
        await line.until(lambda: told(line.session) == STORY[:1])
        for heard in (3, 5, 7):
            await line.says(0.6)
            await line.until(lambda n=heard: len(told(line.session)) == n, 20)
        assert told(line.session) == STORY
        assert line.session.userdata.bookings == [staff.Booking(4, "19:30", "Ada")]


async def test_a_table_that_is_too_large_is_an_answer_not_a_fault(staff: ModuleType) -> None:
    session = AgentSession[Any](llm=restaurant.StockLlm(), userdata=staff.Call())
    await session.start(staff.Reservations(), capture_run=True)
    from livekit.agents import ToolError
    from livekit.agents.voice.run_result import mock_tools

    with pytest.raises(ToolError, match="largest has 8"):
        context: Any = type("Context", (), {"userdata": session.userdata})()
        await staff.Reservations.find_table(staff.Reservations(), context, 9, "19:30")
    with mock_tools(staff.Reservations, {"find_table": lambda: "no table"}):
        result = await session.run(user_input="nine of us")
    result.expect.contains_function_call(name="find_table")
    await session.aclose()


# --- in a real room -------------------------------------------------------------------------------


@asynccontextmanager
async def on_the_telephone(
    livekit: LiveKitServer, log: Path
) -> AsyncIterator[tuple[Caller, FakeOpenAI]]:
    """A caller in a room that the example's worker serves, and the language model it asks."""
    models = {"object": "list", "data": [{"id": "tiny", "owned_by": "vllm"}]}
    async with fake_openai(restaurant.server, models=models) as model:
        # Under a name: the workers of other tests take any call that asks for nobody.
        environment = {
            **livekit.environment(),
            "PARLEY_LLM_URL": model.url,
            "LIVEKIT_AGENT_NAME": "restaurant",
        }
        worker = WorkerProcess(
            environment,
            log_file=log,
            arguments=(str(EXAMPLE / "agent.py"), "dev"),
            ready="registered worker",
        )
        async with worker:
            room = f"restaurant-{secrets.token_hex(4)}"
            token = livekit.token("caller", room, agent="restaurant")
            async with Caller(livekit.url, token) as caller:
                yield caller, model


@pytest.mark.room
@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_a_table_is_booked_in_a_real_room(
    livekit_server: LiveKitServer, tmp_path: Path
) -> None:
    async with on_the_telephone(livekit_server, tmp_path / "worker.log") as (caller, model):

        def said(words: str) -> bool:
            return any(t.speaker == "agent" and words in t.text for t in caller.transcripts)

        await caller.wait_agent()
        await caller.wait_transcript(lambda t: restaurant.WELCOME in t.text, timeout_s=60)
        # Something is said whenever the agent waits for it. What is understood of it, and in how
        # many turns on a busy machine, is the model's and the recogniser's business.
        for clip in itertools.islice(itertools.cycle(CALLER), 12):
            await caller.wait_silence(2500, timeout_s=60)
            if said(restaurant.BOOKED):
                break
            await caller.say(CLIPS / clip)
            with contextlib.suppress(TimeoutError):
                await caller.wait_speech(timeout_s=8)
        assert said(restaurant.NAME) and said(restaurant.BOOKED)
        asked = [restaurant.names(exchange.body) for exchange in model.completions]
        assert "to_reservations" in asked[0] and "book_table" not in asked[0]
        assert "book_table" in asked[-1] and "to_reservations" not in asked[-1]
        assert caller.recording().duration_s > 5
