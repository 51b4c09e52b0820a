"""What Prometheus is told. Counts and times only; no text, no token, no address."""

from __future__ import annotations

from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from parley_speech.server.admission import Admission

Outcome = Literal["done", "cancelled", "failed", "lost"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_FIRST_CHUNK_S = (
    0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Close around 60 to 400 ms, the goals for 1 to 64 calls on a GPU."""
_SHORT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """One server's, in a registry of its own."""

    def __init__(self, admission: Admission) -> None:
        self.registry = registry = CollectorRegistry()
        self.utterances = Counter(
            "parley_speech_utterances", "utterances that ended, by how", ["voice", "outcome"],
            registry=registry,
        )  # fmt: skip
        self.busy = Counter(
            "parley_speech_busy", "utterances refused for want of a slot", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.first_chunk = Histogram(
            "parley_speech_first_chunk_seconds", "from the first text to the first audio",
            ["voice"], buckets=_FIRST_CHUNK_S, registry=registry,
        )  # fmt: skip
        self.queued = Histogram(
            "parley_speech_queue_seconds", "waited for a slot", buckets=_SHORT_S, registry=registry
        )
        self.stopped = Histogram(
            "parley_speech_cancel_seconds", "from a cancel until nothing was computed",
            buckets=_SHORT_S, registry=registry,
        )  # fmt: skip
        self.underruns = Counter(
            "parley_speech_underruns",
            "times that a listener's buffer ran dry: for want of text, or of speed (voice)",
            ["voice", "cause"], registry=registry,
        )  # fmt: skip
        self.audio = Counter(
            "parley_speech_audio_seconds", "speech sent", ["voice"], registry=registry
        )
        self.chars = Counter(
            "parley_speech_text_chars", "characters taken", ["voice"], registry=registry
        )
        self.connections = Gauge(
            "parley_speech_connections", "WebSockets that are open", registry=registry
        )
        gauges = {
            "parley_speech_speaking": ("utterances that hold a slot", lambda: admission.speaking),
            "parley_speech_slots": ("slots there are", lambda: admission.slots),
            "parley_speech_waiting": ("utterances that wait", lambda: admission.waiting),
            "parley_speech_accepting": (
                "1: new utterances are begun", lambda: int(admission.closed is None),
            ),
        }  # fmt: skip
        for name, (meaning, value) in gauges.items():
            Gauge(name, meaning, registry=registry).set_function(value)

    def page(self) -> bytes:
        return generate_latest(self.registry)
