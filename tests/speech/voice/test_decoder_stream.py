"""The decoder: any schedule gives one sound, calls do not touch each other, ended ones are gone."""

from __future__ import annotations

import gc

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from decoder_tiny import (  # noqa: E402
    FLOW,
    HIFT,
    TINY_FLOW,
    golden_flow,
    golden_hift,
    golden_prompt,
    golden_reference,
    relative,
    say,
    tiny_decoder,
    tiny_networks,
    tiny_prompt,
    tiny_tokens,
)
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from parley_speech.codec.cosyvoice2 import flow_stream  # noqa: E402
from parley_speech.codec.cosyvoice2.compiled import compile_flow  # noqa: E402
from parley_speech.codec.cosyvoice2.decoder import (  # noqa: E402
    Call,
    CosyVoice2Decoder,
    UtteranceTooLong,
)
from parley_speech.codec.cosyvoice2.flow import Flow, Reference  # noqa: E402
from parley_speech.codec.cosyvoice2.memory import CallMemory, Chunked, KeyValues  # noqa: E402
from parley_speech.codec.cosyvoice2.source import frame_noise, sines  # noqa: E402
from parley_speech.codec.cosyvoice2.weights import random_networks  # noqa: E402
from parley_speech.token_voice import DecoderWork, Floats, TokenDecoder, TokenPrompt  # noqa: E402
from parley_speech.types import EngineUnavailable  # noqa: E402

MEL_TOLERANCE = 1e-4
WAVE_TOLERANCE = 1e-3


def one_pass(prompt: TokenPrompt, tokens: list[int], *, streaming: bool = True) -> Floats:
    """The whole utterance without any cache: one flow pass, one vocoder pass."""
    flow, hift = tiny_networks()
    with torch.inference_mode():
        speaker = flow.speaker(torch.from_numpy(prompt.embedding))
        reference = Reference(prompt.tokens, torch.from_numpy(prompt.mel.T.copy()), speaker)
        mel = flow.whole(reference, tokens, streaming=streaming)[None]
        noise = frame_noise(0, 0, mel.shape[2], hift.config)[None]
        waves, _ = sines(hift.f0(mel), noise, hift.config, None)
        return hift.decode(mel, hift.m_source(waves))[0].numpy()


# --- one sound for every schedule -------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(
    prompt=st.integers(0, 40),
    count=st.integers(1, 80),
    hops=st.lists(st.integers(0, 60), max_size=6),
)
def test_any_hops_give_the_sound_of_one_pass(prompt: int, count: int, hops: list[int]) -> None:
    tokens = tiny_tokens(count, seed=count)
    voice = tiny_prompt(prompt)
    parts = say(tiny_decoder(), voice, tokens, hops)
    got = np.concatenate(parts)
    assert len(got) == 960 * count
    assert relative(got, one_pass(voice, tokens)) < WAVE_TOLERANCE


