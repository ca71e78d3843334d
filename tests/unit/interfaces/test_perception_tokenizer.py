"""What every perception tokenizer has, whoever wrote it."""

from perceptio.interfaces import device_of
from perceptio.tokenizers.perception.box import BoxConfig


def test_a_tokenizer_without_weights_knows_where_it_lies_and_saves_nothing():
    tokenizer = BoxConfig().build()
    assert device_of(tokenizer).type == "cpu" and not tokenizer.state_dict()
    assert device_of(tokenizer.to("meta")).type == "meta"
