"""HiFT: mel to waveform through a harmonic source and an inverse STFT (HiFTNet, arXiv 2309.09493).

    mel ─ f0 ─ sine source ─ STFT ─┐
    mel ─ x8 ─ x5 ─ x3 ────────────┴─ magnitude and phase of 16-point frames ─ waveform

Names are those of the published state dict with weight norm folded. The source is in `source.py`,
chunks of running calls in `vocoder.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parley_speech.codec.cosyvoice2.config import HiftConfig

LAST_SLOPE = 0.01
LOUDEST = 100.0
"""Magnitudes are clipped here."""
F0_LAYERS = 5
F0_REACH = F0_LAYERS
"""Frames to each side that an f0 value depends on: five convolutions of kernel 3."""
END_KERNEL = 7


class F0Predictor(nn.Module):
    def __init__(self, bins: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n in range(F0_LAYERS):
            layers += [nn.Conv1d(channels if n else bins, channels, 3, padding=1), nn.ELU()]
        self.condnet = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 1)

    def forward(self, mel: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.condnet(mel).transpose(1, 2))
        return out[..., 0].abs()


class Snake(nn.Module):
    """x + sin²(αx)/α (arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[None, :, None]
        return x + (x * alpha).sin().square() / (alpha + 1e-9)


class ResBlock(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()

        def conv(dilation: int) -> nn.Conv1d:
            padding = dilation * (kernel - 1) // 2
            return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in dilations)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        layers = (self.activations1, self.convs1, self.activations2, self.convs2)
        for act1, conv1, act2, conv2 in zip(*layers, strict=True):
            x = x + conv2(act2(conv1(act1(x))))
        return x


class SourceMix(nn.Module):
    """Harmonics to one channel; its parameters are all that the source has."""

    def __init__(self, harmonics: int) -> None:
        super().__init__()
        self.l_linear = nn.Linear(harmonics + 1, 1)

    def forward(self, sines: Tensor) -> Tensor:
        """(…, harmonics + 1) → (…)."""
        out: Tensor = self.l_linear(sines)
        return out[..., 0].tanh()


class Hift(nn.Module):
    window: Tensor

    def __init__(self, config: HiftConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels >> n for n in range(len(config.rates) + 1)]
        spectrum = config.n_fft + 2
        # In float64: an error in f0 adds up in the phase, so it must not depend on how the mel was
        # cut. It is a fiftieth of the vocoder's work.
        self.f0_predictor = F0Predictor(config.mel_bins, config.f0_channels).double()
        self.m_source = SourceMix(config.harmonics)
        self.conv_pre = nn.Conv1d(config.mel_bins, widths[0], END_KERNEL, padding=END_KERNEL // 2)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(widths[n], widths[n + 1], kernel, rate, padding=(kernel - rate) // 2)
            for n, (rate, kernel) in enumerate(zip(config.rates, config.kernels, strict=True))
        )
        self.source_downs = nn.ModuleList(
            _down(spectrum, widths[n + 1], stride) for n, stride in enumerate(_strides(config))
        )
        self.source_resblocks = nn.ModuleList(
            ResBlock(widths[n + 1], kernel, dilations)
            for n, (kernel, dilations) in enumerate(
                zip(config.source_kernels, config.source_dilations, strict=True)
            )
        )
        self.resblocks = nn.ModuleList(
            ResBlock(width, kernel, dilations)
            for width in widths[1:]
            for kernel, dilations in zip(config.block_kernels, config.block_dilations, strict=True)
        )
        self.conv_post = nn.Conv1d(widths[-1], spectrum, END_KERNEL, padding=END_KERNEL // 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)
        self._margins = margins(config)

    @property
    def device(self) -> torch.device:
        return self.window.device

    def f0(self, mel: Tensor) -> Tensor:
        """mel (calls, bins, t) → f0 in Hz (calls, t), float32."""
        out: Tensor = self.f0_predictor(mel.double())
        return out.float()

    def decode(self, mel: Tensor, source: Tensor, wanted: tuple[int, int] | None = None) -> Tensor:
        """mel (calls, bins, t), source (calls, 480 t) → samples (calls, 480 t) within ±limit.

        ``wanted``: only the samples of these frames, first and behind the last. What stands
        around them is then only computed as far as they depend on it: the finer a stage, the less
        of its surroundings it sees.
        """
        first, until = wanted or (0, mel.shape[2])
        begin, x = self._spectrum(mel, source, first, until)
        bins = self.config.n_fft // 2 + 1
        magnitude = x[:, :bins].exp().clamp(max=LOUDEST)
        phase = x[:, bins:].sin()
        frames = torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
        wave = torch.istft(
            frames, self.config.n_fft, self.config.hop, self.config.n_fft, window=self.window
        )
        size = self.config.samples_per_frame
        wave = wave[:, (first - begin) * size : (until - begin) * size]
        return wave.clamp(-self.config.limit, self.config.limit)

    def spectrum(self, mel: Tensor, source: Tensor) -> Tensor:
        """The network without its ends: log magnitudes, then phases, (calls, 18, 120 t + 1)."""
        return self._spectrum(mel, source, 0, mel.shape[2])[1]

    def _spectrum(self, mel: Tensor, source: Tensor, first: int, until: int) -> tuple[int, Tensor]:
        """The spectrum of at least the frames first … until, and the frame that it begins with."""
        harmonic = self._stft(source)
        fine = self.config.samples_per_frame // self.config.hop  # positions of a frame, at the end
        each = len(self.config.block_kernels)
        begin, end, per_frame = 0, mel.shape[2], 1
        x = self.conv_pre(mel)
        for n, up in enumerate(self.ups):
            left = max(begin, first - self._margins[n])
            right = min(end, until + self._margins[n])
            x = x[:, :, (left - begin) * per_frame : (right - begin) * per_frame]
            harmonic = harmonic[:, :, (left - begin) * fine : (right - begin) * fine + 1]
            begin, end, per_frame = left, right, per_frame * self.config.rates[n]
            x = up(F.leaky_relu(x, self.config.slope))
            if n == len(self.ups) - 1:
                x = F.pad(x, (1, 0), mode="reflect")
            x = x + self.source_resblocks[n](self.source_downs[n](harmonic))
            blocks = self.resblocks[n * each : (n + 1) * each]
            x = torch.stack([block(x) for block in blocks]).sum(0) / each
        return begin, self.conv_post(F.leaky_relu(x, LAST_SLOPE))

    def _stft(self, source: Tensor) -> Tensor:
        """(calls, samples) → real parts, then imaginary ones, (calls, 18, samples / 4 + 1)."""
        spectrum = torch.stft(
            source,
            self.config.n_fft,
            self.config.hop,
            self.config.n_fft,
            window=self.window,
            return_complex=True,
        )
        return torch.cat([spectrum.real, spectrum.imag], dim=1)


def margins(config: HiftConfig) -> list[int]:
    """Frames to each side of what is wanted that the input of each stage must have.

    Backwards from the end, in positions of the stage's rate: what the samples see, then the
    stage's residual blocks; from there to the coarser input of the stage, and to the source, which
    has blocks of its own.
    """
    found: list[int] = []
    sees = config.n_fft // config.hop + END_KERNEL // 2 + 1  # inverse STFT, conv_post, padding
    per_frame = config.samples_per_frame // config.hop
    block = max(map(_reach, config.block_kernels, config.block_dilations))
    for n in reversed(range(len(config.rates))):
        rate, kernel = config.rates[n], config.kernels[n]
        sees += block
        source = sees + _reach(config.source_kernels[n], config.source_dilations[n]) + 2
        coarse = -(-(sees + kernel) // rate) + 1
        found.append(max(-(-source // per_frame), -(-coarse * rate // per_frame)))
        sees, per_frame = coarse, per_frame // rate
    return found[::-1]


def _reach(kernel: int, dilations: tuple[int, ...]) -> int:
    """Positions to each side that a residual block sees."""
    return sum((kernel - 1) // 2 * (dilation + 1) for dilation in dilations)


def _strides(config: HiftConfig) -> list[int]:
    """How much longer the source's spectrum is than each stage: 15, 3, 1."""
    strides, product = [1], 1
    for rate in config.rates[:0:-1]:
        product *= rate
        strides.append(product)
    return strides[::-1]


def _down(inputs: int, outputs: int, stride: int) -> nn.Conv1d:
    if stride == 1:
        return nn.Conv1d(inputs, outputs, 1)
    return nn.Conv1d(inputs, outputs, 2 * stride, stride, padding=stride // 2)
