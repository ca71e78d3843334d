"""A whole answer with and without the depth block, at 1 and 10 codes a step, with and without cache; questions about
one image, sharing its prompt or not; and the bare decoding loop against transformers' on the same weights.

An answer runs from the picture to the last token: image features, the prompt, the block, the read-out, the text. Its
length is fixed, so that random weights write as much as trained ones. The map is not decoded.

Shapes: B rows, T slots.
"""

from collections.abc import Sequence
from functools import partial

import attrs
import torch
from llama_twin import llama_twin
from recomputing import Recomputing
from support import Bench, Variant, relative_difference, run_benchmark
from torch import Tensor
from workload import demo_recipe

from perceptio.backbones.language.decoder import Decoder, DecoderConfig
from perceptio.data.scenes import SceneSet, Split
from perceptio.interfaces import GenerationSettings, SequenceLayout, Turn, text_positions
from perceptio.model.inference.decode_state import DecodeState
from perceptio.model.inference.generated import Generated
from perceptio.model.inference.generation import generate
from perceptio.model.inference.sequence import SequenceWriter, Slot
from perceptio.model.perception_model import PerceptionModel, build_model
from perceptio.vocabulary import TokenPlan

ROUNDS = 5
ANSWER_TOKENS = 4
"""`(`, a letter, `)` and the end."""
PERCEIVE = GenerationSettings(streams=("depth",), force=("depth",), max_new_tokens=ANSWER_TOKENS)
NO_BLOCK = GenerationSettings(streams=(), max_new_tokens=ANSWER_TOKENS)
NO_BLOCK_NO_READOUT = attrs.evolve(NO_BLOCK, readout=False)
ALLOWED = {"cpu": 1e-4, "cuda": 1e-3}
"""In units of the largest logit, in float32."""


def measure(bench: Bench) -> None:
    """Answers of the demo's model to one question, to several at once and about one image; the bare loop."""
    for batch_size in (1, 2) if bench.quick else (1, 4):
        compare_answers(bench, f"answer_batch_{batch_size}", batch_size)
    for questions in (2,) if bench.quick else (2, 8):
        compare_shared(bench, f"one_image_{questions}", questions)
    small = attrs.evolve(demo_recipe(bench.quick).language, position_axes=1, rope_fastest=1.0)
    wide = attrs.evolve(small, hidden_dim=512, num_layers=8, num_heads=8, num_kv_heads=4)
    prompt, new = (16, 8) if bench.quick else (128, 32)
    for config in (small,) if bench.quick else (small, wide):
        compare_loops(bench, f"loop_width_{config.hidden_dim}", config, prompt, new)


