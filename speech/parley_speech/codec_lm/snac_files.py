"""Loads the published files of a SNAC: ``config.json`` and ``pytorch_model.bin``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parley_speech.codec_lm.snac import Snac, SnacConfig, fold_weight_norm
from parley_speech.lm.checkpoint import read_state
from parley_speech.lm.errors import CheckpointError

WANTED = (
    *("sampling_rate", "encoder_dim", "encoder_rates", "decoder_dim", "decoder_rates"),
    *("codebook_size", "codebook_dim", "vq_strides", "noise", "depthwise"),
)


def load_snac(folder: Path, device: str = "cpu") -> Snac:
    """Raises `CheckpointError` naming the file that is missing, truncated or foreign."""
    config = read_config(folder / "config.json")
    path = folder / "pytorch_model.bin"
    state = fold_weight_norm(read_state(path))
    model = Snac(config)
    wanted = model.state_dict()
    for name, value in wanted.items():
        if name not in state:
            raise CheckpointError(
                f"{path} is not the SNAC that {folder / 'config.json'} describes: it lacks {name}"
            )
        if state[name].shape != value.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(state[name].shape)}, expected "
                f"{tuple(value.shape)} by {folder / 'config.json'}"
            )
    model.load_state_dict({name: state[name].float() for name in wanted})
    model.to(device)
    model.eval()
    return model


def read_config(path: Path) -> SnacConfig:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: expected the configuration of a SNAC")
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        lacking = [key for key in WANTED if key not in found]
    except (ValueError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is no configuration of a SNAC: {error}") from error
    if lacking:
        raise CheckpointError(f"{path} is no configuration of a SNAC: it lacks {lacking}")
    if found.get("attn_window_size") is not None:
        raise CheckpointError(
            f"{path}: this SNAC has attention (window {found['attn_window_size']}); only those "
            "without, as the 24 kHz one for speech, can be decoded in exact windows"
        )
    latent = found.get("latent_dim") or found["encoder_dim"] * 2 ** len(found["encoder_rates"])
    return SnacConfig(
        sampling_rate=int(found["sampling_rate"]),
        latent=int(latent),
        decoder_dim=int(found["decoder_dim"]),
        decoder_rates=tuple(found["decoder_rates"]),
        codebook_size=int(found["codebook_size"]),
        codebook_dim=int(found["codebook_dim"]),
        vq_strides=tuple(found["vq_strides"]),
        noise=bool(found["noise"]),
        depthwise=bool(found["depthwise"]),
    )
