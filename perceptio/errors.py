"""The exceptions of the library. Each message is one sentence that a user can act on.

Catch `PerceptioError` to handle every invalid request and every broken input. The command line prints its message
without a traceback and exits with status 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PerceptioError(Exception):
    """An error that a user can correct. The message says what was asked, what was found and what to do."""


class RecipeError(PerceptioError, ValueError):
    """A recipe, or a setting of one, is invalid. The message lists all problems.

    Args:
        *problems: One sentence per problem.
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
    """A component, setting or command does not exist. The message suggests a similar name and lists all names."""


class PluginError(PerceptioError, RuntimeError):
    """A plugin is broken, registered twice, or written for another version of the interfaces."""


class InterfaceError(PerceptioError, TypeError):
    """A component violates its interface: a wrong shape or type, or a missing method."""


class CheckpointError(PerceptioError, RuntimeError):
    """A checkpoint is missing, truncated, of another kind, or could not be written."""


class DataError(PerceptioError, ValueError):
    """A data set on disk, a sample, or a depth map cannot be used."""


class InputError(PerceptioError, ValueError):
    """A model cannot answer for the image, question or point that it was given."""


class TrainingError(PerceptioError, RuntimeError):
    """Training cannot continue, for instance because the loss is no longer finite."""


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: a similar name, if any, and all known names."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return f"{meant} There is: {', '.join(known)}." if known else f"{meant} There is none."


def quoted(value: object, longest: int = 100) -> str:
    """Return the `repr` of a value for a message, on one line of at most `longest` characters; never raises."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
