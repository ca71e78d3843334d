"""A Sa2VA export with random weights, its names written here independently, against the model it becomes."""

import json
import shutil
import sys

import attrs
import pytest
import torch
from safetensors.torch import save_file
from small import small_recipe
from tiny_hf import TEXT_VOCAB, model_json, tokenizer_folder
from torch import nn

from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.backbones.vision.internvit import InternViTConfig
from perceptio.cli import main as command
from perceptio.convert.sa2va import convert_sa2va
from perceptio.errors import CheckpointError
from perceptio.interfaces import SequenceLayout
from perceptio.model.perception_model import load
from perceptio.tokenizers.segmentation import sam2
from perceptio.tokenizers.segmentation.sam2 import SAM2SegmentationConfig, Trunk

HIDDEN, SEG = 32, TEXT_VOCAB
ADDED = ("[SEG]", "<p>", "</p>", "<vp>", "</vp>")
MASKS = "streams.segmentation"
PREFIX = "grounding_encoder.sam2_model."


@pytest.fixture(scope="module", autouse=True)
def small_trunk():
    """A Hiera of four blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam2.TRUNKS, "tiny", Trunk(8, 1, (1, 1, 1, 1), (2,)))
        yield


def recipe(**changes):
    base = small_recipe(
        vision=InternViTConfig(
            hidden_dim=8,
            num_layers=1,
            num_heads=2,
            feed_forward_dim=12,
            patch_size=2,
            tile_size=8,
            max_tiles=2,
        ),
        language=HFLanguageConfig(
            model=model_json(), text_vocab_size=TEXT_VOCAB, text_tokenizer_files=str(tokenizer_folder())
        ),
    ).with_stream("segmentation", tokenizer=SAM2SegmentationConfig(size="tiny", image_size=64))
    return attrs.evolve(base, **changes)


def official_language(seed=0):
    """Their language model: its rows end with the tokens they added."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    settings = json.loads(model_json()) | {"vocab_size": TEXT_VOCAB + len(ADDED)}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings)).eval()


def vision_tensors(width=8, inner=12):
    """InternViT of one layer by the names of InternVL's own code."""
    layer = "vision_model.encoder.layers.0."
    shapes = {
        "vision_model.embeddings.class_embedding": (1, 1, width),
        "vision_model.embeddings.position_embedding": (1, 17, width),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 2, 2),
        "vision_model.embeddings.patch_embedding.bias": (width,),
        f"{layer}attn.qkv.weight": (3 * width, width),
        f"{layer}attn.qkv.bias": (3 * width,),
        f"{layer}attn.proj.weight": (width, width),
        f"{layer}attn.proj.bias": (width,),
        f"{layer}norm1.weight": (width,),
        f"{layer}norm1.bias": (width,),
        f"{layer}norm2.weight": (width,),
        f"{layer}norm2.bias": (width,),
        f"{layer}mlp.fc1.weight": (inner, width),
        f"{layer}mlp.fc1.bias": (inner,),
        f"{layer}mlp.fc2.weight": (width, inner),
        f"{layer}mlp.fc2.bias": (width,),
        f"{layer}ls1": (width,),
        f"{layer}ls2": (width,),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def export(tmp_path_factory, small_trunk):
    """The export's folder and tensors, in two shards."""
    folder = tmp_path_factory.mktemp("sa2va")
    language = official_language()
    segmentation = SAM2SegmentationConfig(size="tiny", image_size=64).build()
    tensors = {f"language_model.{name}": value for name, value in language.state_dict().items()}
    tensors |= {
        PREFIX + name.removeprefix("network."): torch.randn_like(value)
        for name, value in segmentation.state_dict().items()
    }
    tensors |= {
        f"{PREFIX}memory_encoder.fuser.layers.0.g_weight": torch.randn(4),
        f"{PREFIX}maskmem_tpos_enc": torch.randn(7, 1, 1, 4),
    }
    tensors |= vision_tensors()
    projector = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN))
    prompts = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 256), nn.Dropout(0.0))
    for prefix, module in (("mlp1", projector), ("text_hidden_fcs", prompts)):
        tensors |= {
            f"{prefix}.{name}": torch.randn_like(value) for name, value in module.state_dict().items()
        }
    tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    (folder / "config.json").write_text(json.dumps({"llm_config": heads}))
    (folder / "added_tokens.json").write_text(json.dumps({token: SEG + n for n, token in enumerate(ADDED)}))
    return folder, tensors


