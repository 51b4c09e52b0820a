"""Checkpoint files of a token decoder: every spelling loads, a wrong file is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from parley_speech.codec import checkpoint  # noqa: E402
from parley_speech.codec.checkpoint import CheckpointError  # noqa: E402
from parley_speech.codec.cosyvoice2 import config as sizes  # noqa: E402
from parley_speech.codec.cosyvoice2.decoder import CosyVoice2Decoder  # noqa: E402
from parley_speech.codec.cosyvoice2.weights import load_flow, load_hift  # noqa: E402
from parley_speech.types import EngineUnavailable  # noqa: E402

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
FLOW, HIFT = GOLDEN / "cosyvoice2-flow", GOLDEN / "cosyvoice2-hift"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete checkpoint folder that a test may damage."""
    for source in (FLOW / "flow.pt", FLOW / "cosyvoice2.yaml", HIFT / "hift.pt"):
        shutil.copy(source, tmp_path / source.name)
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        CosyVoice2Decoder.load(folder)
    assert isinstance(caught.value, EngineUnavailable)
    return str(caught.value)


# --- the settings -----------------------------------------------------------------------------


def test_yaml_tags_become_data_and_references_are_resolved() -> None:
    settings = checkpoint.read_hyper_yaml(FLOW / "cosyvoice2.yaml", "settings")
    assert settings["flow"]["spk_embed_dim"] == 192
    assert settings["flow"]["decoder"]["estimator"]["static_chunk_size"] == 50
    assert settings["hift"]["sampling_rate"] == 24_000


def test_no_tag_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "cosyvoice2.yaml"
    victim = tmp_path / "victim"
    path.write_text(
        f"a: !!python/object/apply:pathlib.Path.touch [{victim}]\n"
        f"b: !apply:os.mkdir ['{victim}']\nc: !new:builtins.dict {{x: 1}}\n"
    )
    settings = checkpoint.read_hyper_yaml(path, "settings")
    assert settings == {"a": [str(victim)], "b": [str(victim)], "c": {"x": 1}}
    assert not victim.exists()


def test_yaml_and_json_tell_the_same_sizes(tmp_path: Path) -> None:
    shutil.copy(FLOW / "config.json", tmp_path)
    assert sizes.read_settings(tmp_path) == sizes.read_settings(FLOW)


def test_published_sizes_are_the_defaults(tmp_path: Path) -> None:
    """The numbers of the published YAML, in the layout of the golden one."""
    text = (FLOW / "cosyvoice2.yaml").read_text()
    for tiny, published in (
        ("vocab_size: 150", "vocab_size: 6561"),
        ("input_size: 48", "input_size: 512"),
        ("attention_heads: 4", "attention_heads: 8"),
        ("linear_units: 64", "linear_units: 2048"),
        ("num_blocks: 2", "num_blocks: 6"),
        ("channels: [32]", "channels: [256]"),
        ("attention_head_dim: 8", "attention_head_dim: 64"),
        ("n_blocks: 1\n", "n_blocks: 4\n"),
        ("num_mid_blocks: 2", "num_mid_blocks: 12"),
        ("num_heads: 4", "num_heads: 8"),
        ("base_channels: 32", "base_channels: 512"),
        ("nb_harmonics: 2", "nb_harmonics: 8"),
        ("cond_channels: 24", "cond_channels: 512"),
    ):
        assert tiny in text
        text = text.replace(tiny, published)
    (tmp_path / "cosyvoice2.yaml").write_text(text)
    assert sizes.read_settings(tmp_path) == (sizes.FlowConfig(), sizes.HiftConfig())


def test_settings_without_a_section_are_refused(folder: Path) -> None:
    (folder / "cosyvoice2.yaml").write_text("flow: {vocab_size: 3}\n")
    message = refusal(folder)
    assert "cosyvoice2.yaml" in message and "'flow' and 'hift'" in message


