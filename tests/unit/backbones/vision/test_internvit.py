import pytest
import torch
from transformers import InternVLVisionConfig, InternVLVisionModel

from perceptio.backbones.vision.internvit import InternViTConfig, Tiling, pixel_shuffle
from perceptio.errors import CheckpointError, RecipeError

SIZES = {"hidden_dim": 8, "num_layers": 2, "num_heads": 2, "feed_forward_dim": 12}
SMALL = InternViTConfig(**SIZES, patch_size=2, tile_size=8, max_tiles=6)


@pytest.mark.parametrize(
    ("height", "width", "max_tiles", "tiles"),
    [
        (480, 640, 12, 13),
        (375, 500, 12, 13),
        (427, 640, 12, 7),
        (640, 640, 12, 5),
        (360, 640, 12, 3),
        (1024, 1024, 12, 10),
        (336, 336, 12, 1),
        (480, 640, 6, 7),
        (480, 640, 1, 1),
    ],
)
def test_tiles_are_as_many_as_in_internvl(height, width, max_tiles, tiles):
    assert InternViTConfig(max_tiles=max_tiles).num_features(height, width) == 256 * tiles
    without = InternViTConfig(max_tiles=max_tiles, thumbnail=False)
    assert without.num_features(height, width) == 256 * max(1, tiles - 1)


def test_a_grid_of_tiles_stands_as_the_image_stands():
    tiling = Tiling(448, 16, 12, thumbnail=True)
    assert tiling.grid(480, 640) == (3, 4) and tiling.grid(640, 480) == (4, 3)
    assert tiling.grid(10, 5000) == (1, 12)


def test_tiles_are_cut_row_by_row_and_the_image_follows_whole():
    image = torch.arange(8.0 * 12).view(1, 8, 12) / 96
    tiles = Tiling(4, 2, 6, thumbnail=True).cut(image)
    assert tiles.shape == (7, 1, 4, 4)
    torch.testing.assert_close(tiles[1], image[:, :4, 4:8])
    torch.testing.assert_close(tiles[3], image[:, 4:, :4])
    torch.testing.assert_close(tiles[6].mean(), image.mean(), rtol=0, atol=1e-3)


