"""SNAC as a streaming decoder; meets `parley_speech.token_voice.TokenDecoder`.

A sample depends on codes up to 2.3 frames to either side and on noise. So a frame is decoded
together with three frames before and three after it, which gives what decoding everything at once
gives (to 1e-6), and every sample has its own noise whichever window it is decoded in. The first
frames have nothing before them and the last nothing after them, just as in one piece: neither head
nor tail is lost. A step costs its new frames and six more, at any age of a call.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from parley_speech.codec_lm.recipe import Recipe, levels
from parley_speech.lm.errors import LmError
from parley_speech.token_voice import DecoderCall, DecoderWork, Floats, TokenPrompt

if TYPE_CHECKING:
    from torch import Tensor

    from parley_speech.codec_lm.snac import Snac

log = logging.getLogger(__name__)


class SnacCall:
    """One utterance: the frames that can still matter."""

    def __init__(self, slots: int, right: int, seed: int) -> None:
        self._slots, self._right = slots, right
        self.seed = seed
        self.codes: list[int] = []
        """Codes from frame ``first`` on, the last frame may be unfinished."""
        self.first = 0
        self.given = 0
        """Frames whose sound has been given."""
        self.closed = False

    @property
    def frames(self) -> int:
        """Whole frames received since the start of the utterance."""
        return self.first + len(self.codes) // self._slots

    @property
    def needed(self) -> int:
        received = self.first * self._slots + len(self.codes)
        return max(0, (self.given + 1 + self._right) * self._slots - received)


@dataclass(slots=True)
class _Window:
    """What a call has decoded in one step, frames counted from the utterance's start."""

    index: int
    call: SnacCall
    start: int
    stop: int
    keep: tuple[int, int]
    """The frames whose sound is given."""
    codes: list[int] = field(default_factory=list)


class SnacDecoder:
    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        *,
        device: str = "cpu",
        noise_seed: int = 0,
        noise: bool = True,
    ) -> None:
        self._folder, self._recipe, self._device = folder, recipe, device
        self._left, self._right = recipe.window
        self._noise_seed, self._noise = noise_seed, noise
        self._calls = 0
        self._model: Snac | None = None

    def load(self) -> None:
        """Reads the files; blocking. Raises `CheckpointError`."""
        from parley_speech.codec_lm.snac_files import load_snac

        model = load_snac(self._folder, self._device)
        strides = model.config.vq_strides
        per_level = [self._recipe.layout.count(level) for level in range(len(strides))]
        if per_level != [strides[0] // stride for stride in strides]:
            raise LmError(
                f"{self._folder} has codebooks with {[strides[0] // s for s in strides]} codes in "
                f"a frame, the recipe {self._recipe.name!r} lays out {per_level}"
            )
        self._model = model

    @property
    def model(self) -> Snac:
        if self._model is None:
            self.load()
        assert self._model is not None
        return self._model

    @property
    def sample_rate_hz(self) -> int:
        return self.model.config.sampling_rate

    def open(self, prompt: TokenPrompt) -> SnacCall:
        self._calls += 1
        return SnacCall(self._recipe.slots, self._right, self._noise_seed + self._calls)

    def close(self, call: DecoderCall) -> None:
        assert isinstance(call, SnacCall)
        call.closed = True
        call.codes.clear()

    def step(self, work: Sequence[DecoderWork]) -> list[Floats]:
        windows: dict[tuple[int, int, int], list[_Window]] = defaultdict(list)
        for index, item in enumerate(work):
            window = self._window(index, item)
            if window:
                begin, end = (frame - window.start for frame in window.keep)
                windows[window.stop - window.start, begin, end].append(window)
        out = [np.zeros(0, np.float32) for _ in work]
        for (_, keep_from, keep_to), alike in windows.items():
            frame = self.model.config.frame
            sound = self._decode(alike)[:, keep_from * frame : keep_to * frame]
            for window, samples in zip(alike, sound, strict=True):
                out[window.index] = np.ascontiguousarray(samples)
        return out

    def _window(self, index: int, item: DecoderWork) -> _Window | None:
        """Takes the new codes in; the frames to decode now, None if there are none."""
        call, slots = item.call, self._recipe.slots
        assert isinstance(call, SnacCall)
        if call.closed:
            raise LmError("this call of the SNAC decoder is closed")
        wrong = [code for code in item.tokens if not 0 <= code < self._recipe.codes]
        if wrong:
            raise ValueError(f"code {wrong[0]}: expected 0..{self._recipe.codes - 1}")
        call.codes.extend(item.tokens)
        if item.last and len(call.codes) % slots:
            log.warning("an utterance ends in %d codes of a frame", len(call.codes) % slots)
        stop = call.frames
        ready = stop if item.last else stop - self._right
        if ready <= call.given:
            return None
        window = _Window(index, call, call.first, stop, (call.given, ready))
        window.codes = call.codes[: (stop - call.first) * slots]
        call.given = ready
        first = max(0, ready - self._left)
        del call.codes[: (first - call.first) * slots]
        call.first = first
        return window

    def _decode(self, windows: Sequence[_Window]) -> Floats:
        """Windows of one shape as one batch: (windows, samples)."""
        import torch

        from parley_speech.codec_lm.snac import decode

        by_level = zip(*(levels(w.codes, self._recipe.layout) for w in windows), strict=True)
        codes = [torch.tensor(level, device=self._device) for level in by_level]
        noise = self._noise_of(windows) if self._noise and self.model.config.noise else None
        sound: Floats = decode(self.model, codes, noise).float().cpu().numpy()
        return sound

    def _noise_of(self, windows: Sequence[_Window]) -> list[Tensor]:
        """The noise that belongs to the windows' samples, (windows, 1, n) for each block."""
        import torch

        rows = []
        for window in windows:
            frames = [self.frame_noise(window.call, n) for n in range(window.start, window.stop)]
            rows.append([torch.cat(blocks) for blocks in zip(*frames, strict=True)])
        blocks = zip(*rows, strict=True)
        return [torch.stack(block)[:, None].to(self._device) for block in blocks]

    def frame_noise(self, call: SnacCall, frame: int) -> list[Tensor]:
        """One frame's noise for each block, the same whenever it is asked for."""
        import torch

        lengths = self.model.config.noise_lengths(1)
        counter = np.random.Generator(np.random.Philox(key=[call.seed, frame]))
        drawn = torch.from_numpy(counter.standard_normal(sum(lengths), np.float32))
        return list(torch.split(drawn, lengths))
