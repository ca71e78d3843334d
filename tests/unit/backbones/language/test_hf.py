"""transformers models through our loading path and our attention are what the official classes compute."""

import re
from pathlib import Path

import attrs
import pytest
import torch
from language_backbones import loaded, packed
from tiny_hf import PADDED_VOCAB, TEXT_VOCAB, model_json, official_model, tokenizer_folder, write_checkpoint

from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.backbones.language.hf_settings import MODEL_TYPES
from perceptio.errors import CheckpointError, InputError, RecipeError, UnknownNameError
from perceptio.interfaces import SequenceLayout, text_positions

IDS = torch.randint(0, TEXT_VOCAB, (12,), generator=torch.Generator().manual_seed(0))


def config(**settings):
    return HFLanguageConfig(
        **{
            "model": model_json(),
            "text_vocab_size": TEXT_VOCAB,
            "text_tokenizer_files": str(tokenizer_folder()),
            **settings,
        }
    )


def built(**settings):
    torch.manual_seed(0)
    return config(**settings).build()


def near(mine, theirs):
    """Within 1e-5 of the largest value."""
    assert mine.shape == theirs.shape
    assert float((mine - theirs).abs().max()) <= 1e-5 * float(theirs.abs().max())


def official_outputs(model, ids):
    return model.base_model(ids[None]).last_hidden_state[0], model(ids[None]).logits[0, :, :TEXT_VOCAB]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@torch.no_grad()
def test_every_type_of_model_equals_the_official_one(model_type, tmp_path):
    official = official_model(model_type)
    backbone = loaded(write_checkpoint(tmp_path, official))
    whole_TD, logits_TV = official_outputs(official, IDS)
    inputs_TD = backbone.embed(IDS)

    hidden_TD = backbone(inputs_TD[None], packed(12))[0]
    near(hidden_TD, whole_TD)
    near(backbone.logits(hidden_TD), logits_TV)

    parts_TD = torch.cat([official_outputs(official, ids)[0] for ids in IDS.split([5, 7])])
    near(backbone(inputs_TD[None], packed(5, 7))[0], parts_TD)

    # Two rows of 4 and 7 slots, prefilled together, then two slots more.
    rows_BTD = torch.stack([inputs_TD, inputs_TD.flip(0)])
    reversed_TD = official_outputs(official, IDS.flip(0))[0]
    cache, past_B = backbone.new_cache(2, 12), torch.tensor([4, 7])
    positions_1BT = text_positions(0, 7, 1)[:, None].expand(-1, 2, -1)
    backbone(rows_BTD[:, :7], SequenceLayout.cached(positions_1BT, torch.zeros_like(past_B), 7), cache)
    slots_B2 = past_B[:, None] + torch.arange(2)
    new_B2D = torch.stack([rows_BTD[row, slots] for row, slots in enumerate(slots_B2)])
    step_B2D = backbone(new_B2D, SequenceLayout.cached(slots_B2[None].float(), past_B, 9), cache)
    near(step_B2D, torch.stack([whole_TD[4:6], reversed_TD[7:9]]))

    # A tensor left at another value would show.
    seen = 0
    for name, parameter in official.named_parameters():
        before = parameter.clone()
        parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1
        changed = torch.cat([x.flatten() for x in official_outputs(official, IDS)])
        same = torch.cat([whole_TD.flatten(), logits_TV.flatten()])
        assert float((changed - same).abs().max()) > 1e-3 * float(same.abs().max()), name
        parameter.copy_(before)
        seen += 1
    assert seen == len(backbone.official_tensors())


