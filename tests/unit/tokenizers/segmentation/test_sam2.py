"""Against the package's own model, prompted by hand as Sa2VA does it, one object at a time."""

import inspect
import logging
import sys

import attrs
import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf.basecontainer import BaseContainer
from safetensors.torch import save_file

import perceptio
from perceptio.errors import CheckpointError, RecipeError
from perceptio.tokenizers.segmentation.sam2 import FOR_VIDEO, TRUNKS, SAM2SegmentationConfig

CONFIG = SAM2SegmentationConfig(size="tiny", image_size=64)
OWNERS = [1, 0, 1]


def relative(found, truth):
    return float((found - truth).detach().abs().max() / truth.detach().abs().max())


def by_hand(official, image_3HW, prompt_SP, multimask):
    """Candidate masks [M, h, w] and their estimated IoU [M]."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    found = official.forward_image(((image_3HW.permute(1, 2, 0) - mean) / std).permute(2, 0, 1)[None])
    _, maps, _, sizes = official._prepare_backbone_features(found)
    maps[-1] = maps[-1] + official.no_mem_embed
    fine, middle, coarse = (
        x.permute(1, 2, 0).reshape(1, -1, *size) for x, size in zip(maps, sizes, strict=True)
    )
    sparse, dense = official.sam_prompt_encoder(
        points=(torch.zeros(1, 1, 2), -torch.ones(1, 1, dtype=torch.int32)), boxes=None, masks=None
    )
    assert sparse.shape == (1, 2, 256)
    masks, ious, _, _ = official.sam_mask_decoder(
        image_embeddings=coarse,
        image_pe=official.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=torch.cat([sparse, prompt_SP[None]], 1),
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        repeat_image=False,
        high_res_features=[fine, middle],
    )
    return masks[0], ious[0]


def loaded(checkpoint, **settings):
    config = attrs.evolve(CONFIG, weights=str(checkpoint), **settings)
    tokenizer = config.build().eval()
    assert config.load_weights(tokenizer)
    tokenizer.requires_grad_(False).network.sam_mask_decoder.requires_grad_(True)
    return tokenizer


def gradients(decoder, prompts):
    """Of the prompts and of every parameter that has one; they are then taken away."""
    held = {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}
    held["prompts"] = prompts.grad
    decoder.zero_grad(set_to_none=True)
    prompts.grad = None
    return held


@pytest.mark.parametrize("multimask", [True, False])
def test_masks_and_gradients_are_those_of_the_injection_by_hand(
    official, checkpoint, pixels, prompts, multimask
):
    tokenizer = loaded(checkpoint, multimask=multimask, objects_per_call=2)
    prediction = tokenizer.decode(tokenizer.encode_image(pixels), prompts, torch.tensor(OWNERS))
    truth = [
        by_hand(official, pixels[owner], prompt, multimask)
        for owner, prompt in zip(OWNERS, prompts, strict=True)
    ]
    masks, ious = (torch.stack(one) for one in zip(*truth, strict=True))
    best = ious.argmax(1)
    rows = torch.arange(len(OWNERS))
    assert relative(prediction.logits_Nhw, masks[rows, best]) < 1e-5
    assert relative(prediction.quality_N, ious[rows, best]) < 1e-5
    if multimask:
        assert relative(prediction.candidates_NMhw, masks) < 1e-5
        assert relative(prediction.candidate_quality_NM, ious) < 1e-5
        assert len({tuple(mask.flatten()[:4].tolist()) for mask in masks.flatten(0, 1)}) == 9
    else:
        assert prediction.candidates_NMhw is prediction.candidate_quality_NM is None

    weights = torch.randn(prediction.logits_Nhw.shape)
    ((masks[rows, best] * weights).sum() + ious.sum()).backward()
    truths = gradients(official.sam_mask_decoder, prompts)
    quality = prediction.candidate_quality_NM if multimask else prediction.quality_N
    ((prediction.logits_Nhw * weights).sum() + quality.sum()).backward()
    found = gradients(tokenizer.network.sam_mask_decoder, prompts)
    assert found.keys() == truths.keys() and len(found) > 80 and "conv_s0.weight" in found
    assert relative(found["prompts"], truths["prompts"]) < 1e-5
    together = [torch.cat([one[name].flatten() for name in found]) for one in (found, truths)]
    assert relative(*together) < 1e-5
    for name, gradient in found.items():
        # Smaller ones are zero but for rounding, such as that of a key's bias.
        if float(truths[name].abs().max()) > 1e-4 * float(together[1].abs().max()):
            assert relative(gradient, truths[name]) < 1e-4, name


def test_every_tensor_of_a_checkpoint_is_loaded_or_named_as_videos(official, checkpoint, caplog):
    with caplog.at_level(logging.INFO):
        network = loaded(checkpoint).network
    mine, theirs = network.state_dict(), official.state_dict()
    assert len(mine) > 300 and all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert {name.split(".")[0] for name in theirs.keys() - mine.keys()} == FOR_VIDEO
    assert all(part in caplog.text for part in FOR_VIDEO) and "left out what only video needs" in caplog.text


def test_version_2_and_safetensors_and_folders_load_too(official, checkpoint, tmp_path):
    old = {
        name: value
        for name, value in official.state_dict().items()
        if not name.startswith(("no_obj_embed_spatial", "obj_ptr_tpos_proj"))
    }
    torch.save({"model": old}, tmp_path / "old.pt")
    save_file(old, tmp_path / "sam2.1_hiera_tiny.safetensors")
    truth = loaded(checkpoint.parent).state_dict()
    for path, version in ((tmp_path / "old.pt", "2"), (tmp_path, "2.1")):
        found = loaded(path, version=version).state_dict()
        assert all(torch.equal(value, truth[name]) for name, value in found.items())
    with pytest.raises(CheckpointError, match="old.pt is of SAM 2, and sam2 is asked for version 2.1; set"):
        loaded(tmp_path / "old.pt")


def test_other_sizes_of_image_take_the_same_weights(checkpoint):
    for side in (32, 96):
        tokenizer = loaded(checkpoint, image_size=side)
        prediction = tokenizer.decode(
            tokenizer.encode_image(torch.rand(1, 3, side, side)), torch.randn(1, 1, 256), torch.tensor([0])
        )
        assert prediction.logits_Nhw.shape == (1, side // 4, side // 4)
        assert prediction.logits_Nhw.isfinite().all()


@pytest.mark.parametrize("winner", [0, 1, 2])
def test_the_best_of_three_is_that_of_the_highest_estimate(checkpoint, pixels, prompts, winner):
    tokenizer = loaded(checkpoint)
    with torch.no_grad():
        # The estimates are those of the single mask and of the three.
        tokenizer.network.sam_mask_decoder.iou_prediction_head.layers[-1].bias[1 + winner] += 5
    prediction = tokenizer.decode(tokenizer.encode_image(pixels), prompts, torch.tensor(OWNERS))
    assert torch.equal(prediction.candidate_quality_NM.argmax(1), torch.full((3,), winner))
    assert torch.equal(prediction.logits_Nhw, prediction.candidates_NMhw[:, winner])
    assert torch.equal(prediction.quality_N, prediction.candidate_quality_NM[:, winner])


def test_no_object_has_masks_of_the_right_shape_all_the_same(checkpoint, pixels):
    tokenizer = loaded(checkpoint)
    nothing = tokenizer.decode(
        tokenizer.encode_image(pixels), torch.zeros(0, 1, 256), torch.zeros(0, dtype=torch.long)
    )
    assert nothing.candidates_NMhw.shape == (0, 3, 16, 16) and nothing.candidate_quality_NM.shape == (0, 3)


def test_a_saved_part_comes_back(checkpoint, tmp_path):
    config = attrs.evolve(CONFIG, weights=str(checkpoint))
    tokenizer = loaded(checkpoint)
    perceptio.save(tokenizer, tmp_path / "part", config=config)
    back = perceptio.load(tmp_path / "part").state_dict()
    assert all(torch.equal(value, back[name]) for name, value in tokenizer.state_dict().items())


def test_groups_partition_the_parameters():
    with torch.device("meta"):
        tokenizer = CONFIG.build()
    groups = tokenizer.parameter_groups()
    assert list(groups) == ["image_encoder", "prompt_encoder", "mask_decoder"]
    together = [id(p) for group in groups.values() for p in group]
    assert sorted(together) == sorted(map(id, tokenizer.parameters()))


@pytest.mark.parametrize("version", ["2", "2.1"])
@pytest.mark.parametrize(("size", "file"), zip(TRUNKS, ("t", "s", "b+", "l"), strict=True))
def test_sizes_are_those_of_the_package_s_files(sam2_files, version, size, file):
    folder = "sam2" if version == "2" else "sam2.1"
    stated = compose(f"configs/{folder}/{folder}_hiera_{file}.yaml")["model"]["image_encoder"]["trunk"]
    from sam2.modeling.backbones.hieradet import Hiera

    defaults = {name: one.default for name, one in inspect.signature(Hiera).parameters.items()}
    trunk = {
        name: tuple(one) if isinstance(one, list) else one for name, one in dict(defaults, **stated).items()
    }
    assert TRUNKS[size] == type(TRUNKS[size])(
        trunk["embed_dim"],
        trunk["num_heads"],
        tuple(trunk["stages"]),
        tuple(trunk["global_att_blocks"]),
        trunk["window_pos_embed_bkg_spatial_size"][0],
        tuple(trunk["window_spec"]),
    )


@pytest.mark.parametrize("size", TRUNKS)
def test_every_size_builds_without_memory_and_knows_its_spec(size):
    config = SAM2SegmentationConfig(size=size)
    with torch.device("meta"):
        tokenizer = config.build()
    assert all(one.is_meta for one in [*tokenizer.parameters(), *tokenizer.buffers()])
    assert tokenizer.spec.image_size == (1024, 1024) and tokenizer.spec.mask_size == (256, 256)


@pytest.fixture
def sam2_not_yet_imported(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sam2"]:
        monkeypatch.delitem(sys.modules, name)


def assert_building_leaves_hydra_alone():
    state = GlobalHydra.instance()
    found, resolvers, version = state.hydra, BaseContainer._resolvers.copy(), VersionBase.instance().getbase()
    assert "sam2" not in sys.modules
    with torch.device("meta"):
        CONFIG.build()
    assert "sam2" in sys.modules
    assert GlobalHydra.instance() is state and state.hydra is found
    assert BaseContainer._resolvers == resolvers and VersionBase.instance().getbase() == version


def test_hydra_is_left_as_it_was_found(sam2_not_yet_imported, monkeypatch):
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)
    assert_building_leaves_hydra_alone()
    assert not GlobalHydra.instance().is_initialized()


def test_hydra_is_left_to_a_user_who_has_it_set_up(sam2_not_yet_imported, monkeypatch):
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", None)
    with initialize_config_module("hydra.conf", version_base="1.3"):
        assert_building_leaves_hydra_alone()
        assert GlobalHydra.instance().is_initialized()


def changed(official, file, *, without=(), **added):
    tensors = {name: one for name, one in official.state_dict().items() if name not in without}
    torch.save({"model": tensors | added}, file)
    return file


def test_a_checkpoint_that_does_not_fit_is_named_tensor_by_tensor_and_nothing_is_loaded(official, tmp_path):
    file = changed(
        official,
        tmp_path / "odd.pt",
        without=("no_mem_embed", "sam_mask_decoder.iou_token.weight"),
        **{"image_encoder.trunk.pos_embed": torch.zeros(1, 96, 14, 14), "head.weight": torch.zeros(2)},
    )
    config = attrs.evolve(CONFIG, weights=str(file))
    tokenizer = config.build()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        config.load_weights(tokenizer)
    for problem in (
        "no_mem_embed is missing",
        "sam_mask_decoder.iou_token.weight is missing",
        "image_encoder.trunk.pos_embed has shape (1, 96, 14, 14) instead of (1, 96, 7, 7)",
        "head.weight is not a part of this model",
    ):
        assert problem in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in tokenizer.state_dict().items())


class Malice:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_a_pickle_that_asks_to_run_code_is_refused(tmp_path):
    torch.save({"model": Malice()}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="its pickle asks to run code, which is never done"):
        loaded(tmp_path / "bad.pt")


@pytest.mark.parametrize("held", [[1, 2], {"model": {"epoch": 3}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="odd.pt is no SAM 2 checkpoint: it must hold a state dict"):
        loaded(tmp_path / "odd.pt")


def test_a_folder_without_the_file_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match="there is no sam2.1_hiera_tiny.pt or sam2.1_hiera_tiny.safetensors"
    ):
        loaded(tmp_path)


@pytest.mark.parametrize(("side", "near"), [(0, 32), (-32, 32), (100, 96), (1000, 992)])
def test_sizes_that_cannot_be_are_refused(side, near):
    with pytest.raises(RecipeError, match=f"sam2: image_size is {side}, .* give a multiple, such as {near}"):
        SAM2SegmentationConfig(image_size=side)


def test_a_call_is_as_large_as_the_device_is_fast_with():
    with torch.device("meta"):
        tokenizers = [attrs.evolve(CONFIG, image_size=side).build() for side in (1024, 512, 256)]
        few = attrs.evolve(CONFIG, objects_per_call=3).build()
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [one._objects_per_call(cpu) for one in tokenizers] == [2, 4, 16]
    assert [one._objects_per_call(gpu) for one in tokenizers] == [32, 32, 32]
    assert few._objects_per_call(cpu) == few._objects_per_call(gpu) == 3


def test_no_object_per_call_is_refused():
    with pytest.raises(RecipeError, match="objects_per_call is 0; it must be at least 1"):
        SAM2SegmentationConfig(objects_per_call=0)
