"""The small Perceptio with six streams: all ways in which perception can be written, in one model.

| | once per image | once per object |
|---|---|---|
| as codes | `depth`, `edges`, `normals` | `box` |
| as special tokens | `features` | `segmentation` |

Generated scenes have targets for all streams. The teacher of `features` is a small convolutional encoder with random
weights, because the library has no pretrained one; any registered encoder can replace it, such as DINOv2 through
`vision:timm`. The loss weights of the new streams, and the halved training steps of their tokenizers, are ours and
were not tuned.

    perceptio scenes --out data/train
    perceptio train perceptio_streams --set 'data.folders=["data/train"]' --out runs/streams
    perceptio ask runs/streams photo.png "Segment the red object." --perceive edges,normals --out out
"""

import attrs

from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.heads.linear import LinearHeadConfig
from perceptio.losses.code_tokens import CountConfig, MarkerConfig, TokenConfig
from perceptio.losses.features import FeatureCosineConfig
from perceptio.losses.soft_reconstruction import SoftReconstructionConfig
from perceptio.recipe import Recipe, Stream, TokenizerTraining, WeightedLoss
from perceptio.settings import load_recipe
from perceptio.tasks.maps import MapTaskConfig
from perceptio.tokenizers.perception.box import BoxConfig
from perceptio.tokenizers.perception.features import FeaturesConfig
from perceptio.tokenizers.perception.map import MapVQVAEConfig

IMAGE, GRID, WIDTHS = (80, 80), (10, 10), (16, 32, 64)
TRAINING = TokenizerTraining(steps=300)


def recipe() -> Recipe:
    """Return the small Perceptio with four more streams."""
    base = load_recipe("perceptio_tiny.py", beside=__file__)
    segmentation, depth = base.streams
    sizes = {"grid": GRID, "image_size": IMAGE, "widths": WIDTHS, "latent_dim": 32}
    edges = MapVQVAEConfig(map="edges", **sizes)
    normals = MapVQVAEConfig(map="normals", channels=3, low=-1.0, high=1.0, unit_vectors=True, **sizes)
    teacher = ConvVisionConfig(image_size=IMAGE, widths=(16, 32, 64))
    return attrs.evolve(
        base,
        name="perceptio-streams",
        streams=(
            segmentation,
            Stream(name="box", tokenizer=BoxConfig(bins=64)),
            depth,
            Stream(name="edges", tokenizer=edges, codes_per_step=10, training=TRAINING),
            Stream(name="normals", tokenizer=normals, codes_per_step=10, training=TRAINING),
            Stream(name="features", tokenizer=FeaturesConfig(teacher=teacher), head=LinearHeadConfig()),
        ),
        readout="depth",
        tasks={
            "edges_map": MapTaskConfig(stream="edges", question="Where are the edges in this image?"),
            "normals_map": MapTaskConfig(stream="normals", question="Which way do the surfaces face?"),
        },
        losses=(*base.losses, *_of_codes("box"), *_of_maps("edges"), *_of_maps("normals"), *_of_features()),
        data=attrs.evolve(
            base.data,
            streams="random_subset",
            mixture={**base.data.mixture, "edges_map": 0.25, "normals_map": 0.25},
        ),
    )


def _of_codes(stream: str) -> tuple[WeightedLoss, ...]:
    return (
        WeightedLoss(loss=MarkerConfig(stream=stream), weight=0.2),
        WeightedLoss(loss=TokenConfig(stream=stream), weight=1.0),
        WeightedLoss(loss=CountConfig(stream=stream), weight=0.2),
    )


def _of_maps(stream: str) -> tuple[WeightedLoss, ...]:
    return (*_of_codes(stream), WeightedLoss(loss=SoftReconstructionConfig(stream=stream), weight=1.0))


def _of_features() -> tuple[WeightedLoss, ...]:
    return (WeightedLoss(loss=FeatureCosineConfig(stream="features"), weight=0.5),)
