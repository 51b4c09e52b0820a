"""The flow against the original's numbers: every intermediate, whole, in chunks, and the tails."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from decoder_tiny import golden_flow, golden_reference, relative  # noqa: E402

from parley_speech.codec.cosyvoice2.encoder import sinusoids  # noqa: E402
from parley_speech.codec.cosyvoice2.flow import time_grid  # noqa: E402
from parley_speech.codec.cosyvoice2.flow_stream import (  # noqa: E402
    FlowCall,
    advance,
    prefill,
)
from parley_speech.codec.cosyvoice2.memory import Whole  # noqa: E402
from parley_speech.codec.cosyvoice2.reference import recompute, schedule  # noqa: E402

TOLERANCE = 1e-4
FLOW, CASES = golden_flow()
SHORT = CASES["flow/in/short_token"][0].tolist()
LONG = CASES["flow/in/token"][0].tolist()
MODES = {
    "short_full": (False, True),
    "short_stream": (True, True),
    "short_partial": (True, False),
}


@pytest.fixture(autouse=True)
def no_gradients():  # type: ignore[no-untyped-def]
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("case", MODES)
def test_encoder_and_mel_of_a_short_utterance(case: str) -> None:
    streaming, finalize = MODES[case]
    reference = golden_reference("short_")
    hidden = FLOW.encode(reference, SHORT, streaming=streaming, finalize=finalize)
    mu = FLOW.condition(reference, SHORT, streaming=streaming, finalize=finalize)
    mel = FLOW.whole(reference, SHORT, streaming=streaming, finalize=finalize)
    assert relative(hidden, CASES[f"flow/{case}/enc_out"][0]) < TOLERANCE
    assert relative(mu.T, CASES[f"flow/{case}/mu"][0]) < TOLERANCE
    assert relative(mel, CASES[f"flow/{case}/mel"][0]) < TOLERANCE


@pytest.mark.parametrize("case", MODES)
def test_look_ahead(case: str) -> None:
    _, finalize = MODES[case]
    ids = torch.tensor([*golden_reference("short_").tokens, *SHORT])[None]
    embedded = FLOW.encoder.embed(FLOW.embed(ids))
    if finalize:
        embedded = torch.nn.functional.pad(embedded, (0, 0, 0, 3))
    seen = FLOW.encoder.pre_lookahead_layer(embedded, Whole())
    assert relative(seen, CASES[f"flow/{case}/lookahead"]) < TOLERANCE


def test_stages_of_the_encoder() -> None:
    ids = torch.tensor([*golden_reference("short_").tokens, *SHORT])[None]
    x = FLOW.encoder.embed(FLOW.embed(ids))
    assert relative(x, CASES["flow/short_full/embed"]) < TOLERANCE
    codes = sinusoids(ids.shape[1] - 1, 1 - ids.shape[1], x.shape[2], x)
    assert relative(codes, CASES["flow/short_full/pos_emb"][0]) < TOLERANCE
    x = CASES["flow/short_full/lookahead"]
    for block in FLOW.encoder.encoders:
        x = block(x, Whole())
    assert relative(x, CASES["flow/short_full/pre_up"]) < TOLERANCE
    up = FLOW.encoder.up_layer(x, Whole()).transpose(1, 2)
    assert relative(up, CASES["flow/short_full/up"]) < TOLERANCE


def test_noise_times_and_speaker() -> None:
    noise = CASES["flow/in/noise"][0]
    assert torch.equal(FLOW.noise[:, : noise.shape[1]], noise)
    times = torch.tensor(time_grid(10)[:10])
    assert torch.allclose(times, CASES["flow/short_full/t_steps"], atol=1e-6)
    assert relative(golden_reference().speaker, CASES["flow/short_full/spks"][0]) < TOLERANCE


@pytest.mark.parametrize(("place", "step"), list(enumerate((0, 3, 6, 9))))
def test_velocity_of_both_guidance_branches(place: int, step: int) -> None:
    x = CASES["flow/short_full/x_steps"][step].expand(2, -1, -1)
    mu = CASES["flow/short_full/mu"][0].T
    velocity = FLOW.decoder.estimator(
        x,
        torch.stack([mu, torch.zeros_like(mu)]),
        CASES["flow/short_full/t_steps"][step : step + 1],
        CASES["flow/short_full/est_spks"],
        CASES["flow/short_full/est_cond"],
        Whole(),
    )
    assert relative(velocity[0], CASES["flow/short_full/v_cond"][place]) < TOLERANCE
    assert relative(velocity[1], CASES["flow/short_full/v_uncond"][place]) < TOLERANCE


def test_without_a_prompt() -> None:
    mel = FLOW.whole(golden_reference("none"), SHORT, streaming=False)
    assert relative(mel, CASES["flow/short_noprompt/mel"][0]) < TOLERANCE


@pytest.mark.parametrize(("case", "streaming"), [("long_full", False), ("long_stream", True)])
def test_a_long_utterance_whole(case: str, streaming: bool) -> None:
    mel = FLOW.whole(golden_reference(), LONG, streaming=streaming)
    assert relative(mel, CASES[f"flow/{case}/mel"][0]) < TOLERANCE
    if streaming:
        mu = FLOW.condition(golden_reference(), LONG, streaming=True)
        assert relative(mu.T, CASES["flow/long_stream/mu"][0]) < TOLERANCE


@pytest.mark.parametrize(("case", "last_hop"), [("long_hopdouble", 100), ("long_hop25", 25)])
@pytest.mark.parametrize("tail", ["tail_upstream", "tail_streaming_mask"])
def test_the_originals_recomputing_loop(case: str, last_hop: int, tail: str) -> None:
    streaming_tail = tail == "tail_streaming_mask"
    reference = golden_reference()
    chunks = [
        recompute(FLOW, reference, LONG, hop, streaming_tail=streaming_tail)
        for hop in schedule(FLOW.config, len(reference.tokens), len(LONG), last_hop)
    ]
    offsets = CASES[f"flow/{case}/token_offsets"].tolist()
    lengths = [chunk.shape[1] for chunk in chunks]
    assert [sum(lengths[:n]) // 2 for n in range(len(lengths))] == offsets
    whole = CASES["flow/long_stream/mel"][0]
    for n, chunk in enumerate(chunks[:-1]):
        wanted = CASES.get(f"flow/{case}/chunk{n}")
        piece = whole[:, 2 * offsets[n] : 2 * offsets[n] + chunk.shape[1]]
        assert relative(chunk, piece if wanted is None else wanted[0]) < TOLERANCE
    assert relative(chunks[-1], CASES[f"flow/{case}/{tail}"][0]) < TOLERANCE


def test_the_two_tails_differ() -> None:
    tails = [CASES[f"flow/long_hop25/{name}"] for name in ("tail_upstream", "tail_streaming_mask")]
    assert relative(tails[0], tails[1]) > 0.01


def test_cached_chunks_are_the_originals_chunks() -> None:
    call = FlowCall(FLOW, golden_reference())
    prefill(FLOW, call)
    start = call.frame
    assert call.position == 25  # the one chunk that holds nothing but reference speech
    parts = []
    for n, token in enumerate(LONG):
        call.pending.append(token)
        call.last = n == len(LONG) - 1
        while call.ready:
            parts += advance(FLOW, [call]) or []
    mel = torch.cat(parts, 1)[:, golden_reference().mel.shape[1] - start :]
    assert relative(mel, CASES["flow/long_stream/mel"][0]) < TOLERANCE
    for n, (first, count) in enumerate(((0, 90), (90, 100))):
        wanted = CASES[f"flow/long_hopdouble/chunk{n}"][0]
        assert relative(mel[:, first : first + count], wanted) < TOLERANCE
    wanted = CASES["flow/long_hopdouble/tail_streaming_mask"][0]
    assert relative(mel[:, 190:], wanted) < TOLERANCE
    assert call.done and not call.ready


@pytest.mark.parametrize(("left", "count"), [(0, 120), (1, 97), (2, 120), (2, 53), (5, 3)])
def test_a_bounded_window_is_the_same_mask_in_one_pass(left: int, count: int) -> None:
    """Short last chunks take the place of whole ones in the ring: 97 and 53 tokens."""
    call = FlowCall(FLOW, golden_reference(), left=left)
    call.pending += LONG[:count]
    call.last = True
    parts = []
    while call.ready:
        parts += advance(FLOW, [call]) or []
    whole = FLOW.whole(golden_reference(), LONG[:count], streaming=True, left=left, pinned=1)
    assert relative(torch.cat(parts, 1)[:, 60:], whole) < TOLERANCE


def test_too_few_tokens_and_too_many_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        FLOW.encode(golden_reference("none"), [1, 2, 3], streaming=False, finalize=False)
