"""Two agents of a restaurant: one answers the telephone, the other one books tables.

Nothing here knows who hears and speaks: the same agents run in a stock session (``stock.py``) and
on Parley (``agent.py``).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from livekit.agents import Agent, RunContext, ToolError, function_tool, llm

TABLES = {2: 4, 4: 3, 8: 1}
"""Seats: how many such tables there are."""
LOOK_UP_S = 1.5
"""How long the reservation system takes to answer, as such systems do."""
BRIEF = "Speak in one or two short sentences, without lists or abbreviations."


@dataclass
class Booking:
    people: int
    time: str
    name: str


@dataclass
class Call:
    """What is known in this call (``session.userdata``)."""

    held: tuple[int, str] | None = None
    """People and time of the table that is being held."""
    bookings: list[Booking] = field(default_factory=list)


Context = RunContext[Call]


class Host(Agent):
    """Answers the telephone."""

    def __init__(self, chat_ctx: llm.ChatContext | None = None) -> None:
        super().__init__(
            instructions="You answer the telephone of the Harbour Bistro. Tell the opening hours "
            f"when asked; for a table, hand over to reservations. {BRIEF}",
            chat_ctx=chat_ctx,
        )

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Greet the caller and offer your help.")

    @function_tool
    async def opening_hours(self, context: Context, day: str) -> str:
        """Tells when the restaurant is open.

        Args:
            day: a day of the week
        """
        closed = day.strip().lower() == "monday"
        return "closed on Mondays" if closed else "from noon to ten in the evening"

    @function_tool
    async def to_reservations(self, context: Context) -> Agent:
        """Hands the caller over to reservations."""
        return Reservations(self.chat_ctx.copy(exclude_instructions=True))


class Reservations(Agent):
    """Books tables."""

    def __init__(self, chat_ctx: llm.ChatContext | None = None) -> None:
        super().__init__(
            instructions="You book tables at the Harbour Bistro. Find out for how many people and "
            f"when, look for a table, then ask for a name and book it. {BRIEF}",
            chat_ctx=chat_ctx,
        )

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Ask for how many people and for what time.")

    @function_tool
    async def find_table(self, context: Context, people: int, time: str) -> str:
        """Looks for a free table and holds it.

        Args:
            people: how many will come
            time: when, for example 19:30
        """
        await asyncio.sleep(LOOK_UP_S)
        seats = next((seats for seats in sorted(TABLES) if seats >= people), None)
        if seats is None:
            raise ToolError(f"There is no table for {people}; the largest has {max(TABLES)} seats.")
        context.userdata.held = people, time
        return f"A table with {seats} seats is free at {time}."

    @function_tool
    async def book_table(self, context: Context, name: str) -> str:
        """Books the table that was found.

        Args:
            name: the guest's name
        """
        held = context.userdata.held
        if held is None:
            raise ToolError("No table was looked for yet; ask how many people will come and when.")
        context.userdata.bookings.append(Booking(*held, name))
        return f"Booked for {name}."

    @function_tool
    async def to_host(self, context: Context) -> Agent:
        """Hands the caller back to the host, for anything but tables."""
        return Host(self.chat_ctx.copy(exclude_instructions=True))
