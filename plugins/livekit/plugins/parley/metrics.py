"""What LiveKit's metrics say about a reply of ours."""

from __future__ import annotations

import time

from livekit.agents import llm
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.metrics.base import Metadata
from livekit.plugins.parley.generation import Generation

from parley.dialogue import events as ev


def reply_metrics(
    model: llm.RealtimeModel, generation: Generation, ended: ev.ReplyEnded
) -> RealtimeModelMetrics:
    """Times only: local engines bill no tokens."""
    first = generation.first_frame_at
    return RealtimeModelMetrics(
        label=model.label,
        request_id=generation.response_id,
        timestamp=generation.created_at,
        duration=time.time() - generation.created_at,
        ttft=-1 if first is None else first - generation.created_at,
        cancelled=ended.cut,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(),
        metadata=Metadata(model_name=model.model, model_provider=model.provider),
    )
