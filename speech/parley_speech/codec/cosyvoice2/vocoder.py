"""HiFT on running calls: each chunk of mel is decoded in a window that also holds what its edges
need, and only what is settled goes out.

    frames  … ├── left: heard already ──┼── goes out now ──┼── hold ──┤ newest

- The source (f0, phase, noise) continues from the chunk before and is kept, never made anew.
- ``left`` frames of context stand for all that came before: the network reaches less far.
- The newest ``hold`` frames wait for the next chunk, as the network also looks forward.
So the pieces join to the waveform of one pass: no cross-fade, no click.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parley_speech.codec.cosyvoice2.hift import F0_REACH, Hift
from parley_speech.codec.cosyvoice2.source import frame_noise, sines

LEFT_FRAMES = 16
"""More than the network's reach to the left (14.2 frames for the published kernels)."""
SETTLING = F0_REACH + 1
"""The newest frames' source may still change: their f0 looks ahead, and a frame's second half
needs the f0 of the frame after it."""
HOLD_FRAMES = 20
"""The settling frames and the reach to the right of what depends on them (14.2 frames): with these
the pieces equal one pass. The original holds 8; with random weights of full size that leaves an
error of 7e-4 of the peak, 10 leave 1.4e-4, 12 leave 1.5e-5."""


class VocoderCall:
    """One call's place in the vocoder."""

    def __init__(self, hift: Hift, seed: int) -> None:
        self.seed = seed
        self.frames = 0
        """Mel frames given so far."""
        self.heard = 0
        """Frames whose samples went out."""
        self.start = 0
        """The first frame of the window."""
        self.made = 0
        """Frames whose source is settled."""
        device = hift.device
        self.mel = torch.zeros(hift.config.mel_bins, 0, device=device)
        """(bins, frames - start)."""
        self.source = torch.zeros(0, device=device)
        """(480 · (made - start),)."""
        self.cycles: Tensor | None = None
        """Phases at the middle of frame made - 1."""

    @property
    def nbytes(self) -> int:
        kept = [self.mel, self.source] + ([] if self.cycles is None else [self.cycles])
        return sum(t.numel() * t.element_size() for t in kept)


@dataclass(frozen=True, slots=True)
class Piece:
    """New mel (bins, frames) of one call."""

    call: VocoderCall
    mel: Tensor
    last: bool


def advance(
    hift: Hift, pieces: Sequence[Piece], *, left: int = LEFT_FRAMES, hold: int = HOLD_FRAMES
) -> list[Tensor]:
    """The samples (n,) that each piece settles; n may be 0. One piece per call."""
    for piece in pieces:
        piece.call.mel = torch.cat([piece.call.mel, piece.mel.float()], dim=1)
        piece.call.frames += piece.mel.shape[1]
    alike: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for number, piece in enumerate(pieces):
        call = piece.call
        alike[call.mel.shape[1], call.made - call.start, call.made == 0].append(number)
    out = [torch.zeros(0)] * len(pieces)
    for group in alike.values():
        members = [pieces[number] for number in group]
        for number, samples in zip(group, _decode(hift, members, left, hold), strict=True):
            out[number] = samples
    return out


def _decode(hift: Hift, pieces: list[Piece], left: int, hold: int) -> list[Tensor]:
    """Pieces whose windows have the same shape, as one batch."""
    if pieces[0].call.mel.shape[1] == 0:
        return [torch.zeros(0) for _ in pieces]
    calls = [piece.call for piece in pieces]
    size = hift.config.samples_per_frame
    mel = torch.stack([call.mel for call in calls])
    source, middles = _source(hift, calls, mel)
    ends = [p.call.frames if p.last else max(p.call.heard, p.call.frames - hold) for p in pieces]
    first = min(call.heard - call.start for call in calls)
    last = max(until - call.start for call, until in zip(calls, ends, strict=True))
    waves = (
        hift.decode(mel, source, (first, last)) if last > first else mel.new_zeros(len(calls), 0)
    )
    out = []
    for n, (piece, until) in enumerate(zip(pieces, ends, strict=True)):
        call, begin = piece.call, piece.call.start + first
        out.append(waves[n, (call.heard - begin) * size : (until - begin) * size])
        made = call.frames if piece.last else max(call.made, call.frames - SETTLING)
        if made > call.made:
            call.cycles = middles[n, made - call.made - 1].clone()
        _move(call, mel[n], source[n], heard=until, made=made, left=left, size=size)
    return out


def _source(hift: Hift, calls: list[VocoderCall], mel: Tensor) -> tuple[Tensor, Tensor]:
    """The source of the windows (calls, samples), and the phases of the frames made now."""
    config, first = hift.config, calls[0]
    settled, count = first.made - first.start, mel.shape[2] - (first.made - first.start)
    context = min(settled, F0_REACH)
    f0 = hift.f0(mel[:, :, settled - context :])[:, context:]
    noise = torch.stack([frame_noise(call.seed, call.made, count, config) for call in calls])
    before = [call.cycles for call in calls if call.cycles is not None]
    waves, middles = sines(
        f0, noise.to(hift.device), config, torch.stack(before) if before else None
    )
    fresh = hift.m_source(waves)
    return torch.cat([torch.stack([call.source for call in calls]), fresh], dim=1), middles


def _move(
    call: VocoderCall, mel: Tensor, source: Tensor, *, heard: int, made: int, left: int, size: int
) -> None:
    """Shifts the window on to what the next chunk will need."""
    start = max(call.start, min(heard - left, made - F0_REACH))
    call.mel = mel[:, start - call.start :].clone()
    call.source = source[(start - call.start) * size : (made - call.start) * size].clone()
    call.start, call.heard, call.made = start, heard, made