@pytest.mark.parametrize(
    ("model_type", "rope"),
    [
        ("llama", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
        ("llama", {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
        (
            "llama",
            {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64},
        ),
        (
            "phi3",
            {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0, 1.1, 1.2, 1.3],
                "long_factor": [1.0, 2.0, 3.0, 4.0],
                "original_max_position_embeddings": 64,
            },
        ),
    ],
)
@torch.no_grad()
def test_stretched_rotary_positions_are_the_official_ones(model_type, rope, tmp_path):
    official = official_model(model_type, rope_parameters=rope)
    backbone = loaded(write_checkpoint(tmp_path, official), max_length=64)
    near(backbone(backbone.embed(IDS)[None], packed(12))[0], official_outputs(official, IDS)[0])


def test_gradients_equal_the_official_ones_and_checkpointing_changes_nothing(tmp_path):
    official = official_model("qwen2")
    folder = write_checkpoint(tmp_path, official)
    (official.base_model(IDS[None]).last_hidden_state ** 2).sum().backward()
    truth = official.base_model.layers[0].self_attn.q_proj.weight.grad
    for checkpointing in (False, True):
        backbone = loaded(folder, gradient_checkpointing=checkpointing).train()
        (backbone(backbone.embed(IDS)[None], packed(12)) ** 2).sum().backward()
        near(backbone.trunk.layers[0].self_attn.q_proj.weight.grad, truth)


def test_the_config_says_what_the_checkpoint_holds(tmp_path):
    found = HFLanguageConfig.from_pretrained(write_checkpoint(tmp_path, official_model("qwen2")))
    assert found.spec == attrs.evolve(found.spec, vocab_size=TEXT_VOCAB, hidden_dim=32, position_axes=1)
    assert (found.weights, found.text_tokenizer_files, found.dtype) == (
        str(tmp_path),
        str(tmp_path),
        "float32",
    )
    assert found.template.end == "<|im_end|>\n"
    random = HFLanguageConfig.from_pretrained(tmp_path, weights=None, lora=LoRA(rank=2))
    assert random.weights is None and random.lora == LoRA(rank=2)
    assert not random.load_weights(random.build())


def test_weights_that_do_not_fit_are_named(tmp_path):
    folder = write_checkpoint(tmp_path, official_model("qwen2"))
    wider = config(model=model_json(intermediate_size=64, tie_word_embeddings=True), weights=str(folder))
    with pytest.raises(
        CheckpointError, match=r"mlp.down_proj.weight has shape \(32, 48\) instead of \(32, 64\)"
    ):
        wider.load_weights(wider.build())


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="config.json does not exist, or is no file: copy or download"):
        HFLanguageConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_new_rows_lie_beside_the_old_ones(tied):
    backbone = built(model=model_json(tie_word_embeddings=tied))
    backbone.resize_vocabulary(TEXT_VOCAB + 5)
    groups = backbone.parameter_groups()
    assert [tuple(rows.shape) for rows in groups["vocabulary"]] == [(5, 32)] * (1 if tied else 2)
    assert {id(p) for ps in groups.values() for p in ps} == {id(p) for p in backbone.parameters()}
    assert backbone.trunk.get_input_embeddings().weight.shape == (PADDED_VOCAB, 32)

    last = TEXT_VOCAB + 4
    before = backbone.embed(torch.tensor([last])).detach()
    backbone.initialize_rows(torch.tensor([last]), torch.randn(1, 32))
    hidden = torch.randn(3, 32)
    rows = backbone.new_inputs if tied else backbone.new_outputs
    torch.testing.assert_close(backbone.logits(hidden)[:, last], hidden @ rows[4])
    assert not torch.equal(backbone.embed(torch.tensor([last])), before)
    old_std = backbone.trunk.get_input_embeddings().weight.detach().std()
    assert 0.5 < float(backbone.new_inputs.detach()[4].std() / old_std) < 2

    (backbone.embed(torch.tensor([3, last])).sum() + backbone.logits(hidden)[:, last].sum()).backward()
    assert (
        float(backbone.new_inputs.grad[:4].abs().max()) == 0
        and float(backbone.new_inputs.grad[4].abs().max()) > 0
    )


def test_a_scaled_embedding_scales_new_rows_too():
    backbone = built(model=model_json("gemma3_text", head_dim=8, sliding_window=512))
    backbone.resize_vocabulary(TEXT_VOCAB + 1)
    torch.testing.assert_close(
        backbone.embed(torch.tensor(TEXT_VOCAB)), backbone.new_inputs[0] * torch.tensor(32.0).sqrt()
    )


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_weights_stay_as_they_are_and_new_rows_adapters_and_the_outside_are_float32(tmp_path, precision):
    official = official_model("qwen2").to(precision)
    folder = write_checkpoint(tmp_path, official)
    backbone = loaded(folder, lora=LoRA(rank=2))
    backbone.resize_vocabulary(TEXT_VOCAB + 2)
    dtypes = {name: {p.dtype for p in group} for name, group in backbone.parameter_groups().items()}
    assert dtypes == {"trunk": {precision}, "lora": {torch.float32}, "vocabulary": {torch.float32}}
    assert backbone.trunk.rotary_emb.inv_freq.dtype == torch.float32
    with torch.no_grad():
        hidden = backbone(backbone.embed(IDS)[None], packed(12))
        logits = backbone.logits(hidden)
        assert hidden.dtype == logits.dtype == torch.float32
        torch.testing.assert_close(
            hidden[0], official_outputs(official, IDS)[0].float(), rtol=0.05, atol=0.05
        )


def test_long_sequences_are_refused():
    backbone = built(max_length=8)
    with pytest.raises(InputError, match="A sequence takes 9 slots, and language:hf serves at most 8"):
        backbone(torch.randn(1, 9, 32), packed(9))
    backbone(torch.randn(1, 16, 32), packed(8, 8))


def test_a_vocabulary_smaller_than_the_text_tokenizer_is_refused():
    with pytest.raises(
        RecipeError, match=f"tokenizer has {PADDED_VOCAB + 1} ids and the model {PADDED_VOCAB} rows"
    ):
        config(text_vocab_size=PADDED_VOCAB + 1)


def test_no_text_tokenizer_is_needed_before_it_is_asked_for():
    backbone = built(text_tokenizer_files=None)
    with pytest.raises(CheckpointError, match="set text_tokenizer_files to the folder that holds its files"):
        _ = backbone.text_tokenizer


def test_it_builds_on_the_meta_device():
    with torch.device("meta"):
        backbone = config(lora=LoRA(rank=2), weights="somewhere").build()
        backbone.resize_vocabulary(TEXT_VOCAB + 3)
        backbone.initialize_rows(torch.tensor([TEXT_VOCAB]), torch.randn(1, 32))
    assert all(value.is_meta for value in backbone.state_dict().values())


def test_the_page_of_this_adapter_shows_what_runs_and_names_every_type(tmp_path):
    page = (Path(__file__).parents[4] / "docs/adapters/language.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    folder = write_checkpoint(tmp_path, official_model("qwen2"))
    names: dict = {}
    exec(block.replace("Qwen/Qwen2.5-0.5B-Instruct", str(folder)), names)
    assert names["language"].lora.rank == 128
    assert all(f"`{model_type}`" in page for model_type in MODEL_TYPES)


class TestLoRA:
    def adapted(self, **settings):
        backbone = built(lora=LoRA(rank=2, alpha=3, **settings))
        for parameter in backbone.parameter_groups()["lora"]:
            torch.nn.init.normal_(parameter, std=0.3)
        return backbone.eval()

    def test_adapters_start_without_effect(self):
        plain, adapted = built().eval(), built(lora=LoRA(rank=2)).eval()
        for name, value in plain.official_tensors().items():
            adapted.official_tensors()[name].copy_(value)
        inputs = torch.randn(1, 6, 32)
        torch.testing.assert_close(adapted(inputs, packed(6)), plain(inputs, packed(6)))

    def test_all_linear_layers_of_the_trunk_are_adapted_or_those_named(self):
        assert len(self.adapted().parameter_groups()["lora"]) == 2 * 2 * 7
        assert len(self.adapted(targets=("q_proj", "0.mlp.up_proj")).parameter_groups()["lora"]) == 2 * 3

    def test_an_unknown_target_names_the_near_miss(self):
        with pytest.raises(UnknownNameError, match="the layer 'wq_proj'; did you mean 'q_proj'"):
            self.adapted(targets=("wq_proj",))

    @pytest.mark.parametrize("settings", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}])
    def test_settings_out_of_range_are_refused(self, settings):
        with pytest.raises(RecipeError, match=r"lora: rank \(\d+\) must be at least 1, alpha"):
            LoRA(**settings)

    def test_only_adapters_and_new_rows_need_to_train(self):
        backbone = self.adapted().train()
        backbone.resize_vocabulary(TEXT_VOCAB + 2)
        backbone.requires_grad_(False)
        groups = backbone.parameter_groups()
        for parameter in groups["lora"] + groups["vocabulary"]:
            parameter.requires_grad_(True)
        backbone.logits(backbone(backbone.embed(IDS)[None], packed(12))).sum().backward()
        assert all(p.grad is not None for p in groups["lora"]) and all(
            p.grad is None for p in groups["trunk"]
        )

    @torch.no_grad()
    def test_merging_changes_nothing_and_leaves_a_plain_backbone(self):
        backbone, inputs = self.adapted(), torch.randn(1, 12, 32)
        before = backbone(inputs, packed(12))
        plain_before = backbone.official_tensors()["model.layers.0.mlp.up_proj.weight"].clone()
        backbone.merge()
        near(backbone(inputs, packed(12)), before)
        assert not torch.equal(backbone.official_tensors()["model.layers.0.mlp.up_proj.weight"], plain_before)
        assert "lora" not in backbone.parameter_groups()
        plain = built().eval()
        plain.load_state_dict(backbone.state_dict())
        near(plain(inputs, packed(12)), before)


