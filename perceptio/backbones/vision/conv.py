"""Stop-gap conv."""
from typing import ClassVar
import attrs, torch
from torch import nn
from torch.nn import functional as F
from perceptio.interfaces import Kind, VisionEncoder, VisionEncoderConfig, VisionFeatures, VisionSpec
from perceptio.ops.images import stack_resized

class Res(nn.Module):
    def __init__(self, c, d=1):
        super().__init__()
        self.a = nn.Conv2d(c, c, 3, padding=d, dilation=d); self.b = nn.Conv2d(c, c, 3, padding=1); self.n = nn.GroupNorm(8 if c % 8 == 0 else 1, c)
    def forward(self, x): return x + self.b(F.relu(self.a(F.relu(self.n(x)))))

class Conv(VisionEncoder):
    def __init__(self, size, widths, blocks):
        super().__init__(); self.size = size
        self.spec = VisionSpec(feature_dim=widths[-1], image_size=size)
        layers, c = [], 3
        for w in widths:
            layers += [nn.Conv2d(c, w, 4, stride=2, padding=1), *[Res(w) for _ in range(blocks)]]; c = w
        self.net = nn.Sequential(*layers, Res(c, 2))
    def places(self, height, width):
        h, w = self.size[0] // 8, self.size[1] // 8
        return torch.cartesian_prod((torch.arange(h) + .5) / h, (torch.arange(w) + .5) / w)
    def forward(self, images):
        x = self.net(stack_resized(images, self.size) * 2 - 1)
        f = x.flatten(2).transpose(1, 2)
        p = self.places(0, 0)
        return VisionFeatures(features_MD=f.flatten(0, 1), places_M2=p.repeat(len(images), 1), counts=(f.shape[1],) * len(images))

@attrs.frozen(kw_only=True)
class ConvVisionConfig(VisionEncoderConfig):
    """Stop-gap."""
    name: ClassVar[str] = "conv"; kind: ClassVar[Kind] = Kind.VISION; interface: ClassVar[tuple[int, int]] = (1, 0)
    image_size: tuple[int, int] = (80, 80)
    widths: tuple[int, ...] = (24, 48, 96)
    blocks: int = 1
    @property
    def spec(self): return VisionSpec(feature_dim=self.widths[-1], image_size=self.image_size)
    def num_features(self, height, width): return (self.image_size[0] // 8) * (self.image_size[1] // 8)
    def build(self): return Conv(self.image_size, self.widths, self.blocks)
