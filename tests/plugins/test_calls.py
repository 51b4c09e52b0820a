"""Real calls: livekit-server, a worker process, real participants with recorded speech."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from livekit import api
from livekit.plugins.parley.caller import Caller, CallerError
from livekit.plugins.parley.script import JournalTail
from livekit.plugins.parley.server import LiveKitServer
from livekit.plugins.parley.worker_process import WorkerProcess

CLIPS = Path(__file__).parents[1] / "data" / "audio"
ORDER_STATUS = CLIPS / "caller_order_status.flac"
ORDER_12345 = CLIPS / "caller_check_order_12345.flac"
HOURS = CLIPS / "human_hours.flac"
THANKS = CLIPS / "caller_thank_you.flac"
NAME = "front-desk"
"""Other workers wait for calls on the same server."""

pytestmark = [pytest.mark.room, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]


class Agents:
    """The worker of these tests, and what its calls' journals say."""

    def __init__(self, server: LiveKitServer, journals: Path) -> None:
        self.server = server
        self._journals = journals
        self.process: WorkerProcess | None = None

    def room(self) -> str:
        return f"call-{secrets.token_hex(4)}"

    def token(self, room: str, who: str = "caller", **more: Any) -> str:
        return self.server.token(who, room, agent=NAME, **more)

    async def journal(
        self, room: str, enough: Callable[[list[dict[str, Any]]], object], seconds: float = 30
    ) -> list[dict[str, Any]]:
        """The call's events, as soon as they are enough."""
        tail = JournalTail(self._journals / f"{room}.jsonl")
        for _ in range(int(seconds * 10)):
            for _ in tail.read():
                pass
            if enough(tail.events):
                return tail.events
            await asyncio.sleep(0.1)
        shown = "\n".join(json.dumps(e) for e in tail.events[-12:])
        raise AssertionError(f"it did not happen in {seconds} s; the journal ends with\n{shown}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def agents(
    livekit_server: LiveKitServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Agents]:
    folder = tmp_path_factory.mktemp("calls")
    made = Agents(livekit_server, folder)
    environment = {
        **livekit_server.environment(),
        "PARLEY_JOURNAL_DIR": str(folder),
        "PARLEY_REJOIN_S": "5",
        "PARLEY_AGENT_NAME": NAME,
    }
    async with WorkerProcess(environment, log_file=folder / "worker.log") as worker:
        made.process = worker
        yield made


def turns(events: list[dict[str, Any]]) -> list[str]:
    return [e["text"] for e in events if e["kind"] == "user_turn"]


def said(events: list[dict[str, Any]]) -> str:
    return " ".join(e["heard"] for e in events if e["kind"] == "agent_turn")


def found(events: list[dict[str, Any]]) -> bool:
    """The agent is telling what it knows of the order."""
    return any(e["kind"] == "agent_word" and e["text"] == "found" for e in events)


async def asks(agents: Agents, caller: Caller, room: str, clip: Path, answer: str) -> Any:
    """Says it until it is answered, as people do: an agent that did not understand a word, on a
    machine that tears the sound of it, asks again. The call's events."""
    for _ in range(3):
        await caller.say(clip)
        with contextlib.suppress(AssertionError):
            return await agents.journal(room, lambda e: answer in said(e), 12)
        await caller.wait_silence(700)
    return await agents.journal(room, lambda e: answer in said(e), 0.1)


async def greeted(caller: Caller) -> None:
    await caller.wait_agent()
    await caller.wait_speech(timeout_s=20)
    await caller.wait_silence(700)


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (44_100, 2), (48_000, 1)])
async def test_any_microphone_is_understood(agents: Agents, rate_hz: int, channels: int) -> None:
    room = agents.room()
    caller = Caller(agents.server.url, agents.token(room), rate_hz=rate_hz, channels=channels)
    async with caller:
        await greeted(caller)
        events = await asks(agents, caller, room, ORDER_STATUS, "order number")
    assert "order status" in " ".join(turns(events))


