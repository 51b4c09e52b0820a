"""A real vLLM is killed while it answers, and another one goes on in mid-sentence."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.conftest import serving
from parley.minds.base import Cause, Context, MindLimits, Said, TextDelta
from parley.minds.endpoints import Endpoints, Patience
from parley.minds.endpoints_reply import EndpointsReply
from parley.minds.vllm import VllmMind, VllmOptions

Event = Callable[[], None]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STORY = Context(Cause.USER, (Said("user", "Tell me a long story."),))
# Machines that run tests are busy: only the death of the server may end a request.
PATIENT = Patience(apology_s=60, overtake_s=60, first_s=120, total_s=300)
LIMITS = MindLimits(first_s=60, stall_s=60)


def mind(url: str) -> VllmMind:
    return VllmMind(
        VllmOptions(base_url=url, temperature=0.0, convention="", limits=LIMITS, connect_s=60.0)
    )


async def text_of(reply: EndpointsReply, words: list[str], at_second: Event | None = None) -> str:
    async for event in reply:
        assert isinstance(event, TextDelta)
        words.append(event.text)
        if len(words) == 2 and at_second is not None:
            at_second()
    return "".join(words)


def server_under(script_pid: int) -> int:
    children = Path(f"/proc/{script_pid}/task/{script_pid}/children").read_text().split()
    return int(children[0])


async def test_a_server_killed_in_mid_sentence_is_not_heard(
    tiny_chat: Path, vllm_url: str, tmp_path: Path
) -> None:
    with serving(tiny_chat, tmp_path / "victim.log") as (victim_url, script):
        both = Endpoints({"victim": mind(victim_url), "survivor": mind(vllm_url)}, patience=PATIENT)
        await both.start()
        alone = Endpoints({"survivor": mind(vllm_url)}, patience=PATIENT)
        await alone.start()
        whole = await text_of(alone.session().reply(STORY), [])
        group = os.getpgid(server_under(script))
        for _ in range(20):
            words: list[str] = []
            begun = asyncio.Event()

            def stop(begun: asyncio.Event = begun) -> None:
                os.killpg(group, signal.SIGSTOP)
                begun.set()

            telling = asyncio.create_task(text_of(both.session().reply(STORY), words, stop))
            await begun.wait()
            await asyncio.wait({telling}, timeout=0.5)
            if not telling.done():
                break
            os.killpg(group, signal.SIGCONT)  # it was too quick: all was on its way
            assert await telling == whole
        assert not telling.done(), "twenty stories were told before the server could be stopped"
        given = len("".join(words))
        os.killpg(group, signal.SIGKILL)
        assert await telling == whole, "greedy decoding: the same words, whoever says them"
        assert 0 < given < len(whole)
        assert both.stats.continued == 1
        assert await text_of(both.session().reply(STORY), []) == whole, "the next turn as well"
        await both.aclose()
        await alone.aclose()
