"""How an ``AgentSession`` must be built so that it leaves the floor to Parley."""

from __future__ import annotations

from typing import Any

from livekit.agents import AgentSession, llm

RIGHT_CALL = (
    "AgentSession(llm=model, **parley.session_options())\n"
    "which is\n"
    "    AgentSession(llm=model, vad=None, aec_warmup_duration=None, "
    'turn_handling={"turn_detection": None, '
    '"interruption": {"resume_false_interruption": False}})\n'
    "and give it no stt= and no tts=: the model hears and speaks itself."
)


class SessionWouldFight(ValueError):
    """The session would take turns by its own rules beside the engine's."""


def session_options() -> dict[str, Any]:
    """Keyword arguments for ``AgentSession(llm=parley.FullDuplex(...), **session_options())``."""
    return {
        "vad": None,
        "aec_warmup_duration": None,
        "turn_handling": {
            "turn_detection": None,
            "interruption": {"resume_false_interruption": False},  # nothing is ever paused
        },
    }


def full_duplex_session(model: llm.RealtimeModel, **more: Any) -> AgentSession[Any]:
    """The session that fits ``model``, in one call. ``more`` goes to AgentSession; what would
    fight the engine is refused."""
    for name in sorted(set(more) & {"llm", "stt", "tts", *session_options()}):
        raise SessionWouldFight(f"{name}= must not be given. The right call is\n    {RIGHT_CALL}")
    session: AgentSession[Any] = AgentSession(llm=model, **session_options(), **more)
    bind = getattr(model, "bind", None)
    if bind is not None:
        bind(session)
    return session


def require_session_that_fits(session: AgentSession[Any] | None) -> None:
    """Raises SessionWouldFight with everything that is wrong, and the right call."""
    if session is None:
        return
    wrong = [reason for reason, is_wrong in _conflicts(session) if is_wrong]
    if wrong:
        raise SessionWouldFight(
            "this AgentSession would fight parley.FullDuplex:\n"
            + "".join(f"  - {reason}\n" for reason in wrong)
            + f"The right call is\n    {RIGHT_CALL}"
        )


def _conflicts(session: AgentSession[Any]) -> list[tuple[str, bool]]:
    return [
        (
            "aec_warmup_duration makes the model deaf in the first seconds of a reply",
            bool(session.options.aec_warmup_duration),
        ),
        ("vad= would detect turns a second time", session.vad is not None),
        (
            "turn_detection would end turns a second time",
            session.turn_detection is not None and session.turn_detection != "realtime_llm",
        ),
        ("stt= would recognise a second time", session.stt is not None),
        ("tts= would speak beside the model", session.tts is not None),
    ]
