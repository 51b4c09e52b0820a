"""A made-up conversation out of recorded clips, with the events that an engine would have given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from parley.report.events import Event
from parley.report.recording import Recording
from parley_speech.types import SPEAKER_HZ, Pcm

AUDIO = Path(__file__).parents[1] / "data" / "audio"
WALL = 1_790_000_000.0


def clip(name: str, rate_hz: int = SPEAKER_HZ) -> Pcm:
    """A recorded clip as int16 PCM at ``rate_hz``."""
    data, native_hz = soundfile.read(AUDIO / f"{name}.flac", dtype="int16")
    resampled: Pcm = soxr.resample(data, native_hz, rate_hz)
    return resampled


@dataclass
class _Tape:
    seconds: float

    def __post_init__(self) -> None:
        self.pcm: NDArray[np.int16] = np.zeros((round(self.seconds * SPEAKER_HZ), 2), np.int16)
        self.events: list[Event] = [Event(0.0, "start", {"wall": WALL})]

    def put(self, side: int, at: float, pcm: Pcm) -> float:
        """Lays a clip; when it ends."""
        first = round(at * SPEAKER_HZ)
        part = self.pcm[first : first + pcm.size, side]
        part += pcm[: part.size]
        return at + pcm.size / SPEAKER_HZ

    def event(self, t: float, kind: str, **data: object) -> None:
        self.events.append(Event(t, kind, data))

    def act(self, t: float, name: str, state: str = "") -> None:
        self.event(t, "act", name=name)
        if state:
            self.event(t, "floor", state=state)

    def words(self, start: float, end: float, text: str) -> None:
        words = text.split()
        for i, word in enumerate(words):
            self.event(start + (end - start) * i / len(words), "agent_word", text=word)


def conversation() -> tuple[Recording, list[Event]]:
    """A question, an answer with a "yes" over it, an interruption, a dog, thanks: 36 s."""
    tape = _Tape(36.0)
    tape.event(0.0, "floor", state="listening")
    opening = "Hello world"
    end = tape.put(1, 0.6, clip("human_hello_world"))
    tape.act(0.6, "Speak", "speaking")
    tape.words(0.7, end, opening)
    tape.event(end, "agent_turn", text=opening, heard=opening, cut=False)
    tape.event(end, "floor", state="listening")

    end = tape.put(0, 2.4, clip("caller_order_status"))
    for i, text in enumerate(("can", "can you check", "can you check the status of my order")):
        tape.event(2.9 + 0.6 * i, "partial", text=text)
    tape.act(end + 0.08, "Speculate", "thinking")
    tape.event(end + 0.32, "user_turn", text="Can you check the status of my order?")
    tape.act(end + 0.32, "Commit")
    tape.event(end + 0.36, "latency", name="end of turn to reply", ms=402.0)

    start = end + 0.4
    prompt = clip("human_vm_intro")
    text = "Please leave your message after the tone, when done hang up or press the pound key."
    tape.act(start, "Speak", "speaking")
    yes_at = start + 1.3
    cut_at = start + 5.2
    ramped = prompt[: round((cut_at - start) * SPEAKER_HZ)].astype(np.float64)
    t = start + np.arange(ramped.size) / SPEAKER_HZ
    ramped[(t > yes_at + 0.15) & (t < yes_at + 0.55)] *= 0.18
    ramped[t > cut_at - 0.35] *= 0.18
    tape.put(1, start, ramped.astype(np.int16))
    tape.words(start + 0.05, start + prompt.size / SPEAKER_HZ, text)
    tape.events = [e for e in tape.events if not (e.kind == "agent_word" and e.t >= cut_at)]
    heard = " ".join(e.text("text") for e in tape.events if e.kind == "agent_word" and e.t >= start)
    tape.put(0, yes_at, clip("caller_yes"))
    tape.act(yes_at + 0.15, "Duck", "overlap")
    tape.event(yes_at + 0.5, "overlap", overlap="backchannel", p=0.08)
    tape.act(yes_at + 0.55, "Unduck", "speaking")
    tape.event(yes_at + 0.2, "latency", name="onset to ducked", ms=96.0)

    end = tape.put(0, cut_at - 0.5, clip("caller_check_order_12345"))
    tape.act(cut_at - 0.35, "Duck", "overlap")
    tape.event(cut_at - 0.05, "overlap", overlap="interruption", p=0.93)
    tape.act(cut_at, "Yield", "listening")
    tape.event(cut_at, "agent_turn", text=text, heard=heard, cut=True)
    tape.event(cut_at, "latency", name="onset to ducked", ms=104.0)
    tape.event(cut_at, "latency", name="onset to silent", ms=287.0)
    for i in range(4):
        tape.event(cut_at + 0.2 + 0.5 * i, "partial", text="check order one two three")
    tape.event(end + 0.3, "user_turn", text="Check order 1 2 3 4 5, <please> & it cost $5 or $6.")
    tape.event(end + 0.3, "floor", state="thinking")

    start = end + 0.7
    tape.act(start, "Speak", "speaking")
    answer = "I am sorry, one moment please."
    stop = tape.put(1, start, clip("human_one_moment_please"))
    tape.words(start + 0.05, stop, answer)
    tape.event(start, "latency", name="end of turn to reply", ms=700.0)
    tape.event(stop, "agent_turn", text=answer, heard=answer, cut=False)
    tape.event(stop, "floor", state="listening")

    bark_at = stop + 0.8
    start = stop + 0.5
    stop = tape.put(1, start, clip("human_transfer"))
    tape.act(start, "Speak", "speaking")
    tape.put(0, bark_at, clip("noise_dog_bark"))
    tape.act(bark_at + 0.1, "Duck", "overlap")
    tape.event(bark_at + 0.35, "overlap", overlap="noise", p=0.02)
    tape.act(bark_at + 0.4, "Unduck", "speaking")
    transfer = "Please hold while I try that extension."
    tape.words(start + 0.05, stop, transfer)
    tape.event(stop, "agent_turn", text=transfer, heard=transfer, cut=False)
    tape.event(stop, "floor", state="listening")
    tape.event(30.5, "error", message="the mind did not answer within 8 s", where="vllm")
    end = tape.put(0, 32.0, clip("caller_thank_you"))
    tape.event(end + 0.3, "user_turn", text="Thank you.")
    tape.event(end + 0.5, "mystery", anything=[1, 2, {"x": None}])
    tape.events.sort(key=lambda event: event.t)
    return Recording(tape.pcm, SPEAKER_HZ, WALL + 0.0), tape.events
