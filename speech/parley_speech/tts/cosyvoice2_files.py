"""A CosyVoice 2 checkpoint on disk or on a model hub: found, checked, named in errors.

What is inside the weights is checked by those who load them; here it is made sure, before anything
heavy is imported, that the folder is whole and is CosyVoice 2's.
"""

from __future__ import annotations

import logging
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from parley_speech.types import EngineUnavailable
from parley_speech.voices.licences import check_licence

logger = logging.getLogger(__name__)

HUB_NAME = "FunAudioLLM/CosyVoice2-0.5B"
LICENCE = "Apache-2.0"
BACKBONE = "CosyVoice-BlankEN"
FILES = {
    "cosyvoice2.yaml": "its configuration",
    "llm.pt": "the token LM",
    "flow.pt": "the flow decoder",
    "hift.pt": "the vocoder",
    "campplus.onnx": "the speaker encoder",
    "speech_tokenizer_v2.onnx": "the speech tokenizer",
    f"{BACKBONE}/config.json": "the LM's backbone",
}
_ALTERNATIVES = {
    "campplus.onnx": ("campplus_cn_common.bin",),
    "speech_tokenizer_v2.onnx": ("speech_tokenizer_v2.pt",),
}
_OTHERS = {
    "cosyvoice3.yaml": "CosyVoice 3",
    "cosyvoice.yaml": "CosyVoice 1",
    "model.safetensors.index.json": "another model",
}
_WANTED = [*FILES, f"{BACKBONE}/*", "README.md"]
_LFS_POINTER = b"version https://git-lfs"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    folder: Path
    speaker: Path
    tokenizer: Path
    licence: str
    """As the checkpoint's README states it; empty: it has none."""


def find_checkpoint(model: Path | str, *, allow_non_commercial: bool = False) -> CheckpointFiles:
    """The files of a folder, or of a name on the hub (downloaded if need be, 5 GB; blocking).

    Raises EngineUnavailable for what is missing, truncated or of another model, and LicenceRefused
    where the checkpoint's README names a licence that excludes commercial use.
    """
    folder = Path(model)
    if not folder.is_dir():
        folder = _downloaded(str(model))
    _check_kind(folder)
    missing = [f"{n} ({what})" for n, what in FILES.items() if _file(folder, n) is None]
    if missing:
        raise EngineUnavailable(
            f"{folder} is not a whole CosyVoice 2 checkpoint: {', '.join(missing)} is missing; "
            f"expected {', '.join(FILES)}"
        )
    for name, what in FILES.items():
        _check_whole(_found(folder, name), what)
    licence = _stated_licence(folder)
    if licence:
        check_licence(licence, str(folder), allow_non_commercial=allow_non_commercial)
    logger.info("CosyVoice 2 from %s, licence: %s", folder, licence or f"not stated ({LICENCE}?)")
    return CheckpointFiles(
        folder, _found(folder, "campplus.onnx"), _found(folder, "speech_tokenizer_v2.onnx"), licence
    )


def _file(folder: Path, name: str) -> Path | None:
    names = (name, *_ALTERNATIVES.get(name, ()))
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _found(folder: Path, name: str) -> Path:
    path = _file(folder, name)
    assert path is not None
    return path


def _check_kind(folder: Path) -> None:
    if (folder / "cosyvoice2.yaml").is_file():
        text = (folder / "cosyvoice2.yaml").read_text(encoding="utf-8", errors="replace")
        if "Qwen2LM" not in text or "CausalMaskedDiffWithXvec" not in text:
            raise EngineUnavailable(
                f"{folder / 'cosyvoice2.yaml'} does not describe CosyVoice 2: expected a Qwen2LM "
                "and a CausalMaskedDiffWithXvec flow; download the file again"
            )
        return
    for name, model in _OTHERS.items():
        if (folder / name).is_file():
            raise EngineUnavailable(
                f"{folder} holds {model} ({name}), expected CosyVoice 2 (cosyvoice2.yaml), for "
                f"example {HUB_NAME}"
            )


def _check_whole(path: Path, what: str) -> None:
    """Notices what an interrupted download leaves."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_LFS_POINTER):
        raise EngineUnavailable(
            f"{path} ({what}) is a Git LFS pointer, not the file: run 'git lfs pull' in its folder"
        )
    archive = head.startswith(b"PK")
    if size == 0 or (archive and not zipfile.is_zipfile(path)):
        raise EngineUnavailable(f"{path} ({what}) is truncated ({size} bytes): download it again")


def _stated_licence(folder: Path) -> str:
    """From the head of the hub's README: ``license: apache-2.0``."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    text = readme.read_text(encoding="utf-8", errors="replace")
    head = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([^\s\"']+)", head[1], re.MULTILINE) if head else None
    return found[1] if found else ""


def _downloaded(name: str) -> Path:
    if not _HUB_NAME.fullmatch(name):
        raise EngineUnavailable(
            f"no folder {name}: expected a CosyVoice 2 checkpoint's folder, or its name on the "
            f"model hub, {HUB_NAME}"
        )
    by_hand = f"download {HUB_NAME} yourself and give the path of its folder"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise EngineUnavailable(
            f"{name} is not a folder here, and huggingface_hub, which would download it, is not "
            f"installed: pip install huggingface_hub, or {by_hand}"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED))
    except Exception as error:  # the hub's errors and those of its HTTP client share no base
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineUnavailable(
            f"{name} cannot be downloaded ({reason[0]}): check the name and the network, or "
            f"{by_hand}"
        ) from error
