"""Every built-in tokenizer, encoder and language backbone that models are composed of, as small as it can be.

Each is held to the conformance suite, and all are composed with each other: one that is not here is missed by both.
"""

import json
from typing import Any

from small_clip import VIT, register
from small_sam3 import sam3_parts
from small_timm import DINOV2
from small_timm import register as register_timm
from tiny_hf import TEXT_VOCAB, model_json, tokenizer_folder

from perceptio.backbones.language.decoder import DecoderConfig
from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.backbones.vision.conv import ConvVisionConfig
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.backbones.vision.open_clip import OpenCLIPConfig
from perceptio.backbones.vision.timm import TimmConfig
from perceptio.data.scenes import words
from perceptio.interfaces import ComponentConfig, Kind
from perceptio.tokenizers.depth.fsq import FSQDepthConfig
from perceptio.tokenizers.depth.next_scale import NextScaleDepthConfig
from perceptio.tokenizers.depth.vqvae import VQVAEDepthConfig
from perceptio.tokenizers.segmentation.hf_sam import HFSAM3SegmentationConfig, HFSAMSegmentationConfig
from perceptio.tokenizers.segmentation.pixel_features import PixelFeaturesConfig
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

register()
register_timm()
SMALL_DEPTH: dict[str, Any] = {
    "grid": (3, 2),
    "image_size": (12, 8),
    "widths": (4, 8),
    "residual_blocks": 1,
    "latent_dim": 6,
}
SMALL_HF_SAM2 = json.dumps(
    {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 16,
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [16, 32, 64, 128],
                "global_attention_blocks": [3],
            },
            "model_type": "sam2_vision_model",
            "backbone_channel_list": [128, 64, 32, 16],
            "fpn_hidden_size": 32,
        },
        "prompt_encoder_config": {"hidden_size": 32},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 32},
    }
)
PIXEL_FEATURES = PixelFeaturesConfig(image_size=(16, 24), widths=(8, 8), feature_dim=8)
CONV = ConvVisionConfig(image_size=(16, 24), widths=(4, 6))
PARTS: dict[Kind, tuple[ComponentConfig, ...]] = {
    Kind.DEPTH: (
        VQVAEDepthConfig(codebook_size=10, **SMALL_DEPTH),
        FSQDepthConfig(levels=(4, 3), **SMALL_DEPTH),
        NextScaleDepthConfig(codebook_size=10, coarser=((1, 1), (2, 1)), **SMALL_DEPTH),
    ),
    Kind.SEGMENTATION: (
        PIXEL_FEATURES,
        SAM2SegmentationConfig(size="tiny", image_size=32, objects_per_call=3),
        HFSAMSegmentationConfig(model=SMALL_HF_SAM2, image_size=32, multimask=False),
        HFSAM3SegmentationConfig(model=json.dumps(sam3_parts()), image_size=32),
    ),
    Kind.VISION: (
        CONV,
        InternViTConfig(
            hidden_dim=8, num_layers=1, num_heads=2, feed_forward_dim=8, patch_size=4, tile_size=16
        ),
        OpenCLIPConfig(model=VIT),
        TimmConfig(model=DINOV2, keep_aspect=True),
    ),
    Kind.LANGUAGE: (
        DecoderConfig(words=words(), hidden_dim=32, num_layers=2),
        HFLanguageConfig(
            model=model_json(),
            text_vocab_size=TEXT_VOCAB,
            text_tokenizer_files=str(tokenizer_folder()),
            lora=LoRA(rank=2),
        ),
    ),
}
