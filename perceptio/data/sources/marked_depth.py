"""Questions about marked points for samples of a source with known depth: seeded, and the same each time."""

import hashlib
from collections.abc import Iterator

import attrs
import numpy as np

from perceptio.data.point_questions import PointRules, point_turns
from perceptio.interfaces import DepthMap, LeftOut, TurnRecord


@attrs.frozen(kw_only=True)
class MarkedDepth:
    """Asks about marked points on depth maps.

    A question depends only on the seed, the sample's id and its depth; its number of points depends on the sample's
    number.

    Attributes:
        per_image: Number of questions per sample.
        rules: Rules for the points of a question.
        seed: Seed of all draws.
    """

    per_image: int
    rules: PointRules
    seed: int

    def turns(self, depth: DepthMap, id: str, number: int) -> Iterator[TurnRecord | LeftOut]:
        """The questions about a sample, and in place of one that the rules do not allow what is left out.

        Args:
            depth: The sample's depth, of which a pixel is known.
            id: The sample's id.
            number: Which sample it is; so the numbers of points take turns.
        """
        if not self.per_image:
            return
        own = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
        random = np.random.default_rng((self.seed, own))
        first, numbers = number * self.per_image, self.rules.counts
        counts = [numbers[(first + place) % len(numbers)] for place in range(self.per_image)]
        for count, turn in zip(counts, point_turns(depth, counts, self.rules, random), strict=True):
            if turn is None:
                yield LeftOut(
                    what=f"a question of {id}", why=f"no {count} points of its depth obey the rules"
                )
            else:
                yield TurnRecord(
                    task=turn.task, question=turn.question, answer=turn.answer, points=turn.points
                )
