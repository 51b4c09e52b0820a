"""Takes the calls of the restaurant."""

from __future__ import annotations

from livekit.agents import AgentServer, AgentSession, JobContext, cli
from livekit.plugins import parley
from staff import Call, Host

server = AgentServer()


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    await ctx.connect()
    session = AgentSession[Call](
        llm=parley.FullDuplex(mind="vllm"),
        **parley.session_options(),
        userdata=Call(),
    )
    await parley.start(session, Host(), room=ctx.room)


if __name__ == "__main__":
    cli.run_app(server)
