"""Conformance tests of a language backbone.

Shapes: B rows, T slots, A position axes, D hidden width.
"""

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from perceptio.interfaces import (
    Kind,
    LanguageBackbone,
    LanguageBackboneConfig,
    SelectableCache,
    SequenceLayout,
    TextTokenizer,
    text_positions,
)
from perceptio.testing.component import ComponentConformance, assert_near, seeded

SENTENCES = (
    "Which point is closest?",
    "naïve 深度 🙂",
    "  two  spaces\n",
    "(B)",
    "<|end|> [SEG] <depth_start>",
)


class LanguageBackboneConformance(ComponentConformance):
    """Set `config`, at a small size."""

    config: ClassVar[LanguageBackboneConfig]
    kind = Kind.LANGUAGE

    def built(self) -> LanguageBackbone:
        """Return the backbone with random weights, in eval mode."""
        torch.manual_seed(0)
        return self.config.build().eval()

    def inputs(self, *shape: int) -> Tensor:
        """Return random embedded slots [*shape, D]."""
        return torch.randn(*shape, self.config.spec.hidden_dim, generator=seeded())

    def packed(self, backbone: LanguageBackbone, inputs_TD: Tensor, *lengths: int) -> Tensor:
        """Return hidden states [T, D] of samples packed in one row, each with positions from 0."""
        positions_AT = torch.cat(
            [text_positions(0, length, self.config.spec.position_axes) for length in lengths], 1
        )
        with torch.no_grad():
            return backbone(inputs_TD[None], SequenceLayout.packed(positions_AT, lengths))[0]

    def test_nothing_sees_what_comes_after_it(self) -> None:
        """A change at one slot changes no earlier slot, and at least one slot from there on."""
        backbone, inputs = self.built(), self.inputs(8)
        changed = inputs.clone()
        changed[5:] += 1.0
        before, after = self.packed(backbone, inputs, 8), self.packed(backbone, changed, 8)
        assert_near(before[:5], after[:5], "a slot sees the future")
        assert not torch.allclose(before[5:], after[5:])

    def test_packed_samples_do_not_see_each_other(self) -> None:
        """Packing saves time, but does not change results."""
        backbone, inputs = self.built(), self.inputs(9)
        together = self.packed(backbone, inputs, 4, 5)
        assert_near(self.packed(backbone, inputs[:4], 4), together[:4], "the first sample sees the second")
        assert_near(self.packed(backbone, inputs[4:], 5), together[4:], "the second sample sees the first")

    def test_the_cache_gives_what_one_pass_gives(self) -> None:
        """Rows of unequal length, fed in pieces, yield the hidden states of one pass over each row."""
        backbone, axes = self.built(), self.config.spec.position_axes
        lengths, rows = [3, 6], self.inputs(2, 10)
        whole = [self.packed(backbone, rows[b, : length + 2], length + 2) for b, length in enumerate(lengths)]
        cache, longest = backbone.new_cache(2, 10), max(lengths)
        with torch.no_grad():
            positions_ABT = text_positions(0, longest, axes)[:, None].expand(-1, 2, -1)
            backbone(
                rows[:, :longest], SequenceLayout.cached(positions_ABT, torch.tensor([0, 0]), longest), cache
            )
            for step in range(2):
                past_B = torch.tensor(lengths) + step
                new_B1D = torch.stack([rows[b, past : past + 1] for b, past in enumerate(past_B.tolist())])
                positions_ABT = past_B.float().view(1, 2, 1).expand(axes, -1, -1)
                layout = SequenceLayout.cached(positions_ABT, past_B, longest + step + 1)
                hidden_B1D = backbone(new_B1D, layout, cache)
                for b, past in enumerate(past_B.tolist()):
                    assert_near(hidden_B1D[b, 0], whole[b][past], "the cache disagrees with one pass")

    def test_a_cache_gives_its_rows_to_others(self) -> None:
        """If caches are selectable, rows with the same beginning can share its cache and continue from it."""
        backbone, axes = self.built(), self.config.spec.position_axes
        cache, shared, own = backbone.new_cache(2, 6), self.inputs(2, 4), self.inputs(3, 6)[:, 4:]
        if not isinstance(cache, SelectableCache):
            pytest.skip("Its caches are not selectable.")
        rows_B, past_B = torch.tensor([1, 0, 1]), torch.tensor([4, 4, 4])
        with torch.no_grad():
            positions_ABT = text_positions(0, 6, axes)[:, None]
            first = SequenceLayout.cached(positions_ABT[..., :4].expand(-1, 2, -1), torch.tensor([0, 0]), 4)
            backbone(shared, first, cache)
            chosen = cache.select(rows_B)
            rest = SequenceLayout.cached(positions_ABT[..., 4:].expand(-1, 3, -1), past_B, 6)
            hidden_BTD = backbone(own, rest, chosen)
            # Writes into the selection do not affect the original.
            again_BTD = backbone(own, rest, cache.select(rows_B))
        assert_near(hidden_BTD, again_BTD, "a selection and its source share their slots")
        for b, row in enumerate(rows_B.tolist()):
            whole = self.packed(backbone, torch.cat([shared[row], own[b]]), 6)
            assert_near(hidden_BTD[b], whole[4:], "a row of a selection disagrees with one pass")

    def test_positions_matter(self) -> None:
        """The same slots at larger distances yield other hidden states."""
        backbone, inputs, axes = self.built(), self.inputs(6), self.config.spec.position_axes
        positions_AT = text_positions(0, 6, axes)
        near, far = (
            backbone(inputs[None], SequenceLayout.packed(positions_AT * scale, (6,))) for scale in (1, 3)
        )
        assert not torch.allclose(near[0, 5], far[0, 5], atol=1e-5)

    def test_any_text_comes_back(self) -> None:
        """Every string can be encoded and decodes to itself; no typed text becomes a special token."""
        text: TextTokenizer = self.built().text_tokenizer
        strings = text.template.user + text.template.assistant + text.template.end
        special = {token for token in text.encode_template(strings) if text.decode([token]) == ""}
        assert text.end_id in special
        for sentence in SENTENCES:
            ids = text.encode(sentence)
            assert text.decode(ids) == sentence
            assert max(ids) < self.config.spec.vocab_size
            assert not special & set(text.encode(text.template.end))
        assert text.decode([text.end_id]) == ""

    @pytest.mark.parametrize("extra", [1, 40])
    def test_the_vocabulary_grows_without_touching_what_was_there(self, extra: int) -> None:
        """Existing rows stay bit-identical; new rows differ from each other, and can be set."""
        backbone, size = self.built(), self.config.spec.vocab_size
        old_VD = backbone.embed(torch.arange(size)).detach().clone()
        backbone.resize_vocabulary(size + extra)
        assert torch.equal(backbone.embed(torch.arange(size)), old_VD)
        assert backbone.logits(self.inputs(2)).shape == (2, size + extra)
        new_ND = backbone.embed(torch.arange(size, size + extra)).detach()
        if extra > 1:
            assert float(torch.pdist(new_ND).min()) > 0.1 * float(torch.pdist(old_VD[:64]).mean()), (
                "new rows are alike"
            )
        rows_ND = torch.randn(1, self.config.spec.hidden_dim, generator=seeded())
        backbone.initialize_rows(torch.tensor([size]), rows_ND)
        set_D = backbone.embed(torch.tensor([size]))[0].detach()
        assert float(torch.cosine_similarity(set_D, rows_ND[0], dim=0)) > 0.999
        assert torch.equal(backbone.embed(torch.arange(size)), old_VD)