def test_token_by_token_sound_comes_when_it_was_announced() -> None:
    decoder, tokens = tiny_decoder(), tiny_tokens(90)
    call = decoder.open(tiny_prompt(30))
    heard = []
    for token in tokens:
        expected = call.needed == 1
        samples = decoder.step([DecoderWork(call, [token])])[0]
        assert (len(samples) > 0) == expected
        heard.append(samples)
    # 20 tokens fill the reference's chunk, three are looked ahead to, 20 frames are held back.
    lengths = [(n + 1, len(s) // 480) for n, s in enumerate(heard) if len(s)]
    assert lengths == [(23, 20), (48, 50), (73, 50)]


def test_needed_skips_a_chunk_that_brings_too_little() -> None:
    """24 of 25 tokens are the reference's: the first chunk brings 2 frames, 20 are held back."""
    decoder = tiny_decoder()
    call = decoder.open(tiny_prompt(24))
    assert call.needed == 1 + 25 + 3
    assert len(decoder.step([DecoderWork(call, tiny_tokens(28))])[0]) == 0
    assert call.needed == 1
    assert len(decoder.step([DecoderWork(call, [1])])[0]) == (2 + 50 - 20) * 480


def test_golden_tokens_to_golden_mel() -> None:
    """The decoder's own path, with the published numbers in and out."""
    heard: list[torch.Tensor] = []

    class Spy(CosyVoice2Decoder):
        def _round(self, ready, pieces):  # type: ignore[no-untyped-def]
            super()._round(ready, pieces)
            heard.extend(state.voice.mel[:, -1:] for _, state in ready)

    decoder = Spy(golden_flow()[0], golden_hift()[0], widest=1)  # a round for every chunk
    tokens = golden_flow()[1]["flow/in/token"][0].tolist()
    parts = say(decoder, golden_prompt(), tokens, [45 + 3, 50])
    assert [len(p) for p in parts] == [(90 - 20) * 480, 100 * 480, 70 * 480]
    mel = golden_flow()[1]["flow/long_stream/mel"][0]
    for frame, got in zip((39, 89, 139, 189), heard[:4], strict=True):
        wanted = mel[:, frame : frame + 1]
        assert float((got - wanted).abs().max() / mel.abs().max()) < MEL_TOLERANCE


def test_the_originals_tail_is_an_option() -> None:
    voice, tokens = tiny_prompt(30), tiny_tokens(72)
    parts = say(tiny_decoder(tail="upstream", hold_frames=0), voice, tokens, [48])
    assert [len(p) for p in parts] == [90 * 480, 54 * 480]
    # The last 27 tokens come from the unmasked pass, at once.
    flow, _ = tiny_networks()
    speaker = flow.speaker(torch.from_numpy(voice.embedding))
    reference = Reference(voice.tokens, torch.from_numpy(voice.mel.T.copy()), speaker)
    masked = np.concatenate(say(tiny_decoder(hold_frames=0), voice, tokens, [48]))
    assert relative(np.concatenate(parts)[: 80 * 480], masked[: 80 * 480]) < WAVE_TOLERANCE
    assert relative(np.concatenate(parts)[-20 * 480 :], masked[-20 * 480 :]) > WAVE_TOLERANCE
    with torch.inference_mode():
        mel = flow.whole(reference, tokens, streaming=False)
    decoder = tiny_decoder(tail="upstream")
    call = decoder.open(voice)
    decoder.step([DecoderWork(call, tokens[:48])])
    assert call.state is not None
    state = call.state
    decoder.step([DecoderWork(call, tokens[48:], last=True)])
    assert relative(state.voice.mel[:, -10:], mel[:, -10:]) < MEL_TOLERANCE


def test_upstreams_tail_with_golden_numbers() -> None:
    decoder = CosyVoice2Decoder(golden_flow()[0], golden_hift()[0], tail="upstream")
    cases = golden_flow()[1]
    tokens = cases["flow/in/token"][0].tolist()
    call = decoder.open(golden_prompt())
    decoder.step([DecoderWork(call, tokens[:98])])
    assert call.state is not None
    flow, start = call.state.flow, call.state.flow.frame
    assert start - golden_reference().mel.shape[1] == 190
    flow.pending, flow.last, call.given = tokens[95:], True, tokens
    with torch.inference_mode():
        tail = decoder._upstream_tail(call, flow)
    assert relative(tail, cases["flow/long_hop25/tail_upstream"][0]) < MEL_TOLERANCE


def test_a_bounded_past_has_bounded_memory() -> None:
    voice, tokens = tiny_prompt(60), tiny_tokens(200)
    free, bound = tiny_decoder(), tiny_decoder(left_chunks=2)
    sizes: dict[str, list[int]] = {"free": [], "bound": []}
    for name, decoder in (("free", free), ("bound", bound)):
        call = decoder.open(voice)
        for at in range(0, 200, 50):
            decoder.step([DecoderWork(call, tokens[at : at + 50])])
            assert call.state is not None
            sizes[name].append(call.state.flow.velocity.nbytes + call.state.voice.nbytes)
    assert len(set(sizes["bound"])) == 1
    assert sizes["free"][-1] > 1.5 * sizes["bound"][-1]


@pytest.mark.parametrize("left", [-1, 0, 2])
def test_nothing_is_heard_of_memory_that_was_not_written(left: int) -> None:
    """Rooms are made larger than what they hold; here what they do not hold is NaN."""
    voice, tokens = tiny_prompt(60), tiny_tokens(180)
    usual = say(tiny_decoder(left_chunks=left), voice, tokens, [60, 50])
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives with NaN
    try:
        assert torch.empty(3).isnan().all()
        poisoned = say(tiny_decoder(left_chunks=left, reserve_s=20), voice, tokens, [60, 50])
    finally:
        torch.use_deterministic_algorithms(False)
    assert np.array_equal(np.concatenate(usual), np.concatenate(poisoned))


def test_a_call_with_a_bounded_past_never_grows_in_the_flow() -> None:
    decoder, voice = tiny_decoder(left_chunks=1), tiny_prompt(60)
    call, sizes = decoder.open(voice), set()
    for second in range(12):
        decoder.step([DecoderWork(call, tiny_tokens(25, seed=second))])
        assert call.state is not None
        sizes.add(call.state.flow.velocity.nbytes)
    assert len(sizes) == 1


def test_warming_up_fills_every_batch_and_leaves_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, batches = tiny_decoder(batch_sizes=(1, 2, 4, 8), max_batch=4), []
    advance = flow_stream.advance

    def counted(flow, calls, **options):  # type: ignore[no-untyped-def]
        batches.append(len(calls))
        return advance(flow, calls, **options)

    monkeypatch.setattr(flow_stream, "advance", counted)
    decoder.warm_up(tiny_prompt(0))
    assert batches == [1, 2, 4]
    voice, tokens = tiny_prompt(0), tiny_tokens(60)
    got = np.concatenate(say(decoder, voice, tokens, [30]))
    assert relative(got, one_pass(voice, tokens)) < WAVE_TOLERANCE


# --- several chunks in one pass ---------------------------------------------------------------


@pytest.mark.parametrize("left", [-1, 0, 1, 4])
@pytest.mark.parametrize("prompts", [(0,), (61,), (30, 61)])
def test_several_chunks_in_one_pass_are_those_made_one_by_one(
    left: int, prompts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as fit, a window that is smaller than the pass, references that fill no chunk."""
    chunks: list[int] = []
    take = flow_stream.FlowCall.take

    def counted(call: flow_stream.FlowCall, count: int = 1) -> tuple[list[int], int]:
        chunks.append(count)
        return take(call, count)

    monkeypatch.setattr(flow_stream.FlowCall, "take", counted)
    heard = {}
    for widest in (1, 4):
        decoder = tiny_decoder(left_chunks=left, widest=widest)
        voices = [tiny_prompt(prompt, seed=prompt) for prompt in prompts]
        for voice in voices:
            decoder.prepare(voice)
        calls = [decoder.open(voice) for voice in voices]
        chunks.clear()
        steps = [
            decoder.step([DecoderWork(call, part, last) for call in calls])
            for part, last in ((tiny_tokens(40), False), (tiny_tokens(160, 1), True))
        ]
        heard[widest] = [np.concatenate(pieces) for pieces in zip(*steps, strict=True)]
        assert max(chunks) == widest // (len(calls) if widest > 1 else 1)
    for wide, narrow in zip(heard[4], heard[1], strict=True):
        assert len(narrow) == 960 * 200
        assert relative(wide, narrow) < WAVE_TOLERANCE


def test_shapes_that_are_compiled_stay_one_chunk_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = set()
    integrate = Flow.integrate

    def watched(self, noise, *rest, **options):  # type: ignore[no-untyped-def]
        widths.add(noise.shape[2])
        return integrate(self, noise, *rest, **options)

    monkeypatch.setattr(Flow, "integrate", watched)
    say(tiny_decoder(batch_sizes=(1, 2)), tiny_prompt(0), tiny_tokens(130), [])
    assert widths == {TINY_FLOW.chunk_frames}


def test_the_memory_takes_whole_chunks_of_like_number_only() -> None:
    def memory() -> CallMemory:
        return CallMemory(KeyValues(1, 1, chunk=4))

    with pytest.raises(ValueError, match="at most 4 or a multiple"):
        memory().kv.begin(6)
    with pytest.raises(ValueError, match="unlike number"):
        Chunked([memory(), memory()], [8, 4])


# --- many calls -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "each"},
        {"attention": "padded"},
        {"attention": "padded", "max_batch": 2},
        {"attention": "each", "batch_sizes": (4, 8)},
        {"attention": "padded", "batch_sizes": (4, 8), "left_chunks": 1},
        {"tail": "upstream"},
    ],
)
def test_calls_of_different_ages_sound_as_alone(options: dict[str, object]) -> None:
    decoder = tiny_decoder(**options)
    prompts = [tiny_prompt(p, seed=p) for p in (0, 30, 30, 61)]
    counts = (80, 40, 57, 26)
    utterances = [tiny_tokens(count, seed=count) for count in counts]
    calls = [decoder.open(prompt) for prompt in prompts]
    got: list[list[Floats]] = [[] for _ in calls]
    at = [0] * 4
    for turn in range(6):
        work, chosen = [], []
        for n in range(4):
            if turn >= n and at[n] < counts[n]:
                new = utterances[n][at[n] : at[n] + 25 + 7 * n]
                at[n] += len(new)
                work.append(DecoderWork(calls[n], new, last=at[n] == counts[n]))
                chosen.append(n)
        for n, samples in zip(chosen, decoder.step(work), strict=True):
            got[n].append(samples)
    assert at == list(counts)
    for n, parts in enumerate(got):
        alone = say(tiny_decoder(**options), prompts[n], utterances[n], [])
        assert relative(np.concatenate(parts), np.concatenate(alone)) < WAVE_TOLERANCE


def test_a_thousand_calls_leave_nothing_behind() -> None:
    decoder, voice, tokens = tiny_decoder(), tiny_prompt(0), tiny_tokens(28)
    decoder.prepare(voice)

    def alive() -> int:
        gc.collect()
        # type(), not isinstance(): some modules' lazy objects warn when they are looked at.
        found = (o for o in gc.get_objects() if issubclass(type(o), torch.Tensor))
        return sum(t.untyped_storage().nbytes() for t in found)

    def batch(count: int) -> None:
        calls = [decoder.open(voice) for _ in range(count)]
        half = [DecoderWork(call, tokens[:5]) for call in calls[: count // 2]]
        decoder.step(half)  # waiting for more when they are closed
        full = [DecoderWork(call, tokens) for call in calls[count // 2 : count // 2 + 4]]
        decoder.step(full)  # in the middle of their sound
        assert sum(call.nbytes for call in calls) > 0
        for call in calls:
            decoder.close(call)
            decoder.close(call)
        assert all(call.nbytes == 0 and call.needed == 0 for call in calls)

    batch(50)
    before = alive()
    for _ in range(20):
        batch(50)
    assert alive() == before


def test_an_ended_call_is_free_and_silent() -> None:
    decoder = tiny_decoder()
    call = decoder.open(tiny_prompt(30))
    assert len(decoder.step([DecoderWork(call, tiny_tokens(9), last=True)])[0]) == 9 * 960
    assert call.state is None and call.nbytes == 0 and call.needed == 0
    assert len(decoder.step([DecoderWork(call, tiny_tokens(40), last=True)])[0]) == 0


def test_an_utterance_without_tokens_is_silent() -> None:
    for tail in ("streaming", "upstream"):
        decoder = tiny_decoder(tail=tail)
        call = decoder.open(tiny_prompt(30))
        assert len(decoder.step([DecoderWork(call, [], last=True)])[0]) == 0


def test_closing_stops_between_two_euler_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, steps = tiny_decoder(), 0
    call = decoder.open(tiny_prompt(0))
    enter = flow_stream.Chunked.enter

    def counted(self: flow_stream.Chunked, group: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            decoder.close(call)
        enter(self, group)

    monkeypatch.setattr(flow_stream.Chunked, "enter", counted)
    assert len(decoder.step([DecoderWork(call, tiny_tokens(100), last=True)])[0]) == 0
    assert steps == 3 and call.nbytes == 0


def test_one_call_closed_in_a_batch_does_not_stop_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder, tokens = tiny_decoder(), tiny_tokens(60)
    gone, stays = decoder.open(tiny_prompt(0)), decoder.open(tiny_prompt(0))
    advance = flow_stream.advance

    def closing(*args, **options):  # type: ignore[no-untyped-def]
        decoder.close(gone)
        return advance(*args, **options)

    monkeypatch.setattr(flow_stream, "advance", closing)
    work = [DecoderWork(call, tokens, last=True) for call in (gone, stays)]
    _, samples = decoder.step(work)
    assert relative(samples, one_pass(tiny_prompt(0), tokens)) < WAVE_TOLERANCE


# --- voices -----------------------------------------------------------------------------------


def test_a_voice_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, passes = tiny_decoder(voices_kept=2), 0
    advance = flow_stream.advance

    def counted(*args, **options):  # type: ignore[no-untyped-def]
        nonlocal passes
        passes += 1
        return advance(*args, **options)

    monkeypatch.setattr(flow_stream, "advance", counted)
    decoder.prepare(tiny_prompt(60))
    assert passes == 1  # both chunks together
    say(decoder, tiny_prompt(60), tiny_tokens(5), [])
    assert passes == 2  # the utterance's own
    decoder.prepare(tiny_prompt(60, seed=1))
    decoder.prepare(tiny_prompt(60, seed=2))
    kept = decoder.voices.nbytes
    decoder.prepare(tiny_prompt(60))  # was the oldest: decoded again
    assert passes == 2 + 3 and decoder.voices.nbytes == kept


def test_a_shorter_reference_makes_the_first_hop_short() -> None:
    decoder = tiny_decoder(first_hop=15)
    voice = tiny_prompt(43)  # 43 + 15 = 58: eight tokens too many
    call = decoder.open(voice)
    assert call.needed == 18
    tokens = tiny_tokens(60)
    got = say(decoder, voice, tokens, [18])
    assert len(got[0]) == (30 - 20) * 480
    cut = TokenPrompt(voice.name, "", voice.tokens[8:], voice.mel[16:], voice.embedding)
    assert relative(np.concatenate(got), one_pass(cut, tokens)) < WAVE_TOLERANCE


def test_a_mel_and_tokens_of_unequal_length_are_cut_to_the_shorter() -> None:
    voice = tiny_prompt(30)
    longer = TokenPrompt(voice.name, "", (*voice.tokens, 3, 4), voice.mel, voice.embedding)
    tokens = tiny_tokens(20)
    got = np.concatenate(say(tiny_decoder(), longer, tokens, []))
    assert relative(got, one_pass(voice, tokens)) < WAVE_TOLERANCE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedding": np.zeros(5, np.float32)}, r"embedding has shape \(5,\), expected \(12,\)"),
        ({"mel": np.zeros((8, 79), np.float32)}, r"expected \(frames, 80\)"),
        ({"tokens": (1, 40)}, "token 40 is outside the codebook 0…39"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    voice = tiny_prompt(4)
    fields = {name: getattr(voice, name) for name in ("name", "text", "tokens", "mel", "embedding")}
    with pytest.raises(ValueError, match=words):
        tiny_decoder().open(TokenPrompt(**{**fields, **change}))


# --- limits and errors ------------------------------------------------------------------------


def test_five_minutes_is_the_limit_and_refused_before_anything_happens() -> None:
    decoder = tiny_decoder()
    call, other = decoder.open(tiny_prompt(30)), decoder.open(tiny_prompt(0))
    decoder.step([DecoderWork(call, tiny_tokens(40))])
    held = call.nbytes
    work = [DecoderWork(other, [1, 2]), DecoderWork(call, [0] * (7500 - 30 - 40 + 1))]
    with pytest.raises(UtteranceTooLong, match="7431 more tokens were given, 7430 fit") as caught:
        decoder.step(work)
    assert caught.value.call is call
    assert call.nbytes == held and other.needed == 28
    assert len(decoder.step([DecoderWork(call, tiny_tokens(5), last=True)])[0]) > 0


@pytest.mark.parametrize("token", [-1, 40, 6561])
def test_a_token_outside_the_codebook_is_refused(token: int) -> None:
    decoder = tiny_decoder()
    with pytest.raises(ValueError, match=f"token {token} is outside the codebook 0…39"):
        decoder.step([DecoderWork(decoder.open(tiny_prompt(0)), [0, token])])


def test_misuse_is_told() -> None:
    decoder = tiny_decoder()
    call = decoder.open(tiny_prompt(0))
    with pytest.raises(ValueError, match="occurs twice"):
        decoder.step([DecoderWork(call, [1]), DecoderWork(call, [2])])
    with pytest.raises(TypeError, match="expected a call that this decoder opened"):
        decoder.close(object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first_hop is 26"):
        tiny_decoder(first_hop=26)
    with pytest.raises(ValueError, match="hold_frames ≥ 0"):
        tiny_decoder(max_batch=0)
    assert decoder.step([]) == []


# --- precision, compilation, loading ----------------------------------------------------------


def test_bfloat16_stays_near() -> None:
    flow, hift = random_networks(TINY_FLOW, tiny_networks()[1].config, seed=7)
    half = CosyVoice2Decoder(flow.to(torch.bfloat16), hift)
    voice, tokens = tiny_prompt(30), tiny_tokens(60)
    call = half.open(voice)
    half.step([DecoderWork(call, tokens)])
    assert call.state is not None and call.state.voice.mel.dtype == torch.float32
    got = call.state.voice.mel
    exact = tiny_decoder()
    other = exact.open(voice)
    exact.step([DecoderWork(other, tokens)])
    assert other.state is not None
    assert relative(got, other.state.voice.mel) < 0.03
    assert relative(got, other.state.voice.mel) > 0  # it really is another precision


def test_every_block_is_compiled_for_fixed_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for torch.compile, which takes long: what it gets, and that it is used."""
    shapes: set[tuple[int, ...]] = set()
    asked: list[dict[str, object]] = []

    def stand_in(half, **options):  # type: ignore[no-untyped-def]
        asked.append(options)

        def run(x, *rest):  # type: ignore[no-untyped-def]
            shapes.add(tuple(x.shape))
            return half(x, *rest)

        return run

    monkeypatch.setattr(torch, "compile", stand_in)
    flow, _ = random_networks(TINY_FLOW, tiny_networks()[1].config, seed=7)
    compile_flow(flow, backend="any")
    assert asked == [{"dynamic": False, "backend": "any"}] * 2 * flow.decoder.estimator.attentions
    decoder = CosyVoice2Decoder(flow, tiny_networks()[1], batch_sizes=(1, 2))
    voice, tokens = tiny_prompt(30), tiny_tokens(60)
    got = np.concatenate(say(decoder, voice, tokens, [33]))
    assert relative(got, one_pass(voice, tokens)) < WAVE_TOLERANCE
    # The reference's own chunk, then chunks and a short tail of one call: two rows of 50 frames.
    assert shapes == {(2, 50, 8)}


def test_compilation_and_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(EngineUnavailable, match="needs a GPU"):
        compile_flow(tiny_networks()[0])
    if not torch.cuda.is_available():
        with pytest.raises(EngineUnavailable, match="no GPU"):
            CosyVoice2Decoder.load(FLOW, device="cuda")


def test_a_loaded_checkpoint_meets_the_contract(tmp_path) -> None:  # type: ignore[no-untyped-def]
    for path in (FLOW / "flow.pt", FLOW / "cosyvoice2.yaml", HIFT / "hift.pt"):
        (tmp_path / path.name).symlink_to(path)
    decoder: TokenDecoder = CosyVoice2Decoder.load(tmp_path)
    assert decoder.sample_rate_hz == 24_000
    call = decoder.open(golden_prompt())
    assert isinstance(call, Call)
    samples = decoder.step([DecoderWork(call, [1, 2, 3], last=True)])[0]
    assert samples.dtype == np.float32 and samples.shape == (3 * 960,)
    assert 0 < float(np.abs(samples).max()) < 0.991  # the published limit is 0.99
