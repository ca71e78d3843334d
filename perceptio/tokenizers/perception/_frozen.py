"""What tokenizers have in common that decode with features of a frozen expert."""

from typing import Self

from perceptio.interfaces import PerceptionTokenizer


class FrozenTokenizer(PerceptionTokenizer):
    """A tokenizer of which nothing trains: it stays in eval mode, whatever becomes of the model around it."""

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)
