"""The benchmarks run at tiny size, and what they compare computes the same."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[3] / "benchmarks"
RATIOS = {
    "attention": {
        f"{case}.{direction}.{path}_over_segments"
        for case in ("long", "demo")
        for direction in ("forward", "forward_backward")
        for path in ("padded", "dense_mask")
    }
    | {f"large.{direction}.padded_over_segments" for direction in ("forward", "forward_backward")},
    "packing": {
        f"{case}.{padded}_over_packed" for case in ("demo", "long") for padded in ("filled", "masked_batch")
    },
    "generation": {
        f"answer_batch_{size}.{pair}"
        for size in (1, 2)
        for pair in (
            "ten_codes_over_no_block",
            "one_code_over_no_block",
            "ten_codes_over_no_block_no_readout",
            "one_code_over_ten_codes",
            "ten_codes_no_cache_over_ten_codes",
            "one_code_no_cache_over_one_code",
        )
    }
    | {f"one_image_2.{what}.shared_over_apart" for what in ("perceive", "plain")}
    | {f"loop_width_32.transformers_{loop}_over_ours" for loop in ("generate", "bare_loop")},
    "segmentation": {"image.further_object_over_first_object", "objects_8.one_call_over_calls"},
    "depth_targets": {
        f"{case}.in_turn_over_ahead" for case in ("device_as_fast_as_decoding", "device_three_times_slower")
    },
    "start_up": {"help.help_over_python"},
    "opening": {"open.checked_over_indexed", "hash.read_over_kept"},
}


@pytest.fixture(autouse=True)
def benchmarks_importable(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)


@pytest.mark.parametrize("name", RATIOS)
def test_a_quick_run_checks_and_writes_its_ratios(name, tmp_path):
    threads, asked = torch.get_num_threads(), os.environ.get("PERCEPTIO_ATTENTION")
    result = importlib.import_module(name).main(["--quick", "--device", "cpu", "--out", str(tmp_path)])
    (file,) = tmp_path.iterdir()
    assert file.name == f"{name}-cpu-{result['date']}.json"
    assert json.loads(file.read_text()) == result
    assert set(result["ratios"]) == RATIOS[name]
    assert all(ratio["median"] > 0 for ratio in result["ratios"].values())
    assert result["checks"]
    assert all(check["difference"] <= check["allowed"] for check in result["checks"].values())
    assert "milliseconds" not in result, "absolute times are of a GPU alone"
    assert (torch.get_num_threads(), os.environ.get("PERCEPTIO_ATTENTION")) == (threads, asked)


def test_every_script_is_run_here_and_told_of_in_the_readme():
    scripts = {path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text()}
    assert scripts == set(RATIOS)
    readme = (FOLDER / "README.md").read_text()
    for name, keys in RATIOS.items():
        assert f"python benchmarks/{name}.py" in readme
        for key in keys:
            assert f"`{key.rsplit('.', 1)[1]}`" in readme


def test_ratios_are_taken_within_rounds_and_the_order_turns():
    support = importlib.import_module("support")
    bench = support.Bench(name="x", device=torch.device("cpu"), quick=False)
    clock, ran = [0.0], []

    def taking(name, seconds):
        def run():
            # Every round is slower than the one before, for both alike.
            clock[0] += seconds * (1 + len(ran) // 2)
            ran.append(name)

        return support.Variant(run, lambda: ran.count(name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(support.time, "process_time", lambda: clock[0])
        bench.compare("case", {"a": taking("a", 3.0), "b": taking("b", 2.0)}, [("a", "b")], rounds=3)
    assert ran[-6:] == ["b", "a", "a", "b", "b", "a"]
    assert bench.ratios["case.a_over_b"] == {"median": 1.5, "quartiles": [1.5, 1.5], "rounds": 3}


@pytest.mark.parametrize("difference", [2e-3, float("nan")])
def test_a_disagreement_stops_the_benchmark(difference):
    support = importlib.import_module("support")
    bench = support.Bench(name="packing", device=torch.device("cpu"), quick=True)
    bench.check("demo.loss", 1e-3, 1e-3)
    with pytest.raises(
        support.DisagreementError, match="packing: demo.loss differs by .* and 0.001 is allowed"
    ):
        bench.check("demo.loss", difference, 1e-3)


def test_padding_that_moves_a_sample_is_noticed(monkeypatch):
    packing, support = importlib.import_module("packing"), importlib.import_module("support")
    workload = importlib.import_module("workload")
    model = packing.build_model(workload.demo_recipe(quick=True))
    filled = packing.Supervised.filled

    def misplaced(self):
        wrong = filled(self)
        return packing.attrs.evolve(wrong, positions_AT=wrong.positions_AT * 1.5)

    monkeypatch.setattr(packing.Supervised, "filled", misplaced)
    bench = support.Bench(name="packing", device=torch.device("cpu"), quick=True)
    sequences = packing.Supervised.random((7, 3), model.plan.base_vocab)
    with pytest.raises(support.DisagreementError, match="filled"):
        packing.compare_steps(bench, "demo", model.language, sequences)


def test_a_twin_with_other_weights_is_noticed():
    generation, support = importlib.import_module("generation"), importlib.import_module("support")
    config = generation.DecoderConfig(
        hidden_dim=32, num_layers=1, num_heads=2, num_kv_heads=1, position_axes=1
    )
    decoder = config.build()
    twin = generation.llama_twin(config, decoder)
    ids_BT = torch.randint(config.spec.vocab_size, (2, 9))
    with torch.inference_mode():
        mine, theirs = generation.logits_of(decoder, ids_BT), twin(ids_BT).logits
        assert support.relative_difference(mine, theirs) < 1e-5
        # Keys and queries exchanged for their turned halves: a wrong copy of a rotary layout.
        query = twin.model.layers[0].self_attn.q_proj.weight
        query.copy_(query.roll(8, 0))
        assert support.relative_difference(mine, twin(ids_BT).logits) > 1e-3
