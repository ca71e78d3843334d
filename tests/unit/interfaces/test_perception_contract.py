"""Perception tokenizers are held to what they promise where they make it, whoever wrote them."""

import re
from typing import ClassVar

import attrs
import pytest
import torch

from perceptio.errors import InterfaceError
from perceptio.interfaces import (
    CodeMeanings,
    Codes,
    Continuous,
    Kind,
    PerceptionSpec,
    PerceptionTokenizer,
    PerceptionTokenizerConfig,
    StreamSpec,
)
from perceptio.model.parts import build_part

CODES = Codes.on_grid(4, (1, 2))


def made_of(written=CODES, image_size=None, **methods):
    """A tokenizer whose given methods make the given values."""
    body = {name: (lambda self, *given, made=made: made) for name, made in methods.items()}
    cls = type("Lying", (PerceptionTokenizer,), body)
    cls.__abstractmethods__ = frozenset()
    held = cls()
    held.spec = PerceptionSpec(stream=StreamSpec(written=written, target="normals", image_size=image_size))
    return held


@pytest.mark.parametrize(
    ("method", "given", "made", "message"),
    [
        ("targets", [[None] * 3], torch.zeros(1, 3), "made float32 [1, 3] of 3 samples; it must make a tensor"),
        ("targets", [[None] * 3], [torch.zeros(3)] * 3, "made a list of 3 of 3 samples"),
        ("targets", [[None] * 3], None, "made a NoneType of 3 samples"),
        ("to_codes", [torch.zeros(3, 2)], torch.zeros(1, 2).long(), "made codes that are of 1 targets"),
        ("to_codes", [torch.zeros(1, 2)], torch.full((1, 2), 4), "made codes that go from 4 to 4 and not"),
        ("shown", [None, [(8, 8)]], [torch.zeros(8, 8)], "made tensors; users are given arrays"),
        ("shown", [None, [(8, 8)]], [], "made a list of 0; it must make a list of 1"),
        ("compare", [None, torch.zeros(3, 2)], torch.zeros(3), "made float32 [3]; it must make figures by name"),
        ("compare", [None, torch.zeros(3, 2)], {"error": torch.zeros(())}, "made float32 [] of 'error'; it must"),
        ("compare", [None, torch.zeros(3, 2)], {"error": [0.0]}, "made a list of 'error'; it must make a"),
        ("values_at", [None, torch.zeros(3, 2, 2)], torch.zeros(3), "made float32 [3] of points [3, 2, 2]; it must"),
        ("values_at", [None, torch.zeros(3, 2, 2)], torch.zeros(3, 2).long(), "made int64 [3, 2] of points [3, 2, 2"),
        ("code_meanings", [], (), "made 0 entries; it must make one for each codebook, 1."),
        (
            "code_meanings",
            [],
            (CodeMeanings(vectors_KC=torch.zeros(5, 3)),),
            "made vectors_KC that are float32 [5, 3]; it must make a row for each code, [4, ...]",
        ),
    ],
)  # fmt: skip
def test_what_a_tokenizer_makes_is_what_it_promises(method, given, made, message):
    with pytest.raises(InterfaceError, match=rf"^Lying\.{method} {re.escape(message)}"):
        getattr(made_of(**{method: made}), method)(*given)


@pytest.mark.parametrize(
    ("written", "image_size", "method", "message"),
    [
        (CODES, None, "to_codes", "and its stream is written as codes: add the method to Lying."),
        (CODES, None, "from_probabilities", "and its stream is written as codes: add the method to Lying."),
        (CODES, None, "from_rows", "and its stream is written as codes: it is not to be called."),
        (
            Continuous(tokens=("<a>",), width=3),
            None,
            "from_rows",
            "written as special tokens: add the method",
        ),
        (CODES, (8, 8), "encode_image", "and its spec has the image_size (8, 8): add the method to Lying."),
    ],
)
def test_a_method_that_is_not_there_is_named(written, image_size, method, message):
    with pytest.raises(InterfaceError, match=rf"^Lying has no {method}, .*{re.escape(message)}"):
        getattr(made_of(written, image_size), method)(None)


@attrs.frozen(kw_only=True)
class HalfConfig(PerceptionTokenizerConfig):
    """Builds a tokenizer that cannot decode its codes, or one that has forgotten its spec."""

    name: ClassVar[str] = "half"
    kind: ClassVar[Kind] = Kind.PERCEPTION
    interface: ClassVar[tuple[int, int]] = (2, 0)
    forgetful: bool = False

    @property
    def spec(self):
        return made_of().spec

    def build(self):
        held = made_of(to_codes=None)
        if self.forgetful:
            held.spec = attrs.evolve(self.spec, stream=attrs.evolve(self.spec.stream, target="depth"))
        return held


def test_a_tokenizer_without_values_at_points_says_so():
    with pytest.raises(
        InterfaceError, match="^Lying has no values at points: name another stream with readout"
    ):
        made_of().values_at(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2))


def test_values_at_points_need_a_decoding_that_waits_for_nothing():
    held = made_of(to_codes=None, from_codes=None)
    held.spec = attrs.evolve(held.spec, stream=attrs.evolve(held.spec.stream, point_values=True))
    assert held.missing == ("from_probabilities", "values_at")


def test_what_a_spec_promises_is_looked_for_before_anything_is_trained():
    assert made_of(to_codes=None, image_size=(8, 8)).missing == ("from_codes", "encode_image")
    assert made_of(Continuous(tokens=("<a>",), width=3), from_rows=None).missing == ()
    with pytest.raises(
        InterfaceError, match=r"perception:half \(.*Lying has no from_codes, .* add the method"
    ):
        build_part(HalfConfig())
    with pytest.raises(
        InterfaceError, match=r"not the same \(stream.target is 'normals' and 'depth'\); set self"
    ):
        build_part(HalfConfig(forgetful=True))
