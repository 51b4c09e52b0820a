"""Repetition-aware sampling against upstream's streams and against a slow loop."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import lm_golden as golden  # noqa: E402

from parley_speech.lm.dice import numbers, uniform  # noqa: E402
from parley_speech.lm.sampling import Row, draw  # noqa: E402
from parley_speech.lm.segments import GREEDY, RAS, Allowed, Dice, Rule  # noqa: E402

BASE = 160


@pytest.mark.parametrize("case", ["ras", "ras_bi"])
def test_upstreams_streams_of_random_numbers(case: str):
    """Every draw of the stored cases: the token, and how many numbers it took."""
    stream = iter(golden.cases()[f"lm/in/{case}_u"].tolist())
    walked = golden.reference_ras(case, lambda: next(stream))
    taken = sum(len(used) for *_, used in walked)
    assert taken == int(golden.cases()[f"lm/{case}/draws_used"])
    spoken = [token for token, *_ in walked if token < 150]
    assert spoken == golden.ids(f"{case}/tokens")
    rows, scores, want = [], [], []
    for n, (token, masked, before, used) in enumerate(walked):
        if used:
            dice = Dice(0, ((),) * n + (used,))
            said = [BASE + t for t in before]
            rows.append(Row(RAS, Allowed(BASE, 153), dice, n, said))
            scores.append(masked)
            want.append(BASE + token)
    assert len(want) > 25 and any(len(used) == 2 for *_, used in walked)
    logits = torch.from_numpy(np.array(scores, np.float32))
    assert draw(logits, rows, base=BASE).tolist() == want  # all at once, as a batch
    wide = torch.full((len(rows), 400), 9.0)
    wide[:, BASE : BASE + 153] = logits
    assert draw(wide, rows).tolist() == want  # in a row over all ids, others never drawn


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), repeats=st.integers(0, 9), flat=st.floats(0.1, 6))
def test_equal_to_the_slow_loop(seed: int, repeats: int, flat: float):
    rng = np.random.default_rng(seed)
    scores = (rng.standard_normal(40) * flat).astype(np.float32)
    said = [int(np.argmax(scores))] * repeats + rng.integers(0, 40, 5).tolist()
    used = (float(rng.random()), float(rng.random()))
    stream = iter(used)
    token, _ = golden.one_draw(scores.astype(np.float64), said, lambda: next(stream))
    row = Row(RAS, Allowed(0, 40), Dice(0, (used,)), 0, said)
    assert draw(torch.from_numpy(scores)[None], [row]).tolist() == [token]


def test_rows_of_different_rules_in_one_batch_are_as_alone():
    torch.manual_seed(1)
    logits = torch.randn(6, 50)
    kept = logits.clone()
    rules = [RAS, GREEDY, replace(RAS, temperature=0.5), Rule(top_p=1.0, top_k=0, tau=0.0)]
    rows = [
        Row(rule, Allowed(5, 40, never=never), Dice(n), n, [7, 8])
        for n, (rule, never) in enumerate(
            itertools.islice(itertools.product(rules, [(), (9, 10)]), 6)
        )
    ]
    together = draw(logits, rows).tolist()
    alone = [draw(logits[n : n + 1], [row]).item() for n, row in enumerate(rows)]
    assert together == alone
    assert torch.equal(logits, kept)


def test_what_is_closed_is_never_drawn():
    logits = torch.zeros(1, 20)
    logits[0, 3] = logits[0, 12] = 40.0
    allowed = Allowed(5, 10, never=(12,), not_before=(6,), from_step=4)
    for step in range(40):
        (token,) = draw(logits, [Row(RAS, allowed, Dice(step), step % 8, ())]).tolist()
        assert 5 <= token < 15 and token != 12
        assert token != 6 or step % 8 >= 4


def test_a_single_possible_token_is_drawn_again_and_again():
    logits = torch.zeros(1, 4)
    row = Row(RAS, Allowed(0, 4, never=(0, 1, 3)), Dice(1), 5, [2, 2, 2])
    assert draw(logits, [row]).tolist() == [2]


def test_numbers_of_0_and_almost_1_stay_inside_the_nucleus():
    logits = torch.tensor([[2.0, 1.0, 0.5, -30.0]])
    for u, want in ((0.0, 0), (1 - 2**-53, 2)):
        rule = replace(RAS, top_p=0.99, tau=0.0)
        assert draw(logits, [Row(rule, Allowed(0, 4), Dice(0, ((u,),)), 0, ())]).item() == want


def test_the_nucleus_ends_with_the_token_that_reaches_top_p():
    """0.5 + 0.3 reach 0.8: the third is out; with top_k 1 only the first is in."""
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()

    def drawn(rule: Rule) -> set[int]:
        grid = np.linspace(0, 0.999, 60)
        rows = [Row(rule, Allowed(0, 4), Dice(0, ((u,),)), 0, ()) for u in grid]
        return set(draw(logits.repeat(60, 1), rows).tolist())

    assert drawn(replace(RAS, top_p=0.79)) == {0, 1}
    assert drawn(replace(RAS, top_p=0.81)) == {0, 1, 2}
    assert drawn(replace(RAS, top_k=1)) == {0}
    assert drawn(replace(RAS, top_p=1.0, top_k=0)) == {0, 1, 2, 3}


def test_random_numbers_depend_on_seed_step_and_draw_alone_and_are_even():
    sample = np.array(
        [uniform(seed, step, n) for seed in range(8) for step in range(500) for n in range(2)]
    )
    assert len(np.unique(sample)) == len(sample)
    assert sample.min() >= 0 and sample.max() < 1
    counts = np.histogram(sample, bins=20, range=(0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 44  # chi², 19 degrees: 1 in 1,000
    pairs = np.corrcoef(sample[::2], sample[1::2])[0, 1]
    assert abs(pairs) < 0.05
    assert numbers(Dice(3), 9) == (uniform(3, 9, 0), uniform(3, 9, 1))
    assert uniform(2**63 + 5, 1, 0) == uniform(2**63 + 5, 1, 0) != uniform(5, 1, 0)


@pytest.mark.parametrize("wrong", [{"top_p": 0}, {"top_k": -1}, {"temperature": 0}, {"tau": 2}])
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="Rule"):
        Rule(**wrong)  # type: ignore[arg-type]
