"""Runs a model on rows so that a row on which it fails costs only that row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError

FAILED, NOT_A_NUMBER, OUT_OF_RANGE = "classifier failed", "score is not a number", "score is outside 0 to 1"
"""The reasons in the table quarantine why a classifier has no score for an image."""

Run = Callable[[NDArray[Any]], list[NDArray[Any]]]
"""A function from rows to outputs with one result for each row. A result must not depend on the other rows."""


@dataclass(frozen=True)
class RowFault:
    """The reason why a model has no result for a row.

    Attributes:
        reason: A fixed phrase, such as `classifier failed`.
        detail: What was found, in one line.
    """

    reason: str
    detail: str


@dataclass(frozen=True, eq=False)
class Answers:
    """The outputs of a model for the rows on which it ran.

    Attributes:
        outputs: One array for each output, with one result for each row that is not in `errors`, in the order of the
            rows. Empty if there is no such row.
        answered: bool of shape (n,): the rows with a result.
        errors: First line of the error, by row.
    """

    outputs: list[NDArray[Any]]
    answered: NDArray[np.bool_]
    errors: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of n images by some models.

    Attributes:
        scores: float32 of shape (n, models), in [0, 1]; NaN where there is a fault.
        faults: Why there is no score, by image and model, both counted from 0.
    """

    scores: NDArray[np.float32]
    faults: Mapping[tuple[int, int], RowFault]


def run_rows(run: Run, rows: NDArray[Any], sound: NDArray[Any]) -> Answers:
    """Runs a model on rows. If it raises an error, this halves the rows until it has the ones that cause it.

    Args:
        run: Runs the model.
        rows: The n rows.
        sound: Rows on which the model can run. After an error, it runs on them again: if it fails, the fault is that of
            the model or of the device, not of the row.

    Raises:
        ModelError: The model fails on `sound` too; or `run` raises it, as for outputs of a wrong shape.

    Examples:
        >>> def run(rows):
        ...     if 3 in rows:
        ...         raise ValueError("three")
        ...     return [10 * rows]
        >>> found = run_rows(run, np.arange(5), np.zeros(1))
        >>> found.outputs[0].tolist(), found.answered.tolist(), found.errors
        ([0, 10, 20, 40], [True, True, True, False, True], {3: 'three'})
    """
    parts: list[list[NDArray[Any]]] = []
    errors: dict[int, str] = {}
    waiting = [(0, len(rows))]
    while waiting:
        begin, end = waiting.pop()
        if begin == end:
            continue
        try:
            parts.append(run(rows[begin:end]))
        except ModelError:
            raise
        except Exception as error:
            if end - begin > 1:
                middle = (begin + end) // 2
                waiting += [(middle, end), (begin, middle)]
            else:
                _require_sound(run, sound, error)
                errors[begin] = first_line(error)
    answered = np.array([row not in errors for row in range(len(rows))], np.bool_)
    return Answers([np.concatenate(column) for column in zip(*parts, strict=True)], answered, errors)


def scored(scores: NDArray[np.float32], errors: Mapping[int, str]) -> Scored:
    """Returns scores without those that are none, and why.

    Args:
        scores: float32 of shape (n, models), NaN in the rows of `errors`.
        errors: First line of the error, by row.

    Examples:
        >>> found = scored(np.array([[0.5, 2.0], [np.nan, np.nan]], np.float32), {1: "bad shape"})
        >>> found.scores.tolist(), [fault.reason for fault in found.faults.values()]
        ([[0.5, nan], [nan, nan]], ['score is outside 0 to 1', 'classifier failed', 'classifier failed'])
    """
    good = is_score(scores)
    faults = {(row, place): _fault(scores[row, place], errors.get(row)) for row, place in np.argwhere(~good).tolist()}
    return Scored(np.where(good, scores, np.float32(np.nan)), faults)


def is_score(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns which numbers are scores: from 0 to 1, and not NaN."""
    return (scores >= 0) & (scores <= 1)


def first_line(error: Exception) -> str:
    r"""Returns the first line of an error's message, or its type if it has none.

    Examples:
        >>> first_line(ValueError("bad shape\nat node 3")), first_line(MemoryError())
        ('bad shape', 'MemoryError')
    """
    return next(iter(str(error).splitlines()), type(error).__name__)


def _fault(score: np.float32, error: str | None) -> RowFault:
    if error is not None:
        return RowFault(FAILED, error)
    return RowFault(NOT_A_NUMBER if np.isnan(score) else OUT_OF_RANGE, f"it returned {score:g}")


def _require_sound(run: Run, sound: NDArray[Any], first: Exception) -> None:
    try:
        run(sound)
    except Exception as error:
        raise ModelError(
            f"it failed on an image ({first_line(first)}) and then on a test image on which it ran before: "
            f"{first_line(error)}"
        ) from error
