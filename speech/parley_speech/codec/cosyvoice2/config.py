"""The sizes of a CosyVoice 2 token decoder: from its YAML, then from the weights themselves.

What a tensor's shape tells is taken from the weights, because a settings file beside them may be
of another edition; what no shape tells (head sizes, rates, dilations) is taken from the file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parley_speech.codec.checkpoint import (
    CheckpointError,
    State,
    read_hyper_yaml,
    read_json,
    shape_of,
)

log = logging.getLogger(__name__)

FLOW_FILE, HIFT_FILE, YAML_FILE, JSON_FILE = "flow.pt", "hift.pt", "cosyvoice2.yaml", "config.json"
FLOW = "the CosyVoice 2 flow (speech tokens to mel), a state dict"
HIFT = "the CosyVoice 2 HiFT vocoder (mel to waveform), a state dict"
SETTINGS = "the settings of CosyVoice 2 with sections 'flow' and 'hift'"

TOKEN_HZ = 25
MEL_HZ = 50
NOISE_FRAMES = 15_000
"""The flow's fixed noise has this many frames: 300 s, the reference speech included."""


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """Defaults are those of the published checkpoint CosyVoice2-0.5B."""

    vocabulary: int = 6561
    width: int = 512
    mel_bins: int = 80
    speaker_dim: int = 192
    lookahead_tokens: int = 3
    frames_per_token: int = 2
    chunk_tokens: int = 25
    encoder_heads: int = 8
    encoder_hidden: int = 2048
    encoder_blocks: int = 6
    up_blocks: int = 4
    channels: int = 256
    head_dim: int = 64
    heads: int = 8
    transformers: int = 4
    """Transformer blocks behind each residual block of the estimator."""
    mid_blocks: int = 12
    left_chunks: int = -1
    """How many chunks to the left the estimator sees; below 0: all."""
    steps: int = 10
    guidance: float = 0.7
    noise_seed: int = 0

    @property
    def chunk_frames(self) -> int:
        return self.chunk_tokens * self.frames_per_token


@dataclass(frozen=True, slots=True)
class HiftConfig:
    """Defaults are those of the published checkpoint CosyVoice2-0.5B."""

    mel_bins: int = 80
    channels: int = 512
    harmonics: int = 8
    sample_rate_hz: int = 24_000
    sine_amplitude: float = 0.1
    noise_deviation: float = 0.003
    voiced_above_hz: float = 10.0
    rates: tuple[int, ...] = (8, 5, 3)
    kernels: tuple[int, ...] = (16, 11, 7)
    n_fft: int = 16
    hop: int = 4
    block_kernels: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    source_kernels: tuple[int, ...] = (7, 7, 11)
    source_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    slope: float = 0.1
    limit: float = 0.99
    f0_channels: int = 512

    @property
    def samples_per_frame(self) -> int:
        samples = self.hop
        for rate in self.rates:
            samples *= rate
        return samples


def read_settings(folder: Path) -> tuple[FlowConfig, HiftConfig]:
    """From `cosyvoice2.yaml`, or from `config.json` where there is no YAML.

    Raises CheckpointError.
    """
    path = folder / YAML_FILE
    if path.is_file() or not (folder / JSON_FILE).is_file():
        settings = read_hyper_yaml(path, SETTINGS)
        sections = (_from_yaml_flow, _from_yaml_hift)
    else:
        path = folder / JSON_FILE
        settings = read_json(path, SETTINGS)
        sections = (_from_json_flow, _from_json_hift)
    try:
        return sections[0](settings["flow"]), sections[1](settings["hift"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path} is not as expected ({type(error).__name__}: {error}): expected {SETTINGS}"
        ) from error


def _from_yaml_flow(flow: Mapping[str, Any]) -> FlowConfig:
    encoder, cfm = flow["encoder"], flow["decoder"]
    estimator = cfm["estimator"]
    params = cfm.get("cfm_params", {})
    params = params.get("content", params)
    return FlowConfig(
        vocabulary=int(flow["vocab_size"]),
        width=int(flow["input_size"]),
        mel_bins=int(flow["output_size"]),
        speaker_dim=int(flow["spk_embed_dim"]),
        lookahead_tokens=int(flow["pre_lookahead_len"]),
        frames_per_token=int(flow["token_mel_ratio"]),
        chunk_tokens=int(encoder["static_chunk_size"]),
        encoder_heads=int(encoder["attention_heads"]),
        encoder_hidden=int(encoder["linear_units"]),
        encoder_blocks=int(encoder["num_blocks"]),
        channels=int(estimator["channels"][0]),
        head_dim=int(estimator["attention_head_dim"]),
        heads=int(estimator["num_heads"]),
        transformers=int(estimator["n_blocks"]),
        mid_blocks=int(estimator["num_mid_blocks"]),
        left_chunks=int(estimator.get("num_decoding_left_chunks", -1)),
        guidance=float(params.get("inference_cfg_rate", 0.7)),
    )


