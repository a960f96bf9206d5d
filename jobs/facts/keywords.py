"""The shifts of keywords by filtering and weighing."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

_KEYWORDS = 120


@dataclass(frozen=True)
class KeywordShifts:
    """Rows of the table keyword_shift; in each kind the most frequent words come first.

    Attributes:
        watched: Words of the keyword lists.
        movers: Words on no list that filtering moved significantly.
        looks: Number of words that were tested to find the movers; None for tables of earlier versions.
    """

    watched: tuple[Row, ...]
    movers: tuple[Row, ...]
    looks: int | None

    @property
    def every(self) -> tuple[Row, ...]:
        """The watched words, then the movers."""
        return (*self.watched, *self.movers)


def keywords(shifts: DataFrame) -> KeywordShifts:
    """Returns the most frequent words of each kind.

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
