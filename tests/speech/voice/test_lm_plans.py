"""The layouts as pure plans: what is fed when, without any model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_speech.lm.errors import UtteranceTooLong
from parley_speech.lm.interleave import InterleavedPlan, Quirks, Utterance, WholePlan
from parley_speech.lm.segments import Plan, Segment
from parley_speech.lm.vocabulary import MergedVocabulary

IDS = MergedVocabulary(offset=100, speech_tokens=50)
S = IDS.offset


def utterance(
    limit: int = 1000, text: tuple[int, ...] = (), speech: tuple[int, ...] = ()
) -> Utterance:
    return Utterance(IDS, limit, text, speech)


def answer(plan: Plan, segment: Segment, tokens: list[int]) -> list[int]:
    """Lets the plan take what a model sampled in a segment, as an engine would give it."""
    spoken = []
    for n, token in enumerate(tokens, 1):
        taken = plan.take(token)
        if taken is not None:
            spoken.append(taken)
        if token in segment.stops or n == segment.max_tokens:
            break
    return spoken


def test_published_sizes():
    ids = MergedVocabulary(151_936, 6561)
    assert (ids.eos, ids.fill, ids.sos, ids.task) == (158_497, 158_499, 158_500, 158_501)
    assert ids.size % 128 == 0 and ids.size >= ids.task + 1
    assert MergedVocabulary.from_config({"parley_speech": ids.as_config()}) == ids
    with pytest.raises(ValueError, match="converter"):
        MergedVocabulary.from_config({})


def test_nothing_happens_before_five_text_tokens():
    plan = InterleavedPlan(utterance())
    plan.feed([1, 2, 3, 4])
    assert plan.next() is None and not plan.finished
    plan.feed([5])
    segment = plan.next()
    assert segment is not None
    assert segment.feed == (IDS.sos, 1, 2, 3, 4, 5)
    assert segment.max_tokens == 16 and segment.stops == {IDS.fill}
    assert set(segment.allowed.never) == {IDS.eos, IDS.eos2}


def test_fifteen_tokens_force_a_fill_and_the_sixteenth_is_not_spoken():
    plan = InterleavedPlan(utterance())
    plan.feed(list(range(11)))
    segment = plan.next()
    assert segment is not None
    spoken = answer(plan, segment, [S + n for n in range(16)])
    assert spoken == list(range(15))
    following = plan.next()
    assert following is not None
    assert following.feed == (5, 6, 7, 8, 9)
    assert following.history[-1] == IDS.fill and following.step == 16
    assert len(following.history) == 10


def test_a_sampled_fill_ends_a_block_early_and_the_rest_follows_the_text():
    plan = InterleavedPlan(utterance())
    plan.feed(list(range(7)))
    segment = plan.next()
    assert segment is not None
    assert answer(plan, segment, [S + 1, S + 2, IDS.fill]) == [1, 2]
    assert plan.next() is None
    plan.end()
    rest = plan.next()
    assert rest is not None and rest.last
    assert rest.feed == (5, 6, IDS.task)
    assert answer(plan, rest, [S + 3, IDS.eos]) == [3]
    assert plan.finished and plan.next() is None


def test_the_stale_token_comes_back_by_its_quirk():
    for quirks, feed in ((Quirks(), (IDS.task,)), (Quirks(stale_token=True), (S + 2, IDS.task))):
        plan = InterleavedPlan(utterance(), quirks)
        plan.feed(list(range(5)))
        plan.end()
        segment = plan.next()
        assert segment is not None
        answer(plan, segment, [S + 1, S + 2, IDS.fill])
        rest = plan.next()
        assert rest is not None and rest.feed == feed


def test_the_voice_is_interleaved_first_and_its_last_block_is_filled_up():
    """19 tokens of the voice: a block of 15, one of 4 that leaves 11 to speak."""
    plan = InterleavedPlan(utterance(text=(1, 2, 3, 4, 5, 6, 7), speech=tuple(range(19))))
    assert plan.next() is None
    plan.feed([8])
    assert plan.next() is None
    plan.feed([9, 10, 11])
    segment = plan.next()
    assert segment is not None
    voice = [S + n for n in range(19)]
    assert segment.feed == (IDS.sos, 1, 2, 3, 4, 5, *voice[:15], 6, 7, 8, 9, 10, *voice[15:])
    assert segment.max_tokens == 12
    assert segment.history == ()


def test_a_text_too_short_for_the_voice_is_spoken_in_the_whole_layout():
    """Upstream drops the rest of the voice's speech and so reads its text aloud."""
    voice = {"text": (1, 2, 3), "speech": tuple(range(40))}
    plan = InterleavedPlan(utterance(**voice))
    plan.feed([4, 5, 6, 7])
    plan.end()
    segment = plan.next()
    assert segment is not None
    speech = [S + n for n in range(40)]
    assert segment.feed == (IDS.sos, 1, 2, 3, 4, 5, 6, 7, IDS.task, *speech)
    assert segment.last and segment.allowed.from_step == 2 * 4
    assert answer(plan, segment, [S, IDS.eos]) == [0] and plan.finished
    upstream = InterleavedPlan(utterance(**voice), Quirks(drop_prompt=True))
    upstream.feed([4, 5, 6, 7])
    upstream.end()
    segment = upstream.next()
    assert segment is not None
    assert segment.feed == (IDS.sos, 1, 2, 3, 4, 5, *speech[:15], 6, 7, IDS.task)


