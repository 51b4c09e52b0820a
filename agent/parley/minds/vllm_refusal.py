"""A server that refuses, or is not there: in words for the log and in words for the caller."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp

from parley.minds.base import MindError
from parley.minds.vllm_deltas import error_kind
from parley.minds.vllm_options import VllmOptions

MOST_ERROR_BYTES = 4096

UNREACHABLE = "Sorry, I cannot think right now. Please try again in a moment."
BUSY = "Sorry, I have a lot to do at the moment. Please ask me again in a little while."


def unreachable(options: VllmOptions, error: Exception) -> MindError:
    return MindError(
        f"cannot reach a language model at {options.base_url} ({type(error).__name__}); "
        f"start one with: vllm serve MODEL --port {urlsplit(options.base_url).port or 80}, "
        "or set PARLEY_LLM_URL to where it is",
        spoken=UNREACHABLE,
        passing=True,
    )


async def refusal(options: VllmOptions, response: aiohttp.ClientResponse) -> MindError:
    """Of an answer whose status is not 200. ``passing`` where another attempt may help."""
    status = response.status
    what = f"{options.base_url} answered {status}: {await _reason(response)}"
    if status != 429 and status < 500:
        return MindError(f"{what}; {_advice(status)}", spoken=UNREACHABLE)
    after_s = retry_after_s(response.headers.get("retry-after"))
    spoken = BUSY if status in (429, 503) else UNREACHABLE
    return MindError(what, spoken=spoken, passing=True, retry_after_s=after_s)


async def _reason(response: aiohttp.ClientResponse) -> str:
    """Type and code of the error. Its message is left out: it may quote the conversation."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_ERROR_BYTES:
            break
    try:
        return error_kind(json.loads(body))
    except ValueError:
        return f"{len(body)} bytes that are no OpenAI error"


def retry_after_s(header: str | None) -> float | None:
    """Seconds, from seconds or a date (RFC 9110, section 10.2.3); None where neither is named."""
    try:
        return max(0.0, float(header or ""))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(header or "")
        return max(0.0, when.timestamp() - time.time())
    except ValueError:
        return None


def _advice(status: int) -> str:
    match status:
        case 401 | 403:
            return "set PARLEY_LLM_API_KEY to a key that the server takes"
        case 404:
            return "check base_url (it ends in /v1) and the model's name"
        case 400 | 413 | 422:
            return (
                "the server does not take this request: the conversation may be longer than its "
                "--max-model-len, or it was started without --enable-auto-tool-choice"
            )
        case _:
            return "check base_url"
