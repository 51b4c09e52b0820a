from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from parley_speech import registry
from parley_speech.types import EngineUnavailable
from parley_speech.vad.gate import SpeechGate


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes some entry points the installed ones."""

    def install(*points: EntryPoint) -> None:
        def entry_points(*, group: str) -> EntryPoints:
            return EntryPoints(points).select(group=group)

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    return install


class FakeMetadata:
    def __init__(self, extras: list[str]) -> None:
        self._extras = extras

    def get_all(self, name: str) -> list[str]:
        assert name == "Provides-Extra"
        return self._extras


class FakeDistribution:
    def __init__(self, name: str, extras: list[str]) -> None:
        self.name, self.metadata = name, FakeMetadata(extras)


def point(
    name: str, value: str, kind: str = "vad", owner: str = "parley", extras: tuple[str, ...] = ()
) -> EntryPoint:
    made = EntryPoint(name, value, f"parley.{kind}")
    vars(made)["dist"] = FakeDistribution(owner, list(extras))
    return made


GATE = "parley_speech.vad.gate:SpeechGate"


def test_an_engine_is_found_by_kind_and_name(install) -> None:  # type: ignore[no-untyped-def]
    install(point("gate", GATE), point("gate", "json:JSONDecoder", kind="tts"))
    assert registry.load("vad", "gate") is SpeechGate
    assert registry.load("tts", "gate").__name__ == "JSONDecoder"


def test_names_lists_the_engines_of_one_kind(install) -> None:  # type: ignore[no-untyped-def]
    install(point("b", GATE), point("a", GATE), point("c", GATE, kind="asr"))
    assert registry.names("vad") == ["a", "b"]
    assert registry.names("mind") == []


def test_our_own_engine_wins_over_another_package_that_claims_its_name(install) -> None:  # type: ignore[no-untyped-def]
    install(point("gate", "json:JSONDecoder", owner="aaa"), point("gate", GATE))
    assert registry.load("vad", "gate") is SpeechGate


def test_an_unknown_name_lists_what_is_installed(install) -> None:  # type: ignore[no-untyped-def]
    install(point("silero", GATE), point("webrtc", GATE))
    with pytest.raises(EngineUnavailable, match=r"no vad engine 'sileroo'.*silero, webrtc"):
        registry.load("vad", "sileroo")


def test_when_nothing_is_installed_the_error_says_to_install_the_package(install) -> None:  # type: ignore[no-untyped-def]
    install()
    with pytest.raises(EngineUnavailable, match=r"no package that is installed.*pip install"):
        registry.load("asr", "pocketsphinx")


def test_a_missing_library_names_the_extra_that_brings_it(install) -> None:  # type: ignore[no-untyped-def]
    install(point("espeak", "no_such_module_here:Voice", kind="tts", extras=("espeak", "report")))
    with pytest.raises(EngineUnavailable, match=r"pip install 'parley\[espeak\]'") as caught:
        registry.load("tts", "espeak")
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_broken_entry_of_another_package_names_that_package(install) -> None:  # type: ignore[no-untyped-def]
    install(point("theirs", "json:NoSuchClass", owner="their-voices"))
    with pytest.raises(EngineUnavailable, match=r"json:NoSuchClass.*Reinstall their-voices"):
        registry.load("vad", "theirs")


def test_an_entry_that_is_no_class_is_refused(install) -> None:  # type: ignore[no-untyped-def]
    install(point("loads", "json:loads"))
    with pytest.raises(EngineUnavailable, match="must be a class, it is a function"):
        registry.load("vad", "loads")


def test_an_unknown_kind_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="kind must be one of vad, asr, tts, mind, turn_end"):
        registry.load("vda", "silero")  # type: ignore[arg-type]


def test_the_entry_points_of_pyproject_name_classes_that_exist() -> None:
    """The speech floor's VADs, as declared; other engines have their own tests."""
    import tomllib
    from pathlib import Path

    root = Path(__file__).parents[2]
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    for name, value in declared["parley.vad"].items():
        assert isinstance(EntryPoint(name, value, "parley.vad").load(), type)
