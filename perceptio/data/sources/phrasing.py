"""How referring questions are put, in the words that the library uses of generated scenes, too."""

from random import Random
from typing import Literal

from perceptio.data.scenes.language import CANONICAL_REQUEST, FOUND, REQUESTS
from perceptio.interfaces import TurnRecord

Phrasing = Literal["canonical", "varied"]
"""The one question of evaluation, which is Sa2VA's, or one of several, drawn."""


def referring_turn(
    expression: str, object_id: int, random: Random, phrasing: Phrasing, id: str = ""
) -> TurnRecord:
    """A question for the one object that an expression means, and the answer, in which it is segmented."""
    request = CANONICAL_REQUEST if phrasing == "canonical" else random.choice(REQUESTS)
    return TurnRecord(
        id=id,
        task="referring",
        question=request.format(expression=expression),
        answer=FOUND,
        objects=(object_id,),
    )
