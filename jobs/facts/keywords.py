"""How filtering and weighing moved the words of captions."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

_KEYWORDS = 120


@dataclass(frozen=True)
class KeywordShifts:
    """Rows of the table keyword_shift, each kind with its most frequent words first.

    Attributes:
        watched: Words that somebody listed.
        movers: Words that nobody listed and that filtering moved beyond doubt.
        looks: Words among which the movers were found; None where the table does not say.
    """

    watched: tuple[Row, ...]
    movers: tuple[Row, ...]
    looks: int | None

    @property
    def every(self) -> tuple[Row, ...]:
        """The watched words, then the movers."""
        return (*self.watched, *self.movers)


def keywords(shifts: DataFrame) -> KeywordShifts:
    """The most frequent words of each kind.

    Args:
        shifts: The table keyword_shift.
    """
    mover = F.coalesce("mover", F.lit(False))
    kinds = [
        tuple(shifts.where(kind).orderBy(F.desc_nulls_last("captions"), "keyword").limit(_KEYWORDS).collect())
        for kind in (~mover, mover)
    ]
    looks = next((row.looks for rows in kinds for row in rows if row.looks), None)
    return KeywordShifts(kinds[0], kinds[1], looks)
