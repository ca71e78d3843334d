"""METER (Papa, Russo, Amerini: arXiv 2403.08368), a depth network of 0.7 to 3.3 million parameters, in three sizes.

An encoder of MobileNetV2 blocks and MobileViT blocks, whose attention relates the same places of 2x2 patches, and a
decoder of transposed convolutions that joins the encoder's maps. Names of layers are those of the published weights,
from which sizes were read, too. What the paper leaves open (where an activation is, which maps are joined) was read
from the authors' code.

Shapes: B pictures, C channels, h w pixels, P places of a patch, N patches, H heads, K keys of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 2
HEADS, KEYS = 4, 8
MULTIPLE = 64
"""Of height and width: the encoder halves them five times, and its last map is cut into patches of 2x2."""


class Size(NamedTuple):
    """Channels of one published size.

    Attributes:
        stages: Of the stem, and after each of the seven MobileNetV2 blocks but the last.
        out: Of the encoder.
        attention: Of the three MobileViT blocks.
        expansion: Of the MobileNetV2 blocks.
        decoder: Of the map that enters the decoder, and of what it makes of it.
    """

    stages: tuple[int, ...]
    out: int
    attention: tuple[int, int, int]
    expansion: int
    decoder: tuple[int, int, int, int]


SIZES = {
    "xxs": Size((16, 16, 24, 48, 64, 80), 160, (64, 80, 96), 2, (64, 32, 16, 8)),
    "xs": Size((16, 32, 48, 64, 80, 96), 192, (96, 120, 144), 4, (128, 64, 32, 16)),
    "s": Size((16, 32, 64, 96, 128, 160), 320, (144, 192, 240), 4, (128, 64, 32, 16)),
}


class TwoConvolutions(nn.Module):
    """A 3x3 convolution and a 1x1; named after separable ones, though the first is not one by channels."""

    def __init__(self, inward: int, outward: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inward, outward, 3, stride, padding=1, bias=False)
        self.pointwise = nn.Conv2d(outward, outward, 1, bias=False)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w], or half of the size."""
        return self.pointwise(self.depthwise(x_BChw))


def normalized(convolution: nn.Module, channels: int) -> nn.Sequential:
    """A convolution, batch normalization and a rectifier."""
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


def pointwise(inward: int, outward: int) -> nn.Sequential:
    """A 1x1 convolution, batch normalization and a rectifier."""
    return normalized(nn.Conv2d(inward, outward, 1, bias=False), outward)


class MobileNetBlock(nn.Module):
    """MobileNetV2's inverted residual, with rectifiers that are not cut at 6."""

    def __init__(self, inward: int, outward: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inward * expansion
        self.residual = stride == 1 and inward == outward
        self.conv = nn.Sequential(
            *pointwise(inward, wide),
            *normalized(nn.Conv2d(wide, wide, 3, stride, padding=1, groups=wide, bias=False), wide),
            nn.Conv2d(wide, outward, 1, bias=False),
            nn.BatchNorm2d(outward),
        )

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w], or half of the size."""
        made_BChw = self.conv(x_BChw)
        return x_BChw + made_BChw if self.residual else made_BChw


class Attention(nn.Module):
    """Each place attends to the same place of all patches."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(width, 3 * HEADS * KEYS, bias=False)
        self.to_out = nn.Sequential(nn.Linear(HEADS * KEYS, width))

    def forward(self, x_BPNC: Tensor) -> Tensor:
        """[B, P, N, C] -> the same."""
        heads = (
            part.unflatten(-1, (HEADS, KEYS)).transpose(2, 3) for part in self.to_qkv(x_BPNC).chunk(3, -1)
        )
        seen_BPHNK = F.scaled_dot_product_attention(*heads)
        return self.to_out(seen_BPHNK.transpose(2, 3).flatten(-2))


class Normed(nn.Module):
    """Layer normalization before a layer."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), layer

    def forward(self, x_BPNC: Tensor) -> Tensor:
        """[B, P, N, C] -> the same."""
        return self.fn(self.norm(x_BPNC))


class FeedForward(nn.Module):
    """Two linear layers, applied to each place."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        # The published weights count a dropout between the two.
        self.net = nn.Sequential(nn.Linear(width, wide), nn.ReLU(), nn.Identity(), nn.Linear(wide, width))

    def forward(self, x_BPNC: Tensor) -> Tensor:
        """[B, P, N, C] -> the same."""
        return self.net(x_BPNC)


