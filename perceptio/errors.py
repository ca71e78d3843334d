"""Every exception of the library. Each message is one sentence that a user can act on.

Catch `PerceptioError` for anything that was asked wrongly or found broken; the command line prints its message
without a traceback and exits with status 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PerceptioError(Exception):
    """Something a user can put right: the message says what was asked, what was found and what to do."""


class RecipeError(PerceptioError, ValueError):
    """A recipe, or a setting of one, that cannot be built; of several things that are wrong, all are listed.

    Args:
        *problems: A sentence for each.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        listed = "".join(f"\n  {number}. {one}" for number, one in enumerate(self.problems, 1))
        return f"{len(self.problems)} things are wrong:{listed}"


class UnknownNameError(RecipeError, LookupError):
    """A component, setting or verb that does not exist; the message names the near miss and the known names."""


class PluginError(PerceptioError, RuntimeError):
    """A plugin that is broken, registered twice, or written for another version of the interfaces."""


class InterfaceError(PerceptioError, TypeError):
    """A part that does not keep the promise of its interface: wrong shape, type or missing method."""


class CheckpointError(PerceptioError, RuntimeError):
    """A checkpoint that is missing, truncated, foreign, or could not be written."""


class DataError(PerceptioError, ValueError):
    """A data set on disk, a sample, or a depth map that cannot be used."""


class InputError(PerceptioError, ValueError):
    """An image, question or point given to a model that it cannot answer for."""


class TrainingError(PerceptioError, RuntimeError):
    """Training that cannot go on, such as a loss that is no longer a finite number."""


def near_miss(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what was probably meant, and what there is."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return f"{meant} There is: {', '.join(known)}." if known else f"{meant} There is none."


def quoted(value: object, longest: int = 100) -> str:
    """A value of somebody else's in a message: on one line, not too long, and whatever its `repr` does."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
