"""SmolLM2-135M-Instruct through `language:hf` is what transformers makes of it."""

import pytest
import torch
from language_backbones import loaded, packed

from perceptio.backbones.language.hf import HFLanguageConfig, LoRA
from perceptio.interfaces import SequenceLayout
from perceptio.settings import load_recipe

QUESTIONS = ("What is the capital of France?", "Name three fruits that are red.")
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def official(smollm2):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2)


@pytest.fixture(scope="module")
def backbone(smollm2):
    return loaded(smollm2, dtype="float32")


def logits_of(backbone, *sequences):
    """Logits [V] of every slot of sequences, packed into one row."""
    ids = torch.cat(sequences)
    return backbone.logits(backbone(backbone.embed(ids)[None], packed(*map(len, sequences)))[0])


def prompt(backbone, question):
    """The ids of a question as a conversation begins."""
    template, text = backbone.text_tokenizer.template, backbone.text_tokenizer
    before = text.encode_template(template.start + template.user)
    return torch.tensor([*before, *text.encode(question), *text.encode_template(template.assistant)])


def near(mine, theirs, largest):
    """Within a fraction of the largest value."""
    assert mine.shape == theirs.shape
    assert float((mine - theirs).abs().max()) <= largest * float(theirs.abs().max())


def test_the_recipe_describes_this_checkpoint(smollm2):
    described = load_recipe("perceptio_135m").language
    found = HFLanguageConfig.from_pretrained(smollm2)
    mine, theirs = described._settings, found._settings
    assert {name: theirs[name] for name in mine if name != "rms_norm_eps"} == {
        name: value for name, value in mine.items() if name != "rms_norm_eps"
    }
    assert theirs["rms_norm_eps"] == pytest.approx(mine["rms_norm_eps"])
    assert found.spec == described.spec


@torch.no_grad()
def test_logits_are_the_official_ones_and_packing_changes_nothing(backbone, official):
    sequences = [prompt(backbone, question) for question in QUESTIONS]
    theirs = [official(ids[None]).logits[0] for ids in sequences]
    for ids, logits in zip(sequences, theirs, strict=True):
        near(logits_of(backbone, ids), logits, 1e-5)
    near(logits_of(backbone, *sequences), torch.cat(theirs), 1e-5)


def test_a_conversation_is_written_as_the_chat_template_writes_it(backbone, tokenizer):
    for question in QUESTIONS:
        theirs = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        assert prompt(backbone, question).tolist() == theirs


@torch.no_grad()
def test_greedy_text_is_the_official_one(backbone, official, tokenizer):
    for question in QUESTIONS:
        ids = prompt(backbone, question)
        theirs = official.generate(
            ids[None], attention_mask=torch.ones_like(ids[None]), max_new_tokens=NEW_TOKENS, do_sample=False
        )[0, len(ids) :].tolist()
        mine = greedy(backbone, ids)
        assert mine == theirs[: len(mine)] and len(mine) == len(theirs)
        said = backbone.text_tokenizer.decode(mine)
        assert said == tokenizer.decode(theirs, skip_special_tokens=True)
    assert "red" in said.lower() or "apple" in said.lower()


def greedy(backbone, ids):
    """Token by token, on our cache."""
    past, cache, written = 0, backbone.new_cache(1, len(ids) + NEW_TOKENS), []
    while len(written) < NEW_TOKENS:
        slots = torch.arange(past, past + len(ids))
        layout = SequenceLayout.cached(slots[None, None].float(), torch.tensor([past]), past + len(ids))
        hidden = backbone(backbone.embed(ids)[None], layout, cache)[0, -1]
        past += len(ids)
        ids = backbone.logits(hidden).argmax(-1)[None]
        written.append(int(ids))
        if written[-1] == backbone.text_tokenizer.end_id:
            break
    return written


@torch.no_grad()
def test_in_bfloat16_it_is_as_near_to_float32_as_the_official_model(smollm2, backbone, official):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.bfloat16).eval()
    mine, ids = loaded(smollm2, dtype="bfloat16"), prompt(backbone, QUESTIONS[0])
    exact = official(ids[None]).logits[0]
    their_error, my_error = (
        float((logits.float() - exact).square().mean().sqrt())
        for logits in (theirs(ids[None]).logits[0], logits_of(mine, ids))
    )
    assert my_error <= 1.2 * their_error


@torch.no_grad()
def test_adapters_merge_and_an_export_is_read_by_transformers_with_its_new_rows(smollm2, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    mine = loaded(smollm2, dtype="float32", lora=LoRA(rank=4, alpha=8))
    old, added = mine.spec.vocab_size, ("[SEG]", "<depth_start>", "<depth_end>")
    mine.resize_vocabulary(old + len(added))
    ids = torch.cat([prompt(mine, QUESTIONS[0]), torch.arange(old, old + len(added))])
    untouched = logits_of(mine, ids)
    for parameter in mine.parameter_groups()["lora"]:
        torch.nn.init.normal_(parameter, std=0.02)
    adapted = logits_of(mine, ids)
    assert float((adapted - untouched).abs().max()) > 0.1
    mine.merge()
    near(logits_of(mine, ids), adapted, 1e-4)

    mine.export(tmp_path / "out", added)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    near(theirs(ids[None]).logits[0], adapted, 1e-4)
    names = AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids(list(added))
    assert names == [old, old + 1, old + 2]
    again = loaded(tmp_path / "out")
    near(logits_of(again, ids), adapted, 1e-4)