def _from_json_flow(flow: Mapping[str, Any]) -> FlowConfig:
    base = _from_yaml_flow(
        {**flow, "decoder": {"estimator": flow["estimator"], "cfm_params": flow["cfm"]}}
    )
    cfm, encoder = flow["cfm"], flow["encoder"]
    return replace(
        base,
        up_blocks=int(encoder["num_up_blocks"]),
        steps=int(cfm["n_timesteps"]),
        noise_seed=int(cfm["noise_seed"]),
    )


def _from_yaml_hift(hift: Mapping[str, Any]) -> HiftConfig:
    stft = hift["istft_params"]
    return HiftConfig(
        mel_bins=int(hift["in_channels"]),
        channels=int(hift["base_channels"]),
        harmonics=int(hift["nb_harmonics"]),
        sample_rate_hz=int(hift["sampling_rate"]),
        sine_amplitude=float(hift["nsf_alpha"]),
        noise_deviation=float(hift["nsf_sigma"]),
        voiced_above_hz=float(hift["nsf_voiced_threshold"]),
        rates=_ints(hift["upsample_rates"]),
        kernels=_ints(hift["upsample_kernel_sizes"]),
        n_fft=int(stft["n_fft"]),
        hop=int(stft["hop_len"]),
        block_kernels=_ints(hift["resblock_kernel_sizes"]),
        block_dilations=tuple(map(_ints, hift["resblock_dilation_sizes"])),
        source_kernels=_ints(hift["source_resblock_kernel_sizes"]),
        source_dilations=tuple(map(_ints, hift["source_resblock_dilation_sizes"])),
        slope=float(hift["lrelu_slope"]),
        limit=float(hift["audio_limit"]),
        f0_channels=int(hift["f0_predictor"]["cond_channels"]),
    )


def _from_json_hift(hift: Mapping[str, Any]) -> HiftConfig:
    stft = {"n_fft": hift["n_fft"], "hop_len": hift["hop_len"]}
    f0 = {"cond_channels": hift["f0_cond_channels"]}
    return _from_yaml_hift({**hift, "istft_params": stft, "f0_predictor": f0})


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


# --- what the weights say -------------------------------------------------------------------


def fit_flow(config: FlowConfig, state: State, path: Path) -> FlowConfig:
    """``config`` with every size that the tensors tell. Raises CheckpointError."""

    def shape(key: str, dims: int) -> tuple[int, ...]:
        return tuple(shape_of(state, key, dims, path, FLOW))

    vocabulary, width = shape("input_embedding.weight", 2)
    mel_bins, speaker_dim = shape("spk_embed_affine_layer.weight", 2)
    estimator = "decoder.estimator."
    channels = shape(estimator + "down_blocks.0.0.block1.block.0.weight", 3)[0]
    inner = shape(estimator + "down_blocks.0.1.0.attn1.to_q.weight", 2)[0]
    fitted = replace(
        config,
        vocabulary=vocabulary,
        width=width,
        mel_bins=mel_bins,
        speaker_dim=speaker_dim,
        lookahead_tokens=shape("encoder.pre_lookahead_layer.conv1.weight", 3)[2] - 1,
        encoder_heads=shape("encoder.encoders.0.self_attn.pos_bias_u", 2)[0],
        encoder_hidden=shape("encoder.encoders.0.feed_forward.w_1.weight", 2)[0],
        encoder_blocks=_count(state, "encoder.encoders."),
        up_blocks=_count(state, "encoder.up_encoders."),
        channels=channels,
        transformers=_count(state, estimator + "down_blocks.0.1."),
        mid_blocks=_count(state, estimator + "mid_blocks."),
        head_dim=inner // config.heads,
    )
    if inner % config.heads:
        raise CheckpointError(
            f"{path}: attention of {inner} channels does not divide into {config.heads} heads "
            f"(num_heads of {YAML_FILE}): these two are of different checkpoints"
        )
    if fitted.head_dim != config.head_dim:
        # No shape tells heads and head size apart: of the two settings the count is kept.
        log.warning(
            "%s has %d channels of attention, the settings beside it say %d heads of %d: "
            "taken as %d heads of %d",
            *(path, inner, config.heads, config.head_dim, fitted.heads, fitted.head_dim),
        )
    return fitted


def fit_hift(config: HiftConfig, state: State, path: Path) -> HiftConfig:
    """``config`` with every size that the tensors tell. Raises CheckpointError."""
    channels, mel_bins, _ = shape_of(state, "conv_pre.weight", 3, path, HIFT)
    f0_channels = shape_of(state, "f0_predictor.condnet.0.weight", 3, path, HIFT)[0]
    harmonics = shape_of(state, "m_source.l_linear.weight", 2, path, HIFT)[1] - 1
    return replace(
        config,
        channels=channels,
        mel_bins=mel_bins,
        f0_channels=f0_channels,
        harmonics=harmonics,
    )


def _count(state: State, prefix: str) -> int:
    """How many numbered children ``prefix`` has."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
