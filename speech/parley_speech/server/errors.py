"""Errors in the shape that OpenAI's API gives them."""

from __future__ import annotations

from starlette.responses import JSONResponse


def api_error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    retry_ms: int | None = None,
) -> JSONResponse:
    """``{"error": {"message", "type", "param", "code"}}``; ``retry_ms`` becomes Retry-After."""
    headers = {}
    if retry_ms is not None:
        headers = {"Retry-After": str(-(-retry_ms // 1000)), "Retry-After-Ms": str(retry_ms)}
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status, headers)
