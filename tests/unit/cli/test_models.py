"""Verbs that need a model say so of a folder that holds a part."""

import pytest
from small import small_recipe

from perceptio.cli.models import model_in
from perceptio.errors import InputError
from perceptio.model.checkpoints.checkpoint import save


def test_a_part_is_no_model(tmp_path):
    config = small_recipe().stream("depth").tokenizer
    save(config.build(), tmp_path / "tokenizer", config=config)
    with pytest.raises(InputError, match=r"tokenizer holds no model but a part, \w+; eval needs a model\."):
        model_in(tmp_path / "tokenizer", "eval")
