"""What vLLM is told about our models; imported in each of its processes.

Entry point, group ``vllm.general_plugins``: ``parley_speech.lm.vllm_plugin:register``. Where the
package is not installed (a source tree on the path), naming `WorkerExtension` as
``worker_extension_cls`` makes vLLM's worker import this module and register all the same.
"""

from __future__ import annotations

from parley_speech.lm.checkpoint import ARCHITECTURE

GROUP = "vllm.general_plugins"
MODEL = "parley_speech.lm.vllm_model:SpeechQwen2ForCausalLM"


def register() -> None:
    """May be called many times, as vLLM's plugins are."""
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, MODEL)


class WorkerExtension:
    """Adds nothing to the worker; see the module's text."""


register()
