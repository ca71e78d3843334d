"""Conformance tests of a tokenizer of any other stream, depending on how its stream is written and how often.

Shapes: T targets, N blocks or objects, L codes, K codebook size, m rows, P width of a row, H W pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from perceptio.errors import DataError, InterfaceError
from perceptio.interfaces import (
    Codes,
    Continuous,
    DepthMap,
    Kind,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    TrainableTokenizer,
    codes_problem,
)
from perceptio.testing.component import (
    ComponentConformance,
    assert_near,
    assert_unchanged,
    frozen_copy,
    seeded,
)
from perceptio.testing.point_values import check_values_at

PICTURES = ((24, 40), (31, 17), (40, 24))
"""Height and width of the images of the targets."""


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors and arrays in a value, at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, np.ndarray | float | int):
        yield torch.as_tensor(value)
    elif attrs.has(type(value)):
        yield from tensors_in([getattr(value, field.name) for field in attrs.fields(type(value))])
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            yield from tensors_in(one)


def assert_same(one: Any, other: Any, what: str) -> None:
    """Assert that the tensors in two values are equal up to float32 rounding; NaN equals NaN."""
    ones, others = list(tensors_in(one)), list(tensors_in(other))
    assert len(ones) == len(others) and ones, f"{what}: {len(ones)} tensors and {len(others)}."
    for mine, theirs in zip(ones, others, strict=True):
        assert_near(mine.float().nan_to_num(7e7), theirs.float().nan_to_num(7e7), what)


class PerceptionTokenizerConformance(ComponentConformance):
    """Set `config`, at a small size. The spec tells whether it writes codes or special tokens, per image or object.

    Attributes:
        channels: Channels of the stream's map, if its target is a map; set 3 for a map of vectors, such as normals.
        value_range: Range of the map's values. A tokenizer that needs other maps, such as unit vectors, overrides
            `raw`.
        promised: Figures of `compare` for targets that are encoded and decoded, each with its lowest and highest
            allowed value. Omit figures of a tokenizer that must be trained first.
    """

    config: ClassVar[PerceptionTokenizerConfig]
    kind = Kind.PERCEPTION
    channels: ClassVar[int] = 1
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    promised: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def raw(self) -> list[Any]:
        """Return three very different targets of the spec's kind, as samples hold them."""
        target, random = self.config.spec.stream.target, np.random.default_rng(0)
        if target in ("masks", "objects"):
            masks = [np.zeros(size, dtype=bool) for size in PICTURES]
            masks[0][2:20, 5:31] = True
            masks[1][20:30, 1:4] = True
            masks[2][::2] = True
            return masks if target == "masks" else [np.stack([mask, ~mask]) for mask in masks]
        scales = (1.0, 0.1, 0.5)
        if target == "image":
            return [
                torch.rand(3, *size, generator=seeded()) * s for size, s in zip(PICTURES, scales, strict=True)
            ]
        if target == "depth":
            return [
                DepthMap(values_HW=(1 + s * random.random(size)).astype(np.float32), unit="metres")
                for size, s in zip(PICTURES, scales, strict=True)
            ]
        low, high = self.value_range
        return [
            (low + (high - low) * s * random.random((*size, self.channels))).astype(np.float32)
            for size, s in zip(PICTURES, scales, strict=True)
        ]

    def built(self) -> PerceptionTokenizer:
        """Return the tokenizer with random weights, in eval mode."""
        torch.manual_seed(0)
        return self.config.build().eval()

    def pictures(self, tokenizer: PerceptionTokenizer, count: int = 3) -> tuple[Any, Tensor | None]:
        """Return image features and the image of each of three rows; None if decoding needs no image."""
        size = self.config.spec.stream.image_size
        if size is None:
            return None, None
        pixels_B3HW = torch.rand(count, 3, *size, generator=seeded(1))
        return tokenizer.encode_image(pixels_B3HW), torch.tensor([count - 1, 0, 0])

    def written(self, kind: type) -> Any:
        """Return how the stream is written; skip the test if it is written in another way."""
        written = self.config.spec.stream.written
        if not isinstance(written, kind):
            pytest.skip(f"This stream is not written as {kind.__name__}.")
        return written

    def random_codes(self, written: Codes, count: int = 3) -> Tensor:
        """Return random codes of `count` blocks."""
        random = seeded()
        groups = [
            torch.randint(written.codebook_sizes[group.codebook], (count, group.length), generator=random)
            for group in written.groups
        ]
        return torch.cat(groups, 1)

    def one_hot(self, written: Codes, codes_NL: Tensor) -> list[Tensor]:
        """Return one-hot distributions over codes, by runs of one codebook."""
        runs: list[tuple[int, int]] = []
        for group in written.groups:
            if runs and runs[-1][0] == group.codebook:
                runs[-1] = (group.codebook, runs[-1][1] + group.length)
            else:
                runs.append((group.codebook, group.length))
        parts = codes_NL.split([length for _, length in runs], 1)
        return [
            F.one_hot(part_Nl, written.codebook_sizes[codebook]).float()
            for part_Nl, (codebook, _) in zip(parts, runs, strict=True)
        ]

    def random_rows(self, written: Continuous, count: int = 3) -> Tensor:
        """Return random rows of very different scale."""
        rows_NmP = torch.randn(count, written.num_rows, written.width, generator=seeded())
        return rows_NmP * torch.logspace(-1, 1, max(count, 1))[:count, None, None]

    def decoded(self, tokenizer: PerceptionTokenizer, index: Sequence[int] = (0, 1, 2)) -> Any:
        """Decode the random codes or rows with the given numbers."""
        written, chosen = self.config.spec.stream.written, list(index)
        features, image_index_N = self.pictures(tokenizer)
        image_index_N = None if image_index_N is None else image_index_N[chosen]
        if isinstance(written, Codes):
            return tokenizer.from_codes(self.random_codes(written)[chosen], features, image_index_N)
        return tokenizer.from_rows(self.random_rows(written)[chosen], features, image_index_N)

    def test_the_tokenizer_says_what_its_config_says(self) -> None:
        """Config and tokenizer have the same spec, and the stream is written."""
        spec = self.config.spec
        assert self.built().spec == spec
        assert spec.stream.per in ("image", "object") and spec.stream.target

    def test_every_target_is_its_own(self) -> None:
        """There are as many targets as samples, each independent of the others; no sample at all is valid."""
        tokenizer, raw = self.built(), self.raw()
        together = tokenizer.targets(raw)
        assert len(together) == len(raw) and len(tokenizer.targets([])) == 0
        assert not any(tensor.requires_grad for tensor in tensors_in(together))
        for row, one in enumerate(raw):
            assert_same(
                tokenizer.targets([one])[0:1], together[row : row + 1], f"target {row} depends on its company"
            )

    def test_samples_without_a_target_are_unknown(self) -> None:
        """None becomes NaN, and so do its figures."""
        stream = self.config.spec.stream
        if stream.per == "object" or stream.target == "image":
            pytest.skip("Every sample has this target.")
        tokenizer, raw = self.built(), self.raw()
        targets = tokenizer.targets([raw[0], None, raw[2]])
        first, none = (list(tensors_in(targets[n : n + 1])) for n in (0, 1))
        assert all(bool(tensor.isnan().all()) for tensor in none)
        assert not any(bool(tensor.isnan().all()) for tensor in first)
        with torch.no_grad():
            figures = tokenizer.compare(self.decoded(tokenizer), targets)
        assert all(values_N.isnan().tolist() == [False, True, False] for values_N in figures.values())

    def test_targets_become_codes_of_the_spec(self) -> None:
        """Types, shapes and ranges match; each target is encoded independently, without gradient."""
        written, tokenizer, raw = self.written(Codes), self.built(), self.raw()
        codes_TL = tokenizer.to_codes(tokenizer.targets(raw))
        assert codes_problem(codes_TL, written) is None and len(codes_TL) == len(raw)
        if not isinstance(tokenizer, TrainableTokenizer):
            assert len(codes_TL.unique(dim=0)) > 1, "All targets have the same codes."
        for row, one in enumerate(raw):
            assert torch.equal(tokenizer.to_codes(tokenizer.targets([one]))[0], codes_TL[row])
        assert tokenizer.to_codes(tokenizer.targets([])).shape == (0, written.length)

    def test_what_was_promised_comes_back(self) -> None:
        """There is one finite figure per target, within the promised range if the author states one."""
        stream, tokenizer, raw = self.config.spec.stream, self.built(), self.raw()
        targets = tokenizer.targets(raw)
        features, image_index_N = self.pictures(tokenizer)
        with torch.no_grad():
            if isinstance(stream.written, Codes):
                decoded = tokenizer.from_codes(tokenizer.to_codes(targets), features, image_index_N)
            else:
                try:
                    decoded = tokenizer.from_rows(tokenizer.target_rows(targets), features, image_index_N)
                except InterfaceError:
                    assert not self.promised, (
                        "Figures are promised, and the tokenizer makes no rows of targets."
                    )
                    decoded = self.decoded(tokenizer)
            figures = tokenizer.compare(decoded, targets)
        assert figures and all(values_N.shape == (len(raw),) for values_N in figures.values())
        assert all(bool(values_N.isfinite().all()) for values_N in figures.values())
        for name, (low, high) in self.promised.items():
            found = figures[name]
            assert low <= float(found.min()) and float(found.max()) <= high, (
                f"{name} goes from {float(found.min()):.4g} to {float(found.max()):.4g}; {low} to {high} promised."
            )

    def test_every_row_is_its_own(self) -> None:
        """What is decoded from a row does not depend on the other rows."""
        tokenizer = self.built()
        with torch.no_grad():
            together = list(tensors_in(self.decoded(tokenizer)))
            for row in range(3):
                alone = tensors_in(self.decoded(tokenizer, [row]))
                for mine, ours in zip(alone, together, strict=True):
                    assert_near(mine[0].float(), ours[row].float(), f"row {row} depends on its company")

    def test_what_is_decoded_follows_what_is_written(self) -> None:
        """Other codes or rows decode to something else, and so do other images if decoding uses them."""
        tokenizer = self.built()
        with torch.no_grad():
            tensors = list(tensors_in(self.decoded(tokenizer)))
            assert any(float(tensor.float().std(0).max()) > 1e-6 for tensor in tensors), "All rows are alike."
            if self.config.spec.stream.image_size is not None:
                written = self.config.spec.stream.written
                features, _ = self.pictures(tokenizer)
                same = (
                    self.random_codes(written)[:1]
                    if isinstance(written, Codes)
                    else self.random_rows(written)[:1]
                )
                decode: Any = tokenizer.from_codes if isinstance(written, Codes) else tokenizer.from_rows
                one, other = (decode(same, features, torch.tensor([n])) for n in (0, 1))
                pairs = zip(tensors_in(one), tensors_in(other), strict=True)
                assert any(not torch.allclose(a, b) for a, b in pairs), "The image index is not looked at."

    def test_values_at_points_are_those_of_what_is_decoded(self) -> None:
        """With `point_values` in the spec: numbers in [0, 1], from the right map and the right place on it."""
        tokenizer = self.built()
        check_values_at(tokenizer, self.decoded(tokenizer), 3)

    def test_none_at_all_is_legal(self) -> None:
        """An answer without objects needs no placeholder."""
        tokenizer = self.built()
        with torch.no_grad():
            decoded = self.decoded(tokenizer, [])
            assert tokenizer.shown(decoded, []) == []

    def test_users_are_given_values_on_the_cpu(self) -> None:
        """One value for each row, without NaN and without tensors, for images of any size."""
        tokenizer = self.built()
        shown = tokenizer.shown(self.decoded(tokenizer), PICTURES)
        assert isinstance(shown, list) and len(shown) == 3
        assert not any(isinstance(one, Tensor) for one in shown)
        values = [list(tensors_in(one)) for one in shown]
        assert all(held and all(bool(one.isfinite().all()) for one in held) for held in values)

    def test_half_precision_changes_little(self) -> None:
        """A model may be converted to bfloat16; its values for users still exist, and are finite."""
        tokenizer = self.built().to(torch.bfloat16)
        stream = self.config.spec.stream
        if isinstance(stream.written, Codes) and stream.image_size is None:
            shown = tokenizer.shown(tokenizer.from_codes(self.random_codes(stream.written)), PICTURES)
        elif stream.image_size is None:
            rows_NmP = self.random_rows(stream.written).bfloat16()
            shown = tokenizer.shown(tokenizer.from_rows(rows_NmP), PICTURES)
        else:
            pytest.skip("What pictures are encoded in is the tokenizer's own matter.")
        assert all(bool(value.isfinite().all()) for value in tensors_in(shown))

    def test_a_sure_distribution_decodes_like_its_codes(self) -> None:
        """One-hot probabilities decode to the same as `from_codes`."""
        written, tokenizer = self.written(Codes), self.built()
        codes_NL, (features, image_index_N) = self.random_codes(written), self.pictures(tokenizer)
        soft = tokenizer.from_probabilities(self.one_hot(written, codes_NL), features, image_index_N)
        hard = tokenizer.from_codes(codes_NL, features, image_index_N)
        assert_same(soft, hard, "soft and hard decoding differ")

    def test_gradients_reach_every_run_of_probabilities(self) -> None:
        """Soft merging trains the language model through each codebook."""
        written, tokenizer = self.written(Codes), self.built()
        logits = [
            torch.randn(one.shape, generator=seeded()).requires_grad_()
            for one in self.one_hot(written, self.random_codes(written))
        ]
        features, image_index_N = self.pictures(tokenizer)
        soft = tokenizer.from_probabilities([one.softmax(-1) for one in logits], features, image_index_N)
        torch.stack([tensor.float().square().sum() for tensor in tensors_in(soft)]).sum().backward()
        assert all(one.grad is not None and bool(one.grad.flatten(1).any(1).all()) for one in logits)

    def test_codes_out_of_contract_are_refused(self) -> None:
        """-1 means "no code"; it does not index the last one."""
        written, tokenizer = self.written(Codes), self.built()
        codes_NL, (features, image_index_N) = self.random_codes(written), self.pictures(tokenizer)
        largest = max(written.codebook_sizes)
        for wrong in (codes_NL - codes_NL.min() - 1, codes_NL + largest, codes_NL[:, 1:], codes_NL.float()):
            with pytest.raises(DataError):
                tokenizer.from_codes(wrong, features, image_index_N)

    def test_meanings_are_those_of_each_codebook(self) -> None:
        """There is one entry per codebook: values in [0, 1] and vectors, for every code."""
        written, tokenizer = self.written(Codes), self.built()
        meanings = tokenizer.code_meanings()
        assert len(meanings) == len(written.codebook_sizes)
        for one, size in zip(meanings, written.codebook_sizes, strict=True):
            for values in (one.values_KV, one.vectors_KC):
                assert values is None or (values.ndim == 2 and len(values) == size)
            if one.values_KV is not None:
                assert float(one.values_KV.min()) >= 0 and float(one.values_KV.max()) <= 1

    def test_gradients_reach_rows(self) -> None:
        """The language model learns through the rows that its head outputs."""
        written, tokenizer = self.written(Continuous), self.built()
        rows_NmP = self.random_rows(written).requires_grad_()
        features, image_index_N = self.pictures(tokenizer)
        decoded = tokenizer.from_rows(rows_NmP, features, image_index_N)
        torch.stack([tensor.square().sum() for tensor in tensors_in(decoded)]).sum().backward()
        assert rows_NmP.grad is not None and bool((rows_NmP.grad.flatten(1).abs().amax(1) > 0).all())

    def test_rows_of_targets_are_rows_of_the_spec(self) -> None:
        """If the tokenizer can make rows of targets, to feed back in training, they match the spec."""
        written, tokenizer = self.written(Continuous), self.built()
        try:
            rows_TmP = tokenizer.target_rows(tokenizer.targets(self.raw()))
        except InterfaceError:
            pytest.skip("This tokenizer makes no rows of its targets.")
        assert rows_TmP.shape == (3, written.num_rows, written.width) and bool(rows_TmP.isfinite().all())

    def test_using_it_changes_nothing(self) -> None:
        """Using a tokenizer in eval mode, or a frozen one in any mode, changes no parameter or buffer."""
        tokenizer, stream = self.built(), self.config.spec.stream
        before = frozen_copy(tokenizer)
        if stream.frozen:
            assert not any(module.training for module in tokenizer.train().modules()), (
                "A frozen tokenizer is in training mode after train()."
            )
        targets = tokenizer.targets(self.raw())
        if isinstance(stream.written, Codes):
            tokenizer.to_codes(targets)
        self.decoded(tokenizer)
        assert_unchanged(tokenizer, before, "Using the tokenizer")
        assert not stream.frozen or not any(
            parameter.requires_grad for parameter in tokenizer.parameters()
        ), (
            "Parameters of a frozen tokenizer require gradients: call requires_grad_(False) in its constructor."
        )

    def trainable(self) -> tuple[Any, Tensor]:
        """Return a trainable tokenizer and maps to reconstruct; skip the test if it is not trainable."""
        tokenizer = self.built()
        if not isinstance(tokenizer, TrainableTokenizer):
            pytest.skip("This tokenizer is not trained by this library.")
        maps_TCHW = tokenizer.to_reconstruct(tokenizer.targets(self.raw()))
        assert maps_TCHW.ndim == 4 and maps_TCHW.is_floating_point()
        return tokenizer, maps_TCHW

    def test_training_reconstructs_targets(self) -> None:
        """The reconstruction has gradients and the targets' own shape, with and without codes."""
        tokenizer, maps_TCHW = self.trainable()
        for quantize in (False, True):
            made = tokenizer.train().reconstruct(maps_TCHW, quantize=quantize)
            assert made.values.shape == maps_TCHW.shape and len(made.codes_TL) == len(maps_TCHW)
            assert made.auxiliary_loss.ndim == 0 and bool(made.auxiliary_loss.isfinite())
            assert made.values.requires_grad, "No gradient goes through what was reconstructed."
            made.values.square().mean().backward()
            assert any(p.grad is not None and bool(p.grad.any()) for p in tokenizer.parameters())

    def test_mirrored_twice_is_as_before(self) -> None:
        """Mirroring is its own inverse, changes the map, and does not modify its argument."""
        tokenizer, maps_TCHW = self.trainable()
        before = maps_TCHW.clone()
        mirrored = tokenizer.mirrored(maps_TCHW)
        assert torch.equal(maps_TCHW, before) and not torch.equal(mirrored, before)
        assert torch.equal(tokenizer.mirrored(mirrored), before)

    def test_frozen_stays_frozen(self) -> None:
        """After `freeze`, neither `train()` nor training steps change anything."""
        tokenizer, maps_TCHW = self.trainable()
        tokenizer.train().reconstruct(maps_TCHW)
        tokenizer.freeze()
        before = frozen_copy(tokenizer)
        tokenizer.train().reconstruct(maps_TCHW)
        assert_unchanged(tokenizer, before, "A frozen tokenizer's training step")
        assert not any(parameter.requires_grad for parameter in tokenizer.parameters())
