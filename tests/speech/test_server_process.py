"""``parley-speech serve`` as a process, with the embedded voice."""

from __future__ import annotations

import httpx
import pytest
from speech_servers import TOKEN, Process, talking
from typer.testing import CliRunner

from parley_speech import loops
from parley_speech.server import main
from parley_speech.server import protocol as wire

pytest.importorskip("espeakng_loader", reason="pip install parley[espeak]")

SECRET = "My card number is 4711, and my name is Zebulon."


async def test_a_stop_lets_what_is_spoken_end() -> None:
    async with Process() as process, talking(process.url, TOKEN) as talk:
        await talk.say(0, "One, two, three, four, five. " * 3, ahead_ms=1_000)
        await talk.until_samples(0, 10_000)
        process.terminate()
        while not talk.other or not isinstance(talk.other[-1], wire.Draining):
            await talk.hear()
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{process.url}/readyz")).status_code == 503
        await talk.say(1, "Hello.")
        refused = (await talk.until_last(1)).last
        assert isinstance(refused, wire.Busy)
        heard = await talk.until_last(0)
        assert isinstance(heard.last, wire.Done)
        assert [word[0] for word in heard.words][-1] == "five."
        assert heard.samples > 3 * 24_000
        assert await process.ended() == 0


async def test_nothing_that_is_said_is_logged() -> None:
    async with Process() as process:
        async with talking(process.url, TOKEN) as talk:
            await talk.say(0, SECRET, ahead_ms=60_000)
            await talk.until_last(0)
            await talk.say(1, SECRET, voice=SECRET)
            await talk.until_last(1)
            await talk.socket.send(f'{{"type": "text", "id": "{SECRET}", "text": 5}}')
            await talk.hear()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as http:
            for fields in ({"voice": "espeak"}, {"voice": SECRET}, {"speed": SECRET}):
                asked = {"model": "m", "input": SECRET, "response_format": "pcm", **fields}
                await http.post(f"{process.url}/v1/audio/speech", json=asked)
        process.terminate()
        assert await process.ended() == 0
    log = "".join(process.lines)
    assert "broke the protocol" in log
    assert not {"4711", "Zebulon", TOKEN} & set(log.replace(",", " ").split())
    assert "Zebulon" not in log


async def test_a_second_signal_does_not_wait() -> None:
    async with Process() as process, talking(process.url, TOKEN) as talk:
        await talk.send(wire.Open(id=0), wire.Text(id=0, text="Hello, I am not done."))
        await talk.until_samples(0, 1_000)
        process.terminate()
        while not talk.other or not isinstance(talk.other[-1], wire.Draining):
            await talk.hear()
        process.terminate()
        assert await process.ended() == 0


async def test_without_a_token_set_one_is_made_and_printed_once() -> None:
    async with Process(PARLEY_SPEECH_TOKENS="") as process:
        printed = [line for line in process.lines if "access token" in line]
        token = printed[0].split()[-1]
        assert len(token) >= 24
        async with talking(process.url, token):
            pass
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{process.url}/v1/models")).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--no-token", "--host", "0.0.0.0"), "loopback addresses only"),
        (("--voice", "nobody", "--no-token"), "no tts engine 'nobody'"),
        (("--voice", "espeak:xx-yy", "--no-token", "--port", "0"), "no voice 'xx-yy'"),
        (("--port", "70000"), "port"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    """In this process: starting four would cost more than all else here."""
    ended = CliRunner().invoke(main.app, ["serve", *arguments])
    assert ended.exit_code in {1, 2}
    assert said in ended.stderr
    assert isinstance(ended.exception, SystemExit)


def test_a_port_in_use_is_said() -> None:
    with main.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}"):
            main.listen("127.0.0.1", port)


async def test_a_hundred_cancelled_utterances_leave_nothing() -> None:
    async with Process("--max-calls", "4") as process, talking(process.url, TOKEN) as talk:
        for number in range(100):
            await talk.say(number, "Hello there, how are you? " * 20, ahead_ms=1_000)
            if number % 2:
                await talk.until_samples(number, 1)
            await talk.send(wire.Cancel(id=number))
            await talk.until_last(number)
            talk.heard.clear()
        async with httpx.AsyncClient(trust_env=False) as http:
            page = (await http.get(f"{process.url}/metrics")).text
        assert "parley_speech_speaking 0.0" in page
        assert 'parley_speech_utterances_total{outcome="cancelled",voice="espeak"} 100.0' in page


def test_the_event_loop_is_uvloops_only_where_that_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str) -> None:
        assert name == "uvloop"

    with monkeypatch.context() as without:
        without.setattr("importlib.util.find_spec", find)
        assert loops.factory() is None
    uvloop = pytest.importorskip("uvloop")
    assert loops.factory() is uvloop.new_event_loop
