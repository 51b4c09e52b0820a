"""Golden data of the voice tests, read without torch or safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
_DTYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "I64": np.int64}


def cases(name: str) -> dict[str, NDArray[Any]]:
    """`cases.safetensors` of a golden set: a header in JSON, then raw little-endian tensors."""
    raw = (GOLDEN / name / "cases.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__", None)
    body = raw[8 + size :]
    return {key: _tensor(body, entry) for key, entry in header.items()}


def _tensor(body: bytes, entry: dict[str, Any]) -> NDArray[Any]:
    start, end = entry["data_offsets"]
    return np.frombuffer(body[start:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"]).copy()


def worst(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """The golden sets' relative error: max|a-b| / max|b|."""
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / np.abs(expected).max())
