"""One step of a flow as a pure function: state and what happened -> what to say and the next state.

Nothing here changes anything, so a step can be computed while the caller still speaks and be thrown
away; the same step from the same state is the same every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from parley.minds import flow_match, flow_template, flow_text
from parley.minds.base import Cause, Context, HandOver, HangUp, MindError, Said
from parley.minds.flow_schema import Condition, Node, Option, Repeat, Retry
from parley.minds.flow_script import Script
from parley.minds.flow_slots import Heard


@dataclass(frozen=True, slots=True)
class State:
    """Where one call stands."""

    node: str = ""
    """Empty until the call was opened."""
    slots: Mapping[str, str] = field(default_factory=dict)
    visits: Mapping[str, int] = field(default_factory=dict)
    misses: int = 0
    """Answers in a row at this node that were not understood."""
    silences: int = 0
    """Times in a row at this node that nothing was said."""
    answer: str = ""
    """All that was said on the way to this node."""
    question: str = ""
    """The node's own words."""


@dataclass(frozen=True, slots=True)
class Plan:
    state: State
    text: str = ""
    action: HandOver | HangUp | None = None


def plan(script: Script, state: State, context: Context) -> Plan:
    """What the flow does about ``context``. Raises MindError when an application asks for a node
    whose words need something that this caller has not told."""
    if context.cause is Cause.INSTRUCTED and context.request.strip() in script.flow.nodes:
        return _jump(script, state, context.request.strip())
    if context.cause is Cause.USER:
        return _user(script, state, context)
    if context.cause is Cause.OPENING or not state.node:
        return _enter(script, State(), script.flow.start)
    if context.cause is Cause.NO_INPUT:
        return _silence(script, state)
    # Free instructions and results of tools mean nothing to a flow: it asks its question again.
    return Plan(state, state.question, _action(script.node(state.node)))


def expected(script: Script, state: State) -> tuple[Option, ...]:
    return script.options(state.node or script.flow.start)


# --- the caller spoke ---


def _user(script: Script, state: State, context: Context) -> Plan:
    options = expected(script, state)
    pairs = [(option, phrase) for option in options for phrase in option.phrases]
    patterns = [script.patterns[phrase] for _, phrase in pairs]
    found = flow_match.best(patterns, Heard(flow_text.tokens(context.user_text)))
    if found is not None:
        option, phrase = pairs[found[0]]
        follows = _follow(script, _with_slots(state, found[1].slots), option)
        ends = isinstance(follows.action, HangUp)
        if not (ends and script.patterns[phrase].is_bare_answer and _unasked(state, context)):
            return follows
    if not state.node:  # spoke before the greeting: greet
        return _enter(script, State(), script.flow.start)
    if script.node(state.node).ends:  # spoke over the last words: say them again
        return _enter(script, state, state.node)
    return _ask_again(script, state, silent=False)


def _unasked(state: State, context: Context) -> bool:
    """The caller cut the agent off before its question began: a bare "no" means something else
    than the answer, and to hang up on it could not be undone."""
    said = [item for item in context.items if isinstance(item, Said) and item.role == "agent"]
    here = said[-1 - state.misses - state.silences :]
    words = state.question.replace("?", ".").rstrip(". ").split(". ")[-1].split()
    opening = " ".join(words[:2])
    return bool(here) and here[-1].cut and not any(opening in item.text for item in here)


def _follow(script: Script, state: State, option: Option) -> Plan:
    """The caller said what this option expects."""
    before = _say(script, option.say, state, 0)
    if option.go is not None:
        return _enter(script, state, option.go, before)
    if not state.node or script.node(state.node).ends:
        if option.repeat and state.node:
            return _enter(script, state, state.node, before)
        arrived = _enter(script, state, script.flow.start)
        # Stays where it is, which is the first question: heard by whoever spoke, so not asked.
        return Plan(arrived.state, before or arrived.text, arrived.action)
    stay = replace(state, misses=0, silences=0)
    return Plan(stay, _join(before, _repeated(state, option.repeat)))


