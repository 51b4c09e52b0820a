"""Published weight files: read as data, checked before use, refused with a reason.

Nothing in a file is executed: tensors come through torch's weights-only reader, and YAML tags
(`!new:`, `!name:`, `!ref`) become plain dicts and values.
"""

from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from parley_speech.types import EngineUnavailable

State = dict[str, Tensor]

_BOOKKEEPING = {"epoch", "step"}
"""Numbers that trainers leave beside the weights."""
_LFS_POINTER = b"version https://git-lfs"
_NAMED_AT_ONCE = 4


class CheckpointError(EngineUnavailable):
    """A checkpoint cannot be used; the message names the file and what was expected of it."""


def require(path: Path, what: str) -> Path:
    """``path`` if it is a file with something in it. Raises CheckpointError otherwise."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: expected {what}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty: expected {what}; download it again")
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise CheckpointError(
                f"{path} is a Git LFS pointer, not the file itself: expected {what}; "
                "fetch it with `git lfs pull`"
            )
    return path


def load_state(path: Path, what: str) -> State:
    """The tensors of a state dict on the CPU. Raises CheckpointError."""
    require(path, what)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({_first_line(error)}): expected {what}; it may be truncated "
            "or of another kind: download it again"
        ) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}: expected {what}")
    state = {str(k): v for k, v in loaded.items() if k not in _BOOKKEEPING}
    other = [k for k, v in state.items() if not isinstance(v, Tensor)]
    if other or not state:
        raise CheckpointError(
            f"{path} is no dictionary of tensors ({_some(other) or 'it is empty'}): expected {what}"
        )
    return state


def strip_prefix(state: State, prefix: str) -> State:
    """``state`` without ``prefix`` where a key has it."""
    return {key.removeprefix(prefix): value for key, value in state.items()}


_GAIN = re.compile(r"^(?P<owner>.*?)(weight_g|parametrizations\.weight\.original0)$")


def fold_weight_norm(state: State) -> State:
    """Weight-normed pairs become plain weights: w = g * v / |v|, the norm over all but axis 0.

    Knows both spellings, `weight_g`/`weight_v` and
    `parametrizations.weight.original0`/`original1`. A gain without its direction stays as it is.
    """
    folded = dict(state)
    for key in state:
        match = _GAIN.match(key)
        if match is None:
            continue
        twin = key[:-1] + ("v" if key.endswith("weight_g") else "1")
        if twin not in state:
            continue
        gain, direction = folded.pop(key), folded.pop(twin)
        # The same operations as torch's own, so that the weights come out bit for bit the same.
        folded[match["owner"] + "weight"] = torch._weight_norm(direction, gain, 0)
    return folded


def shape_of(state: State, key: str, dims: int, path: Path, what: str) -> torch.Size:
    """The shape of one tensor of ``dims`` axes. Raises CheckpointError when it is not there."""
    if key not in state:
        raise CheckpointError(f"{path} has no tensor {key!r}: expected {what}")
    if state[key].dim() != dims:
        raise CheckpointError(
            f"{path}: {key!r} has shape {tuple(state[key].shape)}, expected {dims} axes, as {what} "
            "has"
        )
    return state[key].shape


def load_into(module: nn.Module, state: State, path: Path, what: str) -> None:
    """Copies ``state`` into ``module``: the same names and the same shapes, all of them.

    Raises CheckpointError, naming some of what is missing, too many or of another shape.
    """
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    missing = [key for key in wanted if key not in state]
    foreign = [key for key in state if key not in wanted]
    misfits = [
        f"{key} is {tuple(state[key].shape)}, not {shape}"
        for key, shape in wanted.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    faults = [
        f"{name}: {_some(keys)}"
        for name, keys in (("missing", missing), ("unknown", foreign), ("other shape", misfits))
        if keys
    ]
    if faults:
        raise CheckpointError(f"{path} does not fit: expected {what}; " + "; ".join(faults))
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise CheckpointError(f"{path} holds numbers that are not finite: {_some(bad)}")
    module.load_state_dict(state)


# --- settings beside the weights ------------------------------------------------------------


def read_json(path: Path, what: str) -> dict[str, Any]:
    require(path, what)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}): expected {what}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}: expected {what}")
    return value


def read_hyper_yaml(path: Path, what: str) -> dict[str, Any]:
    """A hyperpyyaml file as plain data: no tag is executed, `!ref` to scalars is resolved.

    Raises CheckpointError.
    """
    require(path, what)
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} is no YAML ({_first_line(error)}): expected {what}"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}: expected {what}")
    resolved = _resolve(value, value)
    assert isinstance(resolved, dict)
    return resolved


class _Reference(str):
    """The text behind a `!ref` tag."""

    __slots__ = ()


class _PlainLoader(yaml.SafeLoader):
    """Every tag that SafeLoader does not know becomes the plain value it stands on."""


def _plain(loader: _PlainLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    text = loader.construct_scalar(node)  # type: ignore[arg-type]
    return _Reference(text) if suffix == "ref" else text


_PlainLoader.add_multi_constructor("!", _plain)
_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)


def _resolve(value: Any, top: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(inner, top) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolve(inner, top) for inner in value]
    if isinstance(value, _Reference):
        return _reference(str(value), top)
    return value


def _reference(text: str, top: Mapping[str, Any]) -> Any:
    """`<a>` or a product `<a> * <b>` of numbers; anything else stays text."""
    names = [part.strip() for part in text.split("*")]
    found = [
        top.get(name[1:-1]) if name.startswith("<") and name.endswith(">") else None
        for name in names
    ]
    if len(found) == 1 and found[0] is not None:
        return found[0]
    if all(isinstance(value, int | float) for value in found):
        return math.prod(value for value in found if value is not None)
    return text


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _NAMED_AT_ONCE
    return ", ".join(listed[:_NAMED_AT_ONCE]) + (f" and {more} more" if more > 0 else "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