def test_no_text_is_no_speech():
    plans: list[Plan] = [InterleavedPlan(utterance(text=(1,), speech=(2,))), WholePlan(utterance())]
    for plan in plans:
        plan.end()
        assert plan.next() is None and plan.finished


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_cut_of_the_text_changes_nothing(data: st.DataObject):
    """Any pieces, at any moment: every segment is fed the same."""
    text = data.draw(st.lists(st.integers(0, 99), max_size=40))
    speech = tuple(data.draw(st.lists(st.integers(0, 49), max_size=40)))
    spoken_at = data.draw(st.lists(st.integers(0, 16), min_size=20, max_size=20))
    start = utterance(text=(1, 2, 3) if speech else (), speech=speech)

    def fed(pieces: list[list[int]]) -> list[tuple[int, ...]]:
        plan, result, lengths = InterleavedPlan(start), [], iter(spoken_at)

        def work() -> None:
            while segment := plan.next():
                result.append(segment.feed)
                stop = IDS.eos if segment.last else IDS.fill
                answer(plan, segment, [*[S] * next(lengths), stop, *[S] * 20])

        for piece in pieces:
            plan.feed(piece)
            if data.draw(st.booleans()):
                work()
        plan.end()
        work()
        assert plan.finished
        return result

    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = fed([text])
    assert fed(pieces) == whole
    assert [i for feed in whole for i in feed if i < S] == (
        [1, 2, 3] if speech and text else []
    ) + text


@settings(max_examples=100, deadline=None)
@given(limit=st.integers(10, 120), text=st.integers(1, 60), voice=st.integers(0, 30))
def test_a_session_never_outgrows_the_context(limit: int, text: int, voice: int):
    """vLLM dies of one token too many: fed + sampled stays within, whatever the model says."""
    plan = InterleavedPlan(utterance(limit, tuple(range(voice // 4)), tuple([1] * voice)))
    used = 0
    try:
        plan.feed([7] * text)
        plan.end()
        while segment := plan.next():
            assert used + len(segment.feed) + segment.max_tokens <= limit
            used += len(segment.feed) + segment.max_tokens - 1
            answer(plan, segment, [S] * segment.max_tokens)
    except UtteranceTooLong as error:
        assert str(limit) in str(error)


def test_too_long_says_what_does_not_fit():
    plan = WholePlan(utterance(limit=30))
    plan.feed([1] * 20)
    plan.end()
    with pytest.raises(UtteranceTooLong, match="no room to speak 20 text tokens"):
        plan.next()
    with pytest.raises(UtteranceTooLong, match="text tokens"):
        InterleavedPlan(utterance(limit=30)).feed([1] * 31)


def test_ids_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"100 is no text id: expected 0\.\.99"):
        InterleavedPlan(utterance()).feed([100])
    with pytest.raises(ValueError, match=r"50 is no speech token"):
        InterleavedPlan(utterance(speech=(50,)))