def test_centers_are_those_of_the_whole_image():
    centers = Tiling(4, 2, 2, thumbnail=True).centers(4, 8)
    left = [[0.25, 0.125], [0.25, 0.375], [0.75, 0.125], [0.75, 0.375]]
    right = [[row, column + 0.5] for row, column in left]
    whole = [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    torch.testing.assert_close(centers, torch.tensor(left + right + whole))
    assert len(Tiling(4, 2, 2, thumbnail=False).centers(4, 8)) == 8
    assert len(Tiling(4, 2, 2, thumbnail=True).centers(4, 4)) == 4


def test_four_patches_become_one_feature():
    patches = torch.arange(16.0).view(1, 4, 4, 1)
    assert pixel_shuffle(patches)[0, 0, 1].tolist() == [2, 3, 6, 7]


def official():
    config = InternVLVisionConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        image_size=8,
        patch_size=2,
        attention_bias=True,
    )
    torch.manual_seed(0)
    model = InternVLVisionModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def native(tensors):
    """The names of the published checkpoints, written from their listing."""
    names = {}
    for name, value in tensors.items():
        if ".q_proj." in name:
            layer, end = name.removeprefix("encoder.layer.").split(".attention.q_proj.")
            parts = [tensors[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            names[f"vision_model.encoder.layers.{layer}.attn.qkv.{end}"] = torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            name = name.replace("cls_token", "class_embedding").replace("encoder.layer.", "encoder.layers.")
            name = name.replace("position_embeddings", "position_embedding")
            name = name.replace("patch_embeddings.projection", "patch_embedding")
            name = name.replace("lambda_", "ls").replace("attention.projection_layer", "attn.proj")
            name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
            names["vision_model." + name] = value
    return names


LAYOUTS = {
    "alone": lambda tensors: tensors,
    "transformers": lambda tensors: {f"model.vision_tower.{name}": value for name, value in tensors.items()},
    "old transformers": lambda tensors: {f"vision_tower.{name}": value for name, value in tensors.items()},
    "native": native,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_equal_the_official_models(tmp_path, layout):
    from safetensors.torch import save_file

    model = official()
    other_parts = {"mlp1.0.weight": torch.zeros(1), "language_model.lm_head.weight": torch.zeros(1)}
    save_file(LAYOUTS[layout](model.state_dict()) | other_parts, tmp_path / "model.safetensors")
    config = InternViTConfig(**SIZES, patch_size=2, tile_size=8, weights=str(tmp_path))
    encoder = config.build().eval()
    assert config.load_weights(encoder)
    image = torch.rand(3, 8, 8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        hidden = model((image - mean[:, None, None])[None] / std[:, None, None]).last_hidden_state[0, 1:]
        features = encoder([image]).features_MD
    expected = torch.stack(
        [
            torch.cat([hidden[4 * r + c] for r in (2 * i, 2 * i + 1) for c in (2 * j, 2 * j + 1)])
            for i in range(2)
            for j in range(2)
        ]
    )
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


def test_a_feature_lies_where_its_place_says():
    torch.manual_seed(0)
    encoder = SMALL.build().eval()
    image = torch.zeros(3, 16, 24)
    image[:, 12:, 20:] = 1.0
    with torch.no_grad():
        changed_M = (encoder([image]).features_MD - encoder([image * 0]).features_MD).norm(dim=1)
    centers = SMALL.centers(16, 24)
    assert len(centers) == 7 * 4 == SMALL.num_features(16, 24)
    assert changed_M[:24].argmax() == (centers[:24] - torch.tensor([0.875, 0.92])).norm(dim=1).argmin()
    assert changed_M[24:].argmax() == (centers[24:] - torch.tensor([0.875, 0.92])).norm(dim=1).argmin()


def test_half_precision_weights_give_single_precision_features():
    config = InternViTConfig(**SIZES, patch_size=2, tile_size=8, dtype="bfloat16")
    encoder = config.build()
    assert next(encoder.parameters()).dtype == torch.bfloat16
    assert encoder([torch.rand(3, 8, 8)]).features_MD.dtype == torch.float32


def test_it_builds_without_memory_and_knows_its_centers():
    config = InternViTConfig()
    with torch.device("meta"):
        encoder, centers = config.build(), config.centers(480, 640)
    assert centers.shape == (3328, 2) and centers.device.type == "cpu"
    assert sum(p.numel() for p in encoder.parameters()) == 304_012_288


def test_a_checkpoint_of_another_size_is_refused_and_nothing_moves(tmp_path):
    from safetensors.torch import save_file

    tensors = official().state_dict()
    tensors["embeddings.cls_token"] = torch.zeros(1, 1, 9)
    del tensors["encoder.layer.1.mlp.fc1.bias"]
    save_file(tensors | {"encoder.layer.2.lambda_1": torch.zeros(8)}, tmp_path / "model.safetensors")
    config = InternViTConfig(**SIZES, patch_size=2, tile_size=8, weights=str(tmp_path))
    encoder = config.build()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        config.load_weights(encoder)
    caught.match(r"cls_token has shape \(1, 1, 9\) instead of \(1, 1, 8\)")
    caught.match("encoder.layer.1.mlp.fc1.bias is missing")
    caught.match("encoder.layer.2.lambda_1 is not a part of this model")
    # What weights are to fill is not drawn, and may be anything, NaN included.
    torch.testing.assert_close(dict(encoder.state_dict()), before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile_size": 300}, "tile_size 300 must be a multiple of 28, twice the patch_size 14"),
        ({"num_heads": 3}, "hidden_dim 1024 must be a multiple of num_heads 3"),
        ({"max_tiles": 0}, "max_tiles is 0; it must be at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        InternViTConfig(**settings)
