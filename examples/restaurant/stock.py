"""Takes the calls of the restaurant."""

from __future__ import annotations

from livekit.agents import AgentServer, AgentSession, JobContext, cli
from staff import Call, Host

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    await ctx.connect()
    session = AgentSession[Call](
        stt="deepgram/nova-3",
        llm="openai/gpt-4.1-mini",
        tts="cartesia/sonic-3",
        userdata=Call(),
    )
    await session.start(Host(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
