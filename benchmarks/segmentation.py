"""What a further object costs on an image that is already encoded, and many objects in one call of the mask decoder.

SAM 2 of the smallest size at its own 1024 pixels, with random weights: time does not depend on them. The smallest
image encoder is the hardest case for the first ratio.

Shapes: N objects.
"""

from collections.abc import Sequence
from functools import partial

import torch
from support import Bench, Variant, relative_difference, run_benchmark

from perceptio.interfaces import MaskPrediction
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig

ROUNDS = 3
OBJECTS = 8
ALLOWED = 1e-4


def measure(bench: Bench) -> None:
    """One image: its first object, a further one, and eight."""
    config = SAM2SegmentationConfig(size="tiny", image_size=64 if bench.quick else 1024)
    tokenizer = config.build().eval().to(bench.device)
    pixels = torch.rand(1, 3, *config.spec.image_size, device=bench.device)
    prompts_NSP = torch.randn(OBJECTS, 1, config.spec.prompt_dim, device=bench.device)
    bench.sizes["image"] = {
        "pixels": config.image_size,
        "objects": OBJECTS,
        "encoder_parameters": sum(p.numel() for p in tokenizer.parameter_groups()["image_encoder"]),
        "decoder_parameters": sum(p.numel() for p in tokenizer.parameter_groups()["mask_decoder"]),
    }
    with torch.inference_mode():
        features = tokenizer.encode_image(pixels)

    def decode(start: int, stop: int) -> MaskPrediction:
        with torch.inference_mode():
            owners_N = torch.zeros(stop - start, dtype=torch.long, device=bench.device)
            return tokenizer.decode(features, prompts_NSP[start:stop], owners_N)

    def first_object() -> MaskPrediction:
        with torch.inference_mode():
            owner_N = torch.zeros(1, dtype=torch.long, device=bench.device)
            return tokenizer.decode(tokenizer.encode_image(pixels), prompts_NSP[:1], owner_N)

    def one_by_one() -> list[MaskPrediction]:
        return [decode(number, number + 1) for number in range(OBJECTS)]

    together = decode(0, OBJECTS).logits_Nhw
    apart = torch.cat([one.logits_Nhw for one in one_by_one()])
    bench.check("objects_8.one_call", relative_difference(together, apart), ALLOWED)
    bench.check("image.further_object", relative_difference(together[:1], first_object().logits_Nhw), ALLOWED)

    objects = {"one_call": Variant(partial(decode, 0, OBJECTS)), "calls": Variant(one_by_one)}
    bench.compare("objects_8", objects, [("one_call", "calls")], ROUNDS)
    image = {"first_object": Variant(first_object), "further_object": Variant(partial(decode, 1, 2))}
    bench.compare("image", image, [("further_object", "first_object")], ROUNDS)


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("segmentation", "Further objects on an encoded image.", measure, arguments)


if __name__ == "__main__":
    main()
