"""How full a worker says it is: what livekit-server decides by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from livekit.plugins.parley import worker
from livekit.plugins.parley.settings import Settings


def with_calls(n: int) -> Any:
    return SimpleNamespace(active_jobs=[object()] * n)


def load(calls: int, *, cpu: float, monkeypatch: pytest.MonkeyPatch, look: bool = True) -> float:
    monkeypatch.setattr(worker.psutil, "cpu_percent", lambda interval: cpu * 100)
    return worker.load(with_calls(calls), most=4, look_at_cpu=look)


def test_an_idle_worker_is_never_full(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(0, cpu=1.0, monkeypatch=monkeypatch) == 0.0


def test_a_worker_with_a_free_place_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = [load(n, cpu=0.5, monkeypatch=monkeypatch) for n in range(4)]
    assert loads == sorted(loads)
    assert max(loads) < worker.TARGET


def test_a_full_one_and_a_busy_one_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(4, cpu=0.0, monkeypatch=monkeypatch) >= worker.TARGET
    assert load(1, cpu=0.99, monkeypatch=monkeypatch) >= worker.TARGET
    assert load(1, cpu=0.99, monkeypatch=monkeypatch, look=False) < worker.TARGET


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_MAX_CALLS", "3")
    monkeypatch.setenv("PARLEY_FLOW", "mine.yaml")
    settings = Settings()
    assert settings.max_calls == 3 and settings.parts().flow == "mine.yaml"
    assert settings.host == "127.0.0.1", "nothing listens to the world unless it is told to"
    monkeypatch.setenv("PARLEY_MAX_CALLS", "0")
    with pytest.raises(ValueError, match="max_calls"):
        Settings()


@pytest.mark.parametrize("installed", [True, False])
def test_a_calls_event_loop_is_uvloops_where_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    uvloop = pytest.importorskip("uvloop")
    policies: list[object] = []
    monkeypatch.setattr(worker.asyncio, "set_event_loop_policy", policies.append)
    if not installed:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    worker.quick_loop()
    assert [type(policy) for policy in policies] == [uvloop.EventLoopPolicy] * installed
