"""A configuration of transformers' SAM 3 tracker as small as it can be."""


def sam3_parts(num_maps: int = 4) -> dict:
    """Those of its image encoder, with so many feature maps, its prompt encoder and its mask decoder."""
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "window_size": 3,
        "global_attn_indexes": [1],
        "patch_size": 4,
        "pretrain_image_size": 16,
        "image_size": 32,
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": 32,
        "scale_factors": [4.0, 2.0, 1.0, 0.5][:num_maps],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    return {
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": 32, "image_size": 32, "patch_size": 4},
        "mask_decoder_config": {
            "hidden_size": 32,
            "mlp_dim": 64,
            "iou_head_hidden_dim": 32,
            "num_attention_heads": 2,
            "dynamic_multimask_via_stability": False,
        },
    }
