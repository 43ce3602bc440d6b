"""What a case of a fault is, and how one try of it may end."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Case",
    "Chance",
    "Found",
    "LostError",
    "NotHereError",
    "NotInjuredError",
    "WrongError",
    "chance",
    "check_counts",
    "run_case",
]

RIGHT, TOLD, LOST, WRONG = "right", "told", "lost", "wrong"

_DRAWS = 10


class LostError(Exception):
    """Something that was committed is not there, or a run cannot go on."""


class WrongError(Exception):
    """Something else came out than what was stored, and no error."""


class NotInjuredError(Exception):
    """What was to be injured had ended before: this is no try."""


class NotHereError(Exception):
    """The fault cannot be made on this machine."""


@dataclass(frozen=True)
class Case:
    """A fault, made again and again at places or moments that are drawn.

    Attributes
    ----------
    name : str
        For the command line.
    what : str
        What goes wrong, for the table.
    tries : int
        How often in the long form.
    prepare : callable
        Called once with a folder; gives the subject, which is what the others are called with, or
        raises `NotHereError`.
    injure : callable
        Called with the subject, a fresh folder and a generator; makes the fault there, and tells
        in a few words what it did.
    check : callable
        Called with the subject and that folder; tells whether everything is right, or was refused
        with a clear error, or raises `LostError` or `WrongError`.
    """

    name: str
    what: str
    tries: int
    prepare: Callable[[Path], Any]
    injure: Callable[[Any, Path, Chance], str]
    check: Callable[[Any, Path], str]


@dataclass
class Found:
    """What came of the tries of a case.

    Attributes
    ----------
    outcomes : Counter
        How often a try ended in which way.
    errors : list of str
        Of those that ended badly: which one, what was done, and what was found.
    seconds : float
        How long all of it took.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    not_here: str = ""

    @property
    def tried(self) -> int:
        """How many tries there were."""
        return self.outcomes.total()

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost or silently wrong."""
        return not (self.outcomes[LOST] or self.outcomes[WRONG])

    def cells(self) -> list[object]:
        """Return tried, survived, of these refused with an error, lost, silently wrong."""
        right, told = self.outcomes[RIGHT], self.outcomes[TOLD]
        return [self.tried, right + told, told, self.outcomes[LOST], self.outcomes[WRONG]]


class Chance(Random):
    """What a try draws its fault from.

    Attributes
    ----------
    number : int
        Of the try.
    """

    number = 0


def chance(seed: int, name: str, number: int, draw: int = 0) -> Chance:
    """Return what a try draws its fault from: the same again for the same try."""
    drawn = Chance(f"{seed} {name} {number} {draw}")
    drawn.number = number
    return drawn


def run_case(
    case: Case, seed: int, numbers: range, told: Callable[[str], None] = lambda text: None
) -> Found:
    """Run tries of a case.

    Parameters
    ----------
    case : Case
        Which one.
    seed : int
        All tries draw from this and their number.
    numbers : range
        Which tries.
    told : callable, optional
        Called with what each of them did.
    """
    found, begin = Found(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tensorstate-faults-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "subject").mkdir()
        try:
            with _prepared(case, folder / "subject") as subject:
                for number in numbers:
                    _try(case, subject, folder, seed, number, found, told)
        except NotHereError as error:
            found.not_here = str(error)
    found.seconds = time.perf_counter() - begin
    return found


@contextmanager
def _prepared(case: Case, folder: Path) -> Iterator[Any]:
    subject = case.prepare(folder)
    try:
        yield subject
    finally:
        if hasattr(subject, "close"):
            subject.close()


def _try(
    case: Case,
    subject: Any,
    folder: Path,
    seed: int,
    number: int,
    found: Found,
    told: Callable[[str], None],
) -> None:
    for draw in range(_DRAWS):
        done = "nothing"
        with tempfile.TemporaryDirectory(dir=folder) as place:
            try:
                done = case.injure(subject, Path(place), chance(seed, case.name, number, draw))
                outcome, text = case.check(subject, Path(place)), ""
            except NotInjuredError:
                continue
            except WrongError as error:
                outcome, text = WRONG, str(error)
            except NotHereError:
                raise
            except Exception as error:
                outcome = LOST
                is_known = isinstance(error, LostError)
                text = str(error) if is_known else "".join(traceback.format_exception(error))
        break
    else:
        outcome, text = LOST, f"nothing could be injured in {_DRAWS} draws"
    found.outcomes[outcome] += 1
    told(f"{case.name} {number}: {done}: {outcome}")
    if outcome in (LOST, WRONG):
        found.errors.append(
            f"{case.name}, --seed {seed} --only {number}: {done}: {outcome}: {text}"
        )


def check_counts(layer: Any, rows: npt.NDArray[np.uint8], where: str) -> None:
    """Raise `WrongError` unless the counts of a layer are those of its rows, counted by hand."""
    states, counts = np.unique(rows, axis=0, return_counts=True)
    expected = {state.tobytes(): int(n) for state, n in zip(states, counts, strict=True)}
    found = dict(zip(layer.state_ids(), layer.counts().tolist(), strict=True))
    if found != expected:
        raise WrongError(f"{where}: {len(found)} states are counted, and {len(expected)} are there")