def _with_slots(state: State, slots: tuple[tuple[str, str], ...]) -> State:
    return replace(state, slots=MappingProxyType({**state.slots, **dict(slots)}))


# --- nothing was said, or nothing that was expected ---


def _silence(script: Script, state: State) -> Plan:
    node = script.node(state.node)
    if node.ends:  # the last words were cut, and now the caller is silent: end it
        return Plan(state, "", _action(node))
    return _ask_again(script, state, silent=True)


def _ask_again(script: Script, state: State, *, silent: bool) -> Plan:
    retry = script.retry(script.node(state.node), silent=silent)
    before = state.silences if silent else state.misses
    if before >= retry.times:
        return _enter(script, state, retry.then, _last_words(script, retry, state, before))
    counted = (
        replace(state, silences=before + 1)
        if silent
        else replace(state, misses=before + 1, silences=0)
    )
    words = _say(script, retry.say, state, before, last_stays=True)
    return Plan(counted, _join(words, _repeated(state, retry.repeat)))


def _last_words(script: Script, retry: Retry, state: State, times: int) -> str:
    """A text beyond the last retry is said before giving up."""
    if retry.say is None or len(retry.say) <= retry.times:
        return ""
    return _say(script, retry.say, state, times, last_stays=True)


# --- moving on ---


def _jump(script: Script, state: State, name: str) -> Plan:
    try:
        return _enter(script, state, name)
    except KeyError as error:
        raise MindError(
            f"flow {script.flow.flow}: the application sent the call to node {name!r}, whose words "
            f"need {error}, which this caller has not told; send it to a node that asks for it"
        ) from error


def _enter(script: Script, state: State, name: str, before: str = "") -> Plan:
    """Goes to ``name`` and on, until a node listens or the call ends. ``flow_check`` has made sure
    that it comes to an end."""
    said = [before]
    while True:
        node = script.node(name)
        visit = state.visits.get(name, 0)
        own = _say(script, node.say, state, visit)
        visits = MappingProxyType({**state.visits, name: visit + 1})
        state = replace(state, node=name, visits=visits, misses=0, silences=0, question=own)
        said.append(own)
        following = node.go or _branch(script, node, state)
        if following is None:
            break
        name = following
    text = _join(*said)
    return Plan(replace(state, answer=text), text, _action(node))


def _branch(script: Script, node: Node, state: State) -> str | None:
    for branch in node.branch or ():
        if branch.when is None or _holds(script, branch.when, state):
            return branch.go
    return None


def _holds(script: Script, when: Condition, state: State) -> bool:
    if when.visits is not None:
        return _within(when, state.visits.get(when.visits, 0))
    assert when.slot is not None  # the schema
    value = state.slots.get(when.slot)
    if value is None:
        return when.known is False
    if when.known is False:
        return False
    if when.in_ is not None and value not in script.flow.data[when.in_]:
        return False
    if when.is_ is not None and value not in when.is_:
        return False
    if when.at_least is None and when.at_most is None:
        return True
    return value.isdigit() and _within(when, int(value))


def _within(when: Condition, number: int) -> bool:
    low = when.at_least is None or number >= when.at_least
    return low and (when.at_most is None or number <= when.at_most)


def _action(node: Node) -> HandOver | HangUp | None:
    if node.hand_over is not None:
        return HandOver(node.hand_over)
    return HangUp() if node.hang_up else None


# --- words ---


def _say(
    script: Script, texts: list[str] | None, state: State, turn: int, *, last_stays: bool = False
) -> str:
    """Text number ``turn``; beyond the end they begin again, or the last one stays."""
    if not texts:
        return ""
    index = min(turn, len(texts) - 1) if last_stays else turn % len(texts)
    template = script.templates[texts[index]]
    return flow_template.render(template, state.slots, script.flow.data)


def _repeated(state: State, repeat: Repeat | None) -> str:
    if repeat is None:
        return ""
    return state.answer if repeat == "answer" else state.question


def _join(*texts: str) -> str:
    return " ".join(text for text in texts if text)
