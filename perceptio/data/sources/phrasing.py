"""Phrase referring questions in the same words as for generated scenes."""

from random import Random
from typing import Literal

from perceptio.data.scenes.language import CANONICAL_REQUEST, FOUND, REQUESTS
from perceptio.interfaces import TurnRecord

Phrasing = Literal["canonical", "varied"]
"""`canonical`: the one question used in evaluation, from Sa2VA; `varied`: one of several, drawn at random."""


def referring_turn(
    expression: str, object_id: int, random: Random, phrasing: Phrasing, id: str = ""
) -> TurnRecord:
    """Return a turn that asks for the object that an expression means, and answers with its mask."""
    request = CANONICAL_REQUEST if phrasing == "canonical" else random.choice(REQUESTS)
    return TurnRecord(
        id=id,
        task="referring",
        question=request.format(expression=expression),
        answer=FOUND,
        objects=(object_id,),
    )