@pytest.fixture(scope="module")
def imported(export, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "checkpoint"
    return convert_sa2va(export[0], recipe(), out), out


def test_every_tensor_but_memory_is_loaded(imported, export):
    report, out = imported
    assert set(report.loaded) | set(report.not_in_recipe) == set(export[1])
    assert set(report.not_in_recipe) == {
        f"{PREFIX}memory_encoder.fuser.layers.0.g_weight",
        f"{PREFIX}maskmem_tpos_enc",
    }
    assert all(
        name.startswith(("streams.depth.", "heads.", "language.new_")) for name in report.not_in_checkpoint
    )
    written = (out / "conversion_report.txt").read_text()
    assert (
        f"not in this recipe: {PREFIX}maskmem_tpos_enc (there is no {MASKS}.tokenizer.network.maskmem_tpos_enc)"
        in written
    )
    assert f"loaded: text_hidden_fcs.0.weight -> {MASKS}.head.layers.0.weight\n" in written
    assert "not in the checkpoint: language.new_inputs\n" in written


def test_the_language_model_is_theirs_with_the_row_of_seg(imported):
    model, official = load(imported[1]), official_language()
    ids = torch.tensor([[5, 80, 200, SEG, 7]])
    assert model.plan.name_of(SEG) == "[SEG]"
    with torch.no_grad():
        expected = official(ids, output_hidden_states=True)
        hidden_BTD = model.language(
            model.language.embed(ids), SequenceLayout.packed(torch.arange(5.0)[None], [5])
        )
        logits = model.language.logits(hidden_BTD)
    torch.testing.assert_close(hidden_BTD, expected.hidden_states[-1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[..., : SEG + 1], expected.logits[..., : SEG + 1], atol=1e-5, rtol=1e-5)


def test_prompts_masks_and_vision_are_theirs(imported, export):
    model, tensors = load(imported[1]), export[1]
    for name, ours in (
        ("text_hidden_fcs.2.bias", f"{MASKS}.head.layers.2.bias"),
        ("mlp1.3.weight", "vision_head.layers.3.weight"),
        (
            f"{PREFIX}sam_mask_decoder.iou_token.weight",
            f"{MASKS}.tokenizer.network.sam_mask_decoder.iou_token.weight",
        ),
        (f"{PREFIX}no_mem_embed", f"{MASKS}.tokenizer.network.no_mem_embed"),
        ("vision_model.encoder.layers.0.ls2", "vision.model.encoder.layer.0.lambda_2"),
    ):
        assert torch.equal(model.state_dict()[ours], tensors[name]), name
    fused = tensors["vision_model.encoder.layers.0.attn.qkv.weight"]
    held = model.state_dict()["vision.model.encoder.layer.0.attention.k_proj.weight"]
    assert torch.equal(held, fused[8:16])


def test_adapters_are_beside_what_is_loaded(export, tmp_path):
    language = attrs.evolve(recipe().language, lora=LoRA(rank=2, alpha=4, targets=("q_proj",)))
    report = convert_sa2va(export[0], recipe(language=language), tmp_path / "out")
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in report.loaded
    assert any(".lora_A." in name for name in report.not_in_checkpoint)


def test_other_parts_and_sizes_are_reported_and_the_rest_is_loaded(export, tmp_path):
    other = recipe(streams=small_recipe().streams, vision=small_recipe().vision)
    report = convert_sa2va(export[0], other, tmp_path / "out")
    why = report.not_in_recipe
    assert why["text_hidden_fcs.2.weight"].startswith(
        f"its shape is (256, 32), and that of {MASKS}.head.layers.2.weight"
    )
    assert why[f"{PREFIX}no_mem_embed"] == f"there is no {MASKS}.tokenizer.network.no_mem_embed"
    assert why["vision_model.encoder.layers.0.ls2"] == "there is no vision.model.encoder.layer.0.lambda_2"
    assert "language_model.lm_head.weight" in report.loaded


def test_what_is_no_export(export, tmp_path):
    with pytest.raises(CheckpointError, match="name the folder of a Sa2VA export of an InternVL model"):
        convert_sa2va(tmp_path, recipe(), tmp_path / "out")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in ("config.json", "added_tokens.json"):
        shutil.copy(export[0] / file, foreign)
    save_file({"layer.weight": torch.zeros(2)}, foreign / "model.safetensors")
    with pytest.raises(CheckpointError, match="of the first, layer.weight: nothing reads it"):
        convert_sa2va(foreign, recipe(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(export, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("perceptio.cli.convert.chosen_recipe", lambda *given: recipe())
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ("convert", "sa2va", export[0], "--recipe", "mine.py", "--out", tmp_path / "out")
    monkeypatch.setattr(sys, "argv", ["perceptio", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    printed = capsys.readouterr().out
    assert not stopped.value.code and f"{MASKS}.head" in printed and "not in this recipe" in printed
    assert "grounding_encoder.sam2_model.maskmem_tpos_enc" in printed and "conversion_report.txt" in printed