def test_broken_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "cosyvoice2.yaml").write_text("flow: [\n")
    assert "cosyvoice2.yaml is no YAML" in refusal(folder)
    (folder / "cosyvoice2.yaml").unlink()
    assert "cosyvoice2.yaml is missing" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json is no JSON" in refusal(folder)
    (folder / "config.json").write_text(json.dumps([1]))
    assert "config.json holds a list" in refusal(folder)


# --- the weights ------------------------------------------------------------------------------


def test_weights_decide_where_settings_differ(caplog: pytest.LogCaptureFixture) -> None:
    flow = load_flow(FLOW)
    assert (flow.config.channels, flow.config.heads, flow.config.head_dim) == (24, 4, 6)
    assert "4 heads of 6" in caplog.text


@pytest.mark.parametrize("prefix", ["", "generator."])
@pytest.mark.parametrize("style", ["parametrizations", "weight_g"])
def test_every_spelling_of_the_vocoder_loads(folder: Path, prefix: str, style: str) -> None:
    state = torch.load(folder / "hift.pt", weights_only=True)
    if style == "weight_g":
        state = {
            key.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): value
            for key, value in state.items()
        }
    torch.save({prefix + key: value for key, value in state.items()}, folder / "hift.pt")
    loaded, expected = load_hift(folder).state_dict(), load_hift(HIFT).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in loaded)


def test_folded_weights_are_those_of_torch() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(4, 3, 5))
    folded = checkpoint.fold_weight_norm(dict(layer.state_dict()))
    assert sorted(folded) == ["bias", "weight"]
    assert torch.equal(folded["weight"], layer.weight)


def test_a_trainers_bookkeeping_is_left_out(folder: Path) -> None:
    state = torch.load(folder / "flow.pt", weights_only=True)
    torch.save({**state, "epoch": 3, "step": 70}, folder / "flow.pt")
    assert load_flow(folder).config.vocabulary == 150


@pytest.mark.parametrize("name", ["flow.pt", "hift.pt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    message = refusal(folder)
    assert f"{name} is missing" in message and "state dict" in message


@pytest.mark.parametrize("name", ["flow.pt", "hift.pt"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_named(folder: Path, name: str, share: float) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    message = refusal(folder)
    assert name in message and "again" in message


def test_a_pointer_instead_of_a_file_is_named(folder: Path) -> None:
    (folder / "flow.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "flow.pt is a Git LFS pointer" in refusal(folder)


def test_swapped_files_are_refused(folder: Path) -> None:
    (folder / "flow.pt").write_bytes((folder / "hift.pt").read_bytes())
    message = refusal(folder)
    assert "flow.pt" in message and "speech tokens to mel" in message


def test_foreign_missing_and_misshapen_tensors_are_listed(folder: Path) -> None:
    state = torch.load(folder / "flow.pt", weights_only=True)
    del state["encoder.after_norm.weight"]
    state["surprise"] = torch.zeros(1)
    state["encoder_proj.bias"] = torch.zeros(81)
    torch.save(state, folder / "flow.pt")
    message = refusal(folder)
    assert "missing: encoder.after_norm.weight" in message
    assert "unknown: surprise" in message
    assert "encoder_proj.bias is (81,), not (80,)" in message


def test_numbers_that_are_not_finite_are_refused(folder: Path) -> None:
    state = torch.load(folder / "flow.pt", weights_only=True)
    state["encoder_proj.bias"][3] = float("nan")
    torch.save(state, folder / "flow.pt")
    assert "not finite: encoder_proj.bias" in refusal(folder)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("/nowhere/evil"),)  # type: ignore[return-value]


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, Evil()])
def test_what_is_no_state_dict_is_refused(folder: Path, content: object) -> None:
    torch.save(content, folder / "flow.pt")
    assert "flow.pt" in refusal(folder)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "is no folder" in refusal(tmp_path / "nothing")