async def test_a_telephone_caller_is_a_caller(agents: Agents) -> None:
    room = agents.room()
    attributes = {"sip.callStatus": "active", "sip.phoneNumber": "+15550100"}
    token = agents.token(room, "sip_+15550100", kind="sip", attributes=attributes)
    async with Caller(agents.server.url, token, rate_hz=8_000) as caller:
        await greeted(caller)
        await asks(agents, caller, room, ORDER_STATUS, "order number")


async def test_a_caller_who_drops_out_goes_on_where_they_were(agents: Agents) -> None:
    room = agents.room()
    async with Caller(agents.server.url, agents.token(room)) as caller:
        await greeted(caller)
        await asks(agents, caller, room, ORDER_STATUS, "order number")
        await caller.leave()
        await asyncio.sleep(1.5)
        await caller.join()
        await caller.wait_agent()
        for _ in range(6):  # the agent subscribes to the new track in its own time
            await caller.wait_silence(700)
            await caller.say(ORDER_12345)
            with contextlib.suppress(AssertionError):
                await agents.journal(room, found, 8)
                break
        events = await agents.journal(room, found, 20)
    assert said(events).count("this is Harbour Lane Books") == 1, "nobody is greeted twice"
    assert len([e for e in events if e["kind"] == "start"]) == 1, "one and the same call"


async def test_a_caller_who_does_not_come_back_ends_the_call(agents: Agents) -> None:
    room = agents.room()
    async with Caller(agents.server.url, agents.token(room)) as caller:
        await greeted(caller)
    async with api.LiveKitAPI(
        agents.server.http_url, agents.server.api_key, agents.server.api_secret
    ) as livekit:
        for _ in range(200):
            request = api.ListParticipantsRequest(room=room)
            with contextlib.suppress(api.TwirpError):  # the room itself may be gone by then
                if (await livekit.room.list_participants(request)).participants:
                    await asyncio.sleep(0.1)
                    continue
            return
    raise AssertionError("the agent stayed for ever")


async def test_two_participants_and_the_first_is_served(agents: Agents) -> None:
    room = agents.room()
    async with Caller(agents.server.url, agents.token(room)) as caller:
        await greeted(caller)
        second = Caller(agents.server.url, agents.server.token("other", room))
        async with second:
            await asyncio.sleep(0.5)
            await asks(agents, caller, room, HOURS, "nine in the morning")
            heard = await second.wait_speech(after=0, timeout_s=10)
            assert heard > 0, "the other participant hears the agent too"
        events = await agents.journal(room, lambda e: True)
    assert not [e for e in events if e["kind"] == "error"]


async def test_a_room_that_disappears_does_not_harm_the_next_call(agents: Agents) -> None:
    room = agents.room()
    async with api.LiveKitAPI(
        agents.server.http_url, agents.server.api_key, agents.server.api_secret
    ) as livekit:
        caller = Caller(agents.server.url, agents.token(room))
        await caller.join()
        await caller.wait_agent()
        await livekit.room.delete_room(api.DeleteRoomRequest(room=room))
        await caller.leave()
    assert agents.process is not None
    agents.process.check()
    again = agents.room()
    async with Caller(agents.server.url, agents.token(again)) as caller:
        await greeted(caller)
        await agents.journal(again, lambda e: said(e))


async def test_thanks_end_the_call_when_the_last_word_was_heard(agents: Agents) -> None:
    room = agents.room()
    caller = Caller(agents.server.url, agents.token(room))
    with pytest.raises(CallerError, match="room was closed"):  # that is how a call ends
        async with caller:
            await greeted(caller)
            for _ in range(3):
                await caller.say(THANKS)
                await caller.wait_silence(12_000, timeout_s=60)
    recording = caller.recording()
    events = await agents.journal(room, lambda e: any(x["kind"] == "hang_up" for x in e))
    last = [e for e in events if e["kind"] == "agent_turn"][-1]
    assert last["heard"].endswith("Goodbye!") and not last["cut"]
    loud = np.flatnonzero(np.abs(recording.agent.astype(int)) > 300)
    rest_s = (len(recording.agent) - loud[-1]) / recording.rate_hz
    assert rest_s > 0.05, "the last word was over when the room was closed"
