"""A mind that follows a dialogue written in YAML (see ``flow_schema`` for how it is written).

It answers at once, says the same thing in the same situation, knows what may be said next (a
grammar for the recogniser) and how much of it was said (for the end of turn), and moves on only
when its reply is really going to be heard.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from parley.minds import flow_grammar, flow_plan, flow_script, flow_turn
from parley.minds.base import Context, MindEvent, MindLimits, TextDelta
from parley.minds.flow_plan import Plan, State
from parley.minds.flow_script import Script
from parley_speech.types import Grammar

_SENTENCE = re.compile(r"\S.*?(?:[.!?:;]+(?=\s)\s+|$)", re.DOTALL)


class FlowMind:
    """Runs one flow for any number of calls.

    ``flow`` is the name of a flow that comes with the package, the path of a YAML file, or a
    ``Script``. Raises FlowError (a ValueError) with file and line for a flow that cannot be run.
    """

    def __init__(
        self, flow: str | Path | Script = "front_desk", *, limits: MindLimits | None = None
    ):
        self.script = _script(flow)
        self.limits = limits or MindLimits()

    async def start(self) -> None:
        """Nothing to wait for: the flow was read and checked when the mind was made."""

    def session(self) -> FlowSession:
        return FlowSession(self.script, self.limits)

    async def aclose(self) -> None:
        """Nothing to release."""


class FlowSession:
    """One call's way through the flow."""

    def __init__(self, script: Script, limits: MindLimits):
        self._script, self._limits = script, limits
        self._state = State()
        self._judged: tuple[str, float | None] | None = None
        """The words last judged in this state: they are asked about in every tick."""

    @property
    def state(self) -> State:
        return self._state

    def reply(self, context: Context) -> FlowReply:
        """Computed at once, from the state as it is now; the state moves when it is committed."""
        return FlowReply(self, flow_plan.plan(self._script, self._state, context), self._limits)

    def grammar(self) -> Grammar | None:
        return flow_grammar.grammar(self._script, self._state.node or self._script.flow.start)

    def completeness(self, text: str) -> float | None:
        if self._judged is None or self._judged[0] != text:
            self._judged = (text, self._completeness(text))
        return self._judged[1]

    def _completeness(self, text: str) -> float | None:
        options = flow_plan.expected(self._script, self._state)
        phrases = [self._script.patterns[p] for option in options for p in option.phrases]
        return flow_turn.completeness(phrases, text)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _move(self, state: State) -> None:
        self._state = state
        self._judged = None


class FlowReply:
    """One answer of a flow: its sentences, then what follows them.

    Of two replies made from the same state the one committed last decides where the call stands:
    that is what the caller heard last.
    """

    def __init__(self, session: FlowSession, plan: Plan, limits: MindLimits):
        self._session, self._plan, self._limits = session, plan, limits
        self._cancelled = False
        self._committed = False
        self._iterated = False

    async def __aiter__(self) -> AsyncIterator[MindEvent]:
        if self._iterated:
            raise RuntimeError("a reply can be iterated once; ask the session for another one")
        self._iterated = True
        for event in self._events():
            if self._cancelled:
                return
            yield event

    def commit(self) -> None:
        """Raises RuntimeError after ``cancel``: what was discarded cannot be heard."""
        if self._cancelled and not self._committed:
            raise RuntimeError("commit of a discarded reply; ask the session for another one")
        if not self._committed:
            self._committed = True
            self._session._move(self._plan.state)

    def cancel(self) -> None:
        self._cancelled = True

    async def aclose(self) -> None:
        self.cancel()

    def _events(self) -> Iterator[MindEvent]:
        text = self._plan.text[: self._limits.max_chars]
        for sentence in _SENTENCE.finditer(text):
            yield TextDelta(sentence.group())
        if self._plan.action is not None:
            yield self._plan.action


def _script(flow: str | Path | Script) -> Script:
    if isinstance(flow, Script):
        return flow
    if isinstance(flow, str) and "/" not in flow and not flow.endswith((".yaml", ".yml")):
        return flow_script.shipped(flow)
    return flow_script.load(Path(flow))