def compare_answers(bench: Bench, case: str, batch_size: int) -> None:
    """Check that the cache changes nothing, then time whole answers."""
    recipe = demo_recipe(bench.quick)
    model = build_model(recipe).to(bench.device).eval()
    models = {
        "ten_codes": model,
        "one_code": _sibling(model, codes_per_step=1, cache=True),
        "ten_codes_no_cache": _sibling(model, codes_per_step=10, cache=False),
        "one_code_no_cache": _sibling(model, codes_per_step=1, cache=False),
    }
    scenes = SceneSet(split=Split.TEST, count=batch_size)
    turns = [next(turn for turn in scene.turns if turn.task == "relative_depth") for scene in scenes]
    images = [
        torch.from_numpy(scene.image_HW3).permute(2, 0, 1).float().div(255).to(bench.device)
        for scene in scenes
    ]
    answer = partial(_answer, turns=turns, images=images)
    for name in ("ten_codes", "one_code"):
        cached, again = (_code_logits(answer(models[key], PERCEIVE)) for key in (name, f"{name}_no_cache"))
        difference = relative_difference(again, cached)
        bench.check(f"{case}.{name}.no_cache", difference, ALLOWED[bench.device.type])
    bench.sizes[case] = {
        "questions": batch_size,
        "points": [len(turn.points) for turn in turns],
        "depth_codes": recipe.plan.readout_block.length,
        "answer_tokens": ANSWER_TOKENS,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    variants = {name: Variant(partial(answer, one, PERCEIVE)) for name, one in models.items()}
    variants["no_block"] = Variant(partial(answer, model, NO_BLOCK))
    variants["no_block_no_readout"] = Variant(partial(answer, model, NO_BLOCK_NO_READOUT))
    pairs = [
        ("ten_codes", "no_block"),
        ("one_code", "no_block"),
        ("ten_codes", "no_block_no_readout"),
        ("one_code", "ten_codes"),
        ("ten_codes_no_cache", "ten_codes"),
        ("one_code_no_cache", "one_code"),
    ]
    bench.compare(case, variants, pairs, ROUNDS)


def compare_shared(bench: Bench, case: str, questions: int) -> None:
    """Time several questions about one image, whose prompt they share, against the same about as many images."""
    model = build_model(demo_recipe(bench.quick)).to(bench.device).eval()
    scene = SceneSet(split=Split.TEST, count=1)[0]
    image = torch.from_numpy(scene.image_HW3).permute(2, 0, 1).float().div(255).to(bench.device)
    with torch.inference_mode():
        encoded = {count: model.encode_vision([image] * count) for count in (1, questions)}
    marked, plain = (
        next(turn for turn in scene.turns if turn.task == task) for task in ("relative_depth", "attribute")
    )

    @torch.inference_mode()
    def answer(turn: Turn, settings: GenerationSettings, count: int) -> Generated:
        index = [number % count for number in range(questions)]
        return generate(model, [turn] * questions, [image] * count, index, settings, vision=encoded[count])

    for name, turn, settings in (("perceive", marked, PERCEIVE), ("plain", plain, NO_BLOCK_NO_READOUT)):
        logits = [_code_logits(answer(marked, PERCEIVE, count)) for count in (questions, 1)]
        bench.check(f"{case}.{name}", relative_difference(*logits), ALLOWED[bench.device.type])
        variants = {
            "shared": Variant(partial(answer, turn, settings, 1)),
            "apart": Variant(partial(answer, turn, settings, questions)),
        }
        bench.compare(f"{case}.{name}", variants, [("shared", "apart")], ROUNDS)
    bench.sizes[case] = {"questions": questions, "image_features": len(encoded[1].features_MD)}


def compare_loops(bench: Bench, case: str, config: DecoderConfig, prompt: int, new: int) -> None:
    """Check that the twin computes the same and that all loops are greedy, then time them."""
    decoder = config.build().to(bench.device).eval()
    twin = llama_twin(config, decoder)
    prompts_BT = torch.randint(config.spec.vocab_size, (4, prompt), device=bench.device)
    allowed = ALLOWED[bench.device.type]
    loops = {
        "ours": partial(greedy, decoder, prompts_BT, new),
        "transformers_generate": partial(generate_with_transformers, twin, prompts_BT, new),
        "transformers_bare_loop": partial(loop_over_transformers, twin, prompts_BT, new),
    }
    for name, loop in loops.items():
        ids_BT = torch.cat([prompts_BT, loop()], 1)
        with torch.inference_mode():
            mine, theirs = logits_of(decoder, ids_BT), twin(ids_BT).logits
        bench.check(f"{case}.{name}.logits", relative_difference(mine, theirs), allowed)
        # Greedy up to rounding: no token's logit lies below the largest, by the other implementation's account.
        judge = (theirs if name == "ours" else mine)[:, prompt - 1 : -1]
        chosen = judge.gather(2, ids_BT[:, prompt:, None])[..., 0]
        bench.check(
            f"{case}.{name}.greedy", float((judge.amax(2) - chosen).max() / judge.abs().max()), allowed
        )
    bench.sizes[case] = {
        "rows": len(prompts_BT),
        "prompt": prompt,
        "new_tokens": new,
        "width": config.hidden_dim,
        "layers": config.num_layers,
        "parameters": sum(p.numel() for p in decoder.parameters()),
    }
    variants = {name: Variant(loop) for name, loop in loops.items()}
    bench.compare(case, variants, [(name, "ours") for name in loops if name != "ours"], ROUNDS)


@torch.inference_mode()
def greedy(decoder: Decoder, prompts_BT: Tensor, new: int) -> Tensor:
    """`new` greedy ids [B, new], fed as `perceptio.model.inference.generation` feeds free text."""
    plan = TokenPlan.of(decoder.spec.vocab_size, {})
    writers = [SequenceWriter(plan, decoder.text_tokenizer) for _ in prompts_BT]
    for writer, ids in zip(writers, prompts_BT.tolist(), strict=True):
        writer.write([Slot(token) for token in ids])
    state = DecodeState(decoder, writers, [], new)
    tokens = []
    for _ in range(new):
        token_B = decoder.logits(state.step()[:, 0]).argmax(-1)
        tokens.append(token_B)
        state.append([Slot(0)], state.all_rows, token_B[:, None])
    return torch.stack(tokens, 1)


def generate_with_transformers(twin: torch.nn.Module, prompts_BT: Tensor, new: int) -> Tensor:
    """The same by transformers' `generate`."""
    written = twin.generate(
        input_ids=prompts_BT,
        attention_mask=torch.ones_like(prompts_BT),
        max_new_tokens=new,
        do_sample=False,
        use_cache=True,
    )
    return written[:, prompts_BT.shape[1] :]


@torch.inference_mode()
def loop_over_transformers(twin: torch.nn.Module, prompts_BT: Tensor, new: int) -> Tensor:
    """The same by transformers' model in the shortest loop that uses its cache: the strongest control."""
    from transformers import DynamicCache

    cache, ids_BT, tokens = DynamicCache(config=twin.config), prompts_BT, []
    for _ in range(new):
        logits = twin(ids_BT, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        ids_BT = logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(ids_BT)
    return torch.cat(tokens, 1)


def logits_of(decoder: Decoder, ids_BT: Tensor) -> Tensor:
    """Logits [B, T, V] of whole sequences, without a cache."""
    rows, length = ids_BT.shape
    positions_AT = text_positions(0, length, 1).repeat(1, rows).to(ids_BT.device)
    layout = SequenceLayout.packed(positions_AT, (length,) * rows)
    return decoder.logits(decoder(decoder.embed(ids_BT.view(1, -1)), layout)).view(rows, length, -1)


@torch.inference_mode()
def _answer(
    model: PerceptionModel, settings: GenerationSettings, turns: Sequence[Turn], images: Sequence[Tensor]
) -> Generated:
    return generate(model, turns, images, range(len(turns)), settings)


def _code_logits(generated: Generated) -> Tensor:
    """What the codes of the depth block were chosen from, [B, L, K]."""
    return torch.cat(generated.streams["depth"].logits, 2)[:, 0]


def _sibling(model: PerceptionModel, codes_per_step: int, cache: bool) -> PerceptionModel:
    """A model of the same weights that decodes otherwise."""
    sibling = build_model(model.recipe.with_stream("depth", codes_per_step=codes_per_step))
    sibling.load_state_dict(model.state_dict())
    if not cache:
        sibling.language = Recomputing(sibling.language)
    return sibling.to(model.device).eval()


def main(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """Run the benchmark; see `run_benchmark`."""
    return run_benchmark("generation", "Whole answers, and the bare decoding loop.", measure, arguments)


if __name__ == "__main__":
    main()
