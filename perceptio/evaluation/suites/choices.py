"""Multiple-choice questions of published files: asked in their original words, answered by the letter of a choice."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from perceptio.errors import DataError, InputError, quoted
from perceptio.evaluation.suites.suite import SuiteData
from perceptio.interfaces import LETTERS, GenerationSettings, Kept, Pass, Question, Reply, Sample, Turn
from perceptio.ops.foreign import parsing
from perceptio.ops.held_files import AnyFile, opened
from perceptio.ops.identity import add_blocks
from perceptio.ops.image_files import read_image
from perceptio.ops.letters import parse_choice, parse_letter


@attrs.frozen(kw_only=True)
class ChoiceQuestion:
    """A question of a published file.

    Attributes:
        name: Its name, such as its number in the file.
        task: The kind of question according to the file.
        question: The text to ask, including the choices.
        choices: The words of the choices, lettered A, B, … in order.
        answer: The letter of the right choice.
        labels: Labels by which figures group the question.
    """

    name: str
    task: str
    question: str
    choices: tuple[str, ...]
    answer: str
    labels: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True, eq=False)
class ChoiceTurn(Turn):
    """A question with lettered choices."""

    choices: tuple[str, ...]


class ChoiceData(SuiteData):
    """Questions grouped by image, in the order of each image's first question.

    Args:
        place: Where the data are.
        questions: Each question with a key that identifies its image.
        picture: Returns the file of an image; it may raise an `InputError` or a `DataError`.

    Raises:
        DataError: Two questions have the same name.
    """

    def __init__(
        self,
        place: Path,
        questions: Sequence[tuple[Any, ChoiceQuestion]],
        picture: Callable[[Any], AnyFile],
    ) -> None:
        self.place, self._picture = place, picture
        by_picture: dict[Any, list[ChoiceQuestion]] = {}
        names: set[str] = set()
        for key, question in questions:
            if question.name in names:
                raise DataError(
                    f"{place} has the question {quoted(question.name)} twice: keep one of them, or one of the files "
                    "that they are in."
                )
            names.add(question.name)
            by_picture.setdefault(key, []).append(question)
        self._pictures = list(by_picture.items())

    def __len__(self) -> int:
        return len(self._pictures)

    def name(self, number: int) -> str:
        """See `SuiteData.name`: the name of the first question about the image."""
        return self._pictures[number][1][0].name

    def turns(self, number: int) -> Sequence[Turn]:
        """See `SuiteData.turns`."""
        return [
            ChoiceTurn(
                id=one.name,
                question=one.question,
                answer=f"({one.answer})",
                task=one.task,
                choices=one.choices,
            )
            for one in self._pictures[number][1]
        ]

    def sample(self, number: int) -> Sample:
        """See `SuiteData.sample`."""
        with self._reading(number) as file:
            image_3HW = read_image(file)
        return Sample(turns=tuple(self.turns(number)), image_3HW=image_3HW, id=self.name(number))

    def content(self, count: int) -> str:
        """See `SuiteData.content`; everything that answers are scored against is part of the questions."""
        sha = hashlib.sha256()
        for number in range(count):
            with self._reading(number) as file, opened(file) as picture:
                add_blocks(sha, picture)
        return sha.hexdigest()

    @contextmanager
    def _reading(self, number: int) -> Iterator[AnyFile]:
        """Yield the file of an image; errors name the first question about it."""
        key, questions = self._pictures[number]
        where = f"{self.place}, question {questions[0].name}"
        with parsing(DataError, f"{where}: its picture cannot be read ({{reason}}): fetch it again."):
            try:
                yield self._picture(key)
            except InputError as error:
                raise DataError(f"{where}: {error}") from error

    def labels(self, number: int, place: int) -> Mapping[str, Any]:
        """See `SuiteData.labels`."""
        return self._pictures[number][1][place].labels


class Choices(Pass):
    """Asks every question once, and parses the choice from the text of the answer.

    Args:
        figure: The name under which answers are kept.
        perceives: Streams that the model may write before it answers.
        force: Whether it must write them.
        max_new_tokens: Maximum number of tokens of an answer.
    """

    def __init__(self, figure: str, perceives: tuple[str, ...], *, force: bool, max_new_tokens: int) -> None:
        super().__init__(figure)
        self._settings = GenerationSettings(
            streams=perceives,
            force=perceives if force else (),
            readout=False,
            max_new_tokens=max_new_tokens,
        )

    def settings(self, questions: Sequence[Question]) -> GenerationSettings:
        """Return the same settings for all questions."""
        return self._settings

    def score(self, reply: Reply) -> Kept:
        """Return the chosen letter, `""` if none could be parsed, and whether it is right."""
        turn = reply.question.turn
        assert isinstance(turn, ChoiceTurn)
        letter = parse_choice(reply.text, turn.choices)
        return {self.task: {"right": letter == parse_letter(turn.answer), "letter": letter}}

    def figures(self) -> Mapping[str, Mapping[str, Any]]:
        """Return nothing, because the suite computes figures from the kept answers."""
        return {}


def with_instruction(question: str, instruction: str) -> str:
    """Return a question, followed by an instruction on a line of its own if there is one."""
    return f"{question}\n{instruction}" if instruction else question


def question_of(row: Mapping[str, Any], name: str, task: str, where: str, instruction: str) -> ChoiceQuestion:
    """Parse a row with `question`, `choices`, `answer`, and often `prompt`, which is the question with its choices.

    Args:
        row: The row.
        name: The name of the question.
        task: The kind of question.
        where: The description of the row in messages.
        instruction: See `with_instruction`.

    Raises:
        DataError: The question is not text, there is no list of choices, or the answer is not one of them.
    """
    choices, words = row["choices"], row.get("prompt") or row["question"]
    if not isinstance(words, str) or not isinstance(choices, list) or not choices:
        raise DataError(f"{where} has the question {quoted(words)} and the choices {quoted(choices)}.")
    if len(choices) > len(LETTERS):
        raise DataError(f"{where} has {len(choices)} choices, and there are {len(LETTERS)} letters.")
    listed = (
        ""
        if row.get("prompt")
        else "".join(f"\n({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    )
    return ChoiceQuestion(
        name=name,
        task=task,
        question=with_instruction(words + listed, instruction),
        choices=tuple(map(str, choices)),
        answer=letter_of(row["answer"], choices, where),
    )


def letter_of(answer: object, choices: Sequence[object], where: str) -> str:
    """Return the letter of the right choice, which a file gives as `(A)`, `A`, or the words of the choice.

    Raises:
        DataError: It is none of the choices.
    """
    letters = LETTERS[: len(choices)]
    text = str(answer).strip()
    letter = text.removeprefix("(").removesuffix(")")
    if len(letter) == 1 and letter in letters:
        return letter
    if text in choices:
        return letters[list(choices).index(text)]
    raise DataError(f"{where} has the answer {quoted(text)}, which is none of its {len(choices)} choices.")
