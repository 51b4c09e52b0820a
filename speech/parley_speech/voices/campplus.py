"""CAM++ in torch: the speaker embedding from the checkpoint that 3D-Speaker and FunASR publish.

CosyVoice ships the same network as `campplus.onnx`, which needs no torch; this module loads
`campplus_cn_common.bin` and exports to that form. Layers and names follow the published state
dict; every size but the counts below is read from it. Paper: Wang et al., "CAM++: A Fast and
Efficient Network for Speaker Verification Using Context-Aware Masking" (2023).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK_LAYERS = (12, 24, 16)
BLOCK_DILATIONS = (1, 2, 2)
SEGMENT = 100  # frames over which the context of a mask is pooled
HEAD_CHANNELS = 32


class _ResBlock(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        c = HEAD_CHANNELS
        self.conv1 = nn.Conv2d(c, c, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)
        self.shortcut = nn.Sequential()
        if stride != 1:
            narrower = nn.Conv2d(c, c, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(narrower, nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class _Head(nn.Module):
    """Features as an image, (B, 80, T), to (B, 320, T): frequency is narrowed eight times."""

    def __init__(self) -> None:
        super().__init__()
        c = HEAD_CHANNELS
        self.conv1 = nn.Conv2d(1, c, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.layer1 = nn.Sequential(_ResBlock(2), _ResBlock(1))
        self.layer2 = nn.Sequential(_ResBlock(2), _ResBlock(1))
        self.conv2 = nn.Conv2d(c, c, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x.unsqueeze(1))))
        x = self.layer2(self.layer1(x))
        return F.relu(self.bn2(self.conv2(x))).flatten(1, 2)


class _Norm(nn.Sequential):
    """Batch normalisation and, but for the last layer, a ReLU; named as in the checkpoint."""

    def __init__(self, channels: int, *, relu: bool = True, affine: bool = True) -> None:
        super().__init__()
        self.add_module("batchnorm", nn.BatchNorm1d(channels, affine=affine))
        if relu:
            self.add_module("relu", nn.ReLU())


class _Mask(nn.Module):
    """A dilated convolution, weighted by what its surroundings say."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(inputs, inputs // 2, 1)
        self.linear2 = nn.Conv1d(inputs // 2, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = x.mean(-1, keepdim=True) + _segment_means(x)
        weight = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        y: Tensor = self.linear_local(x) * weight
        return y


def _segment_means(x: Tensor) -> Tensor:
    """The mean of each `SEGMENT` frames (the last may be shorter) at each of its frames."""
    means = F.avg_pool1d(x, SEGMENT, SEGMENT, ceil_mode=True)
    segment = torch.arange(x.shape[-1], device=x.device) // SEGMENT
    return means.index_select(-1, segment)


class _DenseLayer(nn.Module):
    def __init__(self, inputs: int, bottleneck: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _Norm(inputs)
        self.linear1 = nn.Conv1d(inputs, bottleneck, 1, bias=False)
        self.nonlinear2 = _Norm(bottleneck)
        self.cam_layer = _Mask(bottleneck, growth, dilation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat((x, y), dim=1)


class _Transit(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.nonlinear = _Norm(inputs)
        self.linear = nn.Conv1d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.nonlinear(x))
        return y


class _Tdnn(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, outputs, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _Norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.nonlinear(self.linear(x))
        return y


class _Stats(nn.Module):
    """(B, C, T) to mean and unbiased standard deviation over time, (B, 2 C)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.mean(-1), x.std(-1, unbiased=True)), dim=-1)


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(inputs, outputs, 1, bias=False)
        self.nonlinear = _Norm(outputs, relu=False, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.nonlinear(self.linear(x.unsqueeze(-1)).squeeze(-1))
        return y


class CamPlus(nn.Module):
    """(B, T, 80) mean-normalised filter banks to (B, embedding)."""

    def __init__(self, *, init: int, growth: int, bottleneck: int, embedding: int) -> None:
        super().__init__()
        self.head = _Head()
        self.xvector = nn.Sequential()
        add, channels = self.xvector.add_module, init
        add("tdnn", _Tdnn(HEAD_CHANNELS * 10, channels))
        for number, layers in enumerate(BLOCK_LAYERS, start=1):
            block = nn.Sequential()
            for layer in range(layers):
                dense = _DenseLayer(channels, bottleneck, growth, BLOCK_DILATIONS[number - 1])
                block.add_module(f"tdnnd{layer + 1}", dense)
                channels += growth
            add(f"block{number}", block)
            add(f"transit{number}", _Transit(channels))
            channels //= 2
        add("out_nonlinear", _Norm(channels))
        add("stats", _Stats())
        add("dense", _Dense(2 * channels, embedding))

    def forward(self, features: Tensor) -> Tensor:
        embedding: Tensor = self.xvector(self.head(features.transpose(1, 2)))
        return embedding


def load_campplus(path: Path) -> CamPlus:
    """The network of a checkpoint, ready for use. Raises ValueError for a foreign file."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        first = state["xvector.block1.tdnnd1.linear1.weight"]
        growth = state["xvector.block1.tdnnd1.cam_layer.linear_local.weight"].shape[0]
        embedding = state["xvector.dense.linear.weight"].shape[0]
        model = CamPlus(
            init=first.shape[1], growth=growth, bottleneck=first.shape[0], embedding=embedding
        )
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a CAM++ checkpoint (campplus_cn_common.bin): {error}"
        ) from error
    return model.eval()