class TestExport:
    ADDED = ("[SEG]", "<depth_start>", "<depth_end>")

    def trained(self, tied=True, **settings):
        backbone = built(model=model_json(tie_word_embeddings=tied), lora=LoRA(rank=2), **settings).eval()
        backbone.resize_vocabulary(TEXT_VOCAB + 3)
        for parameter in backbone.parameter_groups()["lora"]:
            torch.nn.init.normal_(parameter, std=0.3)
        return backbone

    @pytest.mark.parametrize("tied", [False, True])
    @pytest.mark.parametrize("merged", [False, True])
    @torch.no_grad()
    def test_transformers_reads_it_and_computes_the_same(self, tied, merged, tmp_path):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        backbone = self.trained(tied)
        ids = torch.cat([IDS, torch.arange(3) + TEXT_VOCAB])
        expected = backbone.logits(backbone(backbone.embed(ids)[None], packed(15)))
        if merged:
            backbone.merge()
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        backbone.export(tmp_path / "out", self.ADDED)
        assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())

        official = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
        near(official(ids[None]).logits, expected)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
        assert tokenizer.convert_tokens_to_ids(list(self.ADDED)) == [
            TEXT_VOCAB,
            TEXT_VOCAB + 1,
            TEXT_VOCAB + 2,
        ]
        assert tokenizer("a[SEG]")["input_ids"][-1] == TEXT_VOCAB

        again = loaded(tmp_path / "out")
        assert again.spec.vocab_size == TEXT_VOCAB + 3
        near(again.logits(again(again.embed(ids)[None], packed(15))), expected)

    def test_the_names_must_be_as_many_as_the_rows(self, tmp_path):
        with pytest.raises(CheckpointError, match="3 new rows are to be exported, and 1 names were given"):
            self.trained().export(tmp_path / "out", ["[SEG]"])

    def test_a_name_that_is_taken_is_refused_and_nothing_is_left(self, tmp_path):
        with pytest.raises(CheckpointError, match="a name is taken, given twice, or text_vocab_size"):
            self.trained().export(tmp_path / "out", ["[SEG]", "[SEG]", "<|im_end|>"])
        assert not any(tmp_path.iterdir())
