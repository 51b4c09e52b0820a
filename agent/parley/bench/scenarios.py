"""What the bench of the room says and hears: the agent's texts, the caller's clips, the plans.

A plan tells a bench agent what to do in one call. It travels in the room's name, so that the
worker needs no other channel.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["answer", "monologue", "shop", "stock"]
"""``answer``: the instant mind answers every turn. ``monologue``: the agent speaks by itself, a
number of times. ``shop``: the production parts, for the cost of a call. ``stock``: LiveKit's own
session around the same instant parts."""

# Every word is plain, and there is no punctuation: a pause in the agent's speech would hide a duck.
TEXTS: dict[str, str] = {
    "harbour": (
        "The early report of this morning says that a small wooden boat left the northern harbour "
        "long before dawn and sailed along the grey coast towards the old lighthouse where three "
        "fishermen were waiting with empty nets and a basket of bread while the wind turned slowly "
        "to the west and the first birds came down to the shore looking for anything the tide had "
        "left behind and nobody on the island knew yet that the captain had brought a letter from "
        "the capital which would change the life of every family between the chapel and the mill "
        "before the summer was over and the apples were ready to be taken to market"
    ),
    "garden": (
        "Whoever walks through the public garden behind the station will find a narrow path that "
        "leads under tall chestnut trees to a round pond with yellow lilies where children feed "
        "the ducks on Sunday afternoons and old men play chess at stone tables without speaking "
        "for hours until the keeper rings his brass bell and closes the iron gates for the night "
        "although everybody in the quarter remembers that there is a second entrance near the "
        "bakery which has never been locked since the great flood carried its door away and left "
        "it leaning against the wall of the school across the river"
    ),
    "workshop": (
        "My neighbour repairs clocks in a tiny workshop full of springs and wheels and patient "
        "ticking and he told me that the hardest part of his craft is not the finding of a broken "
        "tooth or the cleaning of a dusty spindle but the moment when a customer asks how long the "
        "work will take because a good clock that has rested for twenty years wants to be woken "
        "gently with a drop of oil and a warm room and several quiet days in which nobody touches "
        "it at all before it remembers its old pace and can be trusted again with the hours of a "
        "busy household and the lunch of an impatient uncle"
    ),
    "notice": (
        "Your parcel has left our store in the city and will be with you on Tuesday between nine "
        "and eleven in the morning so please make sure that someone is at home"
    ),
}
TEXTS["everything"] = " and then ".join(TEXTS[name] for name in ("harbour", "garden", "workshop"))
"""Long enough for two dozen sounds over it."""

QUESTION = "caller_order_status.flac"
"""Gets the agent to speak."""

INTERRUPTIONS: tuple[str, ...] = (
    "caller_order_status.flac",
    "caller_check_order_12345.flac",
    "caller_help_me.flac",
    "caller_no.flac",
    "caller_hi_how_are_you.flac",
    "human_pls_hold_while_try.flac",
    "human_transfer.flac",
    "human_conf_getpin.flac",
    "human_queue_thankyou.flac",
    "human_please_try_again.flac",
    "human_one_moment_please.flac",
    "read_lj001_0002.flac",
    "read_lj001_0008.flac",
    "read_lj001_0013.flac",
)
"""Real speech that wants the floor; short enough for the turn to end soon."""

NOISES: tuple[str, ...] = (
    "noise_dog_bark.flac",
    "noise_car_horn.flac",
    "noise_ringing_phone.flac",
    "noise_siren.flac",
)
YES = "caller_yes.flac"
# espeak-ng spells "mhm" as three letters, which no listener does.
NOD_WORDS: tuple[str, ...] = ("hmm", "uh-huh", "okay", "right")
NOD_VOICES: tuple[str, ...] = ("en-us", "en-gb", "en-us+f3", "en-us+m3")
"""Espeak's, with the pitch of ``NOD_PITCH`` for each."""
NOD_PITCH: tuple[int, ...] = (50, 40, 60, 35)
NOISE_GAINS_DB: tuple[float, ...] = (0.0, -6.0)

OFFSETS_S: tuple[tuple[float, float], ...] = ((0.0, 0.1), (0.1, 1.0), (1.0, 3.0))
"""How far into a reply an interruption begins; each third of the trials has one range."""

ECHO_DELAYS_MS: tuple[int, ...] = (40, 120, 250)
ECHO_GAIN_DB = -12.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the agent does in one call."""

    kind: Kind
    text: str = "harbour"
    """A name in TEXTS."""
    replies: int = 0
    """For a monologue: how many."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.text not in TEXTS:
            raise ValueError(f"there is no plan {self.kind!r} with the text {self.text!r}")

    def room(self) -> str:
        """A new room's name that holds this plan."""
        return f"bench-{self.kind}-{self.text}-{self.replies}-{secrets.token_hex(4)}"

    @staticmethod
    def of(room: str) -> Plan:
        """The plan in a room's name. Raises ValueError when there is none."""
        parts = room.split("-")
        if len(parts) != 5 or parts[0] != "bench" or not parts[3].isdigit():
            raise ValueError(
                f"the room {room!r} holds no plan; its name should be "
                "bench-KIND-TEXT-REPLIES-NUMBER, as Plan.room() makes it"
            )
        return Plan(parts[1], parts[2], int(parts[3]))  # type: ignore[arg-type]  # checked there
