"""Models of timm as small as they can be, made known through its own door."""

import functools

from torch import nn

DINOV2, PLAIN_DINOV2, DINOV3, SIGLIP, SWIN, CONVNEXT = (
    "small_dinov2.own",
    "small_dinov2_plain.own",
    "small_dinov3.own",
    "small_siglip.own",
    "small_swin.own",
    "test_convnext.r160_in1k",
)
VIT = {"embed_dim": 16, "depth": 3, "num_heads": 2}


def small_dinov2(pretrained=False, **settings):
    from timm.models import VisionTransformer, build_model_with_cfg

    ours = {**VIT, "patch_size": 14, "reg_tokens": 4, "init_values": 1.0}
    return build_model_with_cfg(VisionTransformer, "small_dinov2", pretrained, **(ours | settings))


def small_dinov2_plain(pretrained=False, **settings):
    """Without registers."""
    from timm.models import VisionTransformer, build_model_with_cfg

    ours = {**VIT, "patch_size": 14, "init_values": 1.0}
    return build_model_with_cfg(VisionTransformer, "small_dinov2_plain", pretrained, **(ours | settings))


def small_siglip(pretrained=False, **settings):
    from timm.models import VisionTransformer, build_model_with_cfg

    ours = {**VIT, "patch_size": 8, "class_token": False, "global_pool": "map"}
    return build_model_with_cfg(VisionTransformer, "small_siglip", pretrained, **(ours | settings))


def small_dinov3(pretrained=False, **settings):
    from timm.models import Eva, build_model_with_cfg

    ours = {
        **VIT,
        "patch_size": 8,
        "num_reg_tokens": 4,
        "init_values": 1.0,
        "use_rot_pos_emb": True,
        "use_abs_pos_emb": False,
        "rope_type": "dinov3",
        "rope_rotate_half": True,
        "dynamic_img_size": True,
        "use_fc_norm": False,
    }
    return build_model_with_cfg(Eva, "small_dinov3", pretrained, **(ours | settings))


def small_swin(pretrained=False, **settings):
    from timm.models import build_model_with_cfg
    from timm.models.swin_transformer import SwinTransformer

    ours = {"patch_size": 4, "window_size": 4, "embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2)}
    return build_model_with_cfg(SwinTransformer, "small_swin", pretrained, **(ours | settings))


def small_without_map(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None):
    return nn.Linear(1, 1)


@functools.cache
def register():
    """Let timm know them."""
    from timm.models import generate_default_cfgs, register_model

    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    halves = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    shared = {
        "num_classes": 5,
        "fixed_input_size": True,
        "interpolation": "bicubic",
        "first_conv": "patch_embed.proj",
    }
    globals()["default_cfgs"] = generate_default_cfgs(
        {
            DINOV2: shared | imagenet | {"input_size": (3, 56, 56), "num_classes": 0, "classifier": "head"},
            PLAIN_DINOV2: shared
            | imagenet
            | {"input_size": (3, 56, 56), "num_classes": 0, "classifier": "head"},
            DINOV3: shared | imagenet | {"input_size": (3, 32, 32), "classifier": "head"},
            SIGLIP: shared | halves | {"input_size": (3, 32, 32), "classifier": "head"},
            SWIN: shared | imagenet | {"input_size": (3, 32, 32), "classifier": "head.fc"},
        }
    )
    for entry in (
        small_dinov2,
        small_dinov2_plain,
        small_dinov3,
        small_siglip,
        small_swin,
        small_without_map,
    ):
        register_model(entry)