class Transformer(nn.Module):
    """One layer of attention and feed-forward."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        layer = nn.ModuleList([Normed(width, Attention(width)), Normed(width, FeedForward(width, wide))])
        self.layers = nn.ModuleList([layer])

    def forward(self, x_BPNC: Tensor) -> Tensor:
        """[B, P, N, C] -> the same."""
        for attention, feed_forward in self.layers:
            x_BPNC = x_BPNC + attention(x_BPNC)
            x_BPNC = x_BPNC + feed_forward(x_BPNC)
        return x_BPNC


class MobileViTBlock(nn.Module):
    """Convolutions see what is near, attention what is far, and a last convolution joins both with what came in."""

    def __init__(self, channels: int, width: int, wide: int) -> None:
        super().__init__()
        self.conv1 = normalized(TwoConvolutions(channels, channels), channels)
        self.conv2 = pointwise(channels, width)
        self.transformer = Transformer(width, wide)
        self.conv3 = pointwise(width, channels)
        self.conv4 = normalized(TwoConvolutions(2 * channels, channels), channels)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, C, h, w] -> the same."""
        near_BChw = self.conv2(self.conv1(x_BChw))
        batch, channels, height, width = near_BChw.shape
        rows, columns = height // PATCH, width // PATCH
        patches_BPNC = (
            near_BChw.view(batch, channels, rows, PATCH, columns, PATCH)
            .permute(0, 3, 5, 2, 4, 1)
            .reshape(batch, PATCH * PATCH, rows * columns, channels)
        )
        far_BChw = (
            self.transformer(patches_BPNC)
            .view(batch, PATCH, PATCH, rows, columns, channels)
            .permute(0, 5, 3, 1, 4, 2)
            .reshape(batch, channels, height, width)
        )
        return self.conv4(torch.cat([self.conv3(far_BChw), x_BChw], dim=1))


class Encoder(nn.Module):
    """A picture [B, 3, h, w] -> its map at a 32nd of its size, and those at a 4th, 8th and 16th."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        stem, first, second, third, fourth, fifth = size.stages
        steps = [
            *[(stem, first, 1), (first, second, 2), (second, second, 1), (second, second, 1)],
            *[(second, third, 2), (third, fourth, 2), (fourth, fifth, 2)],
        ]
        self.conv1 = normalized(TwoConvolutions(3, stem, stride=2), stem)
        self.mv2 = nn.ModuleList(MobileNetBlock(*step, size.expansion) for step in steps)
        wides = (2, 4, 4)
        self.mvit = nn.ModuleList(
            MobileViTBlock(channels, width, wide * width)
            for channels, width, wide in zip((third, fourth, fifth), size.attention, wides, strict=True)
        )
        self.conv2 = pointwise(fifth, size.out)

    def forward(self, pixels_B3hw: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The last map [B, C, h/32, w/32], and those at a 16th, 8th and 4th."""
        fourth = self.mv2[1](self.mv2[0](self.conv1(pixels_B3hw)))
        eighth = self.mv2[4](self.mv2[3](self.mv2[2](fourth)))
        sixteenth = self.mv2[5](self.mvit[0](eighth))
        last = self.mvit[2](self.mv2[6](self.mvit[1](sixteenth)))
        return self.conv2(last), [sixteenth, eighth, fourth]


class Upsampling(nn.Module):
    """A map of twice the size, joined with the encoder's of that size."""

    def __init__(self, inward: int, outward: int, joined: int) -> None:
        super().__init__()
        self.conv2d_transpose = nn.ConvTranspose2d(
            inward, outward, 3, stride=2, padding=1, output_padding=1, bias=False
        )
        self.end_up_layer = nn.Sequential(TwoConvolutions(outward + joined, outward), nn.ReLU())

    def forward(self, x_BChw: Tensor, joined_BChw: Tensor) -> Tensor:
        """[B, C, h, w] and [B, C, 2h, 2w] -> [B, C, 2h, 2w]."""
        return self.end_up_layer(torch.cat([self.conv2d_transpose(x_BChw), joined_BChw], dim=1))


class Decoder(nn.Module):
    """The encoder's maps -> depth at a 4th of the picture's size."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        widths = size.decoder
        self.conv2d_in = nn.Conv2d(size.out, widths[0], 1, bias=False)
        self.ups_block_1 = Upsampling(widths[0], widths[1], size.stages[4])
        self.ups_block_2 = Upsampling(widths[1], widths[2], size.stages[3])
        self.ups_block_3 = Upsampling(widths[2], widths[3], size.stages[2])
        self.conv2d_out = nn.Conv2d(widths[3], 1, 3, padding=1, bias=False)

    def forward(self, x_BChw: Tensor, joined: list[Tensor]) -> Tensor:
        """[B, C, h, w] -> [B, 1, 8h, 8w]."""
        x_BChw = self.conv2d_in(x_BChw)
        for block, one in zip((self.ups_block_1, self.ups_block_2, self.ups_block_3), joined, strict=True):
            x_BChw = block(x_BChw, one)
        return self.conv2d_out(x_BChw)


class METER(nn.Module):
    """Normalized pictures [B, 3, h, w], of sides that are multiples of 64 -> centimetres [B, 1, h/4, w/4]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(size), Decoder(size)

    def forward(self, pixels_B3hw: Tensor) -> Tensor:
        """See the class."""
        return self.decoder(*self.encoder(pixels_B3hw))
