"""A view of the images in the index, and its SQL."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from jobs.commands.browse import condition

NEAREST = "near the threshold"
SORTS = {
    "id": "image.image_id",
    "group": "coalesce(image.kept_id, image.image_id), image.state desc, image.distance",
    "weight, heaviest": "image.weight desc",
    "weight, lightest": "image.weight",
    "pixels, most": "image.width * image.height desc",
    "pixels, fewest": "image.width * image.height",
    "sharpest": "image.sharpness desc",
    "softest": "image.sharpness",
    "noisiest": "image.noise desc",
    "distance, farthest": "image.distance desc",
    "score, highest": "score.score desc",
    "score, lowest": "score.score",
    NEAREST: "abs(score.score - :threshold)",
}
"""Orders of a view, and their SQL."""

SCORED = ("score, highest", "score, lowest", NEAREST)
"""The orders that need a category."""

_AROUND = """
select * from (select * from score where category = :category and score >= :threshold and score <= :high
               order by score limit :nearest)
union all
select * from (select * from score where category = :category and score < :threshold and score >= :low
               order by score desc limit :nearest)"""


def _known(sort: str) -> str:
    if sort not in SORTS:
        raise ValueError(f"there is no order {sort!r}")
    return sort


Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Alike = Literal["likeness", "copies"]
"""What makes images similar: what they show (the table features), or their perceptual hashes."""


class View(BaseModel):
    """What a page shows of the images.

    Attributes:
        state: `kept`, `filtered`, `duplicate` or `undecided`; None for all.
        reason: Only images with this reason; None for any.
        words: Only images whose caption or key has these words; empty for any.
        where: Only images for which this condition holds (`jobs.commands.browse.condition`); empty for any.
        category: Category whose scores are shown and sorted by; None without.
        low: Smallest score.
        high: Largest score.
        threshold: The score that "near the threshold" means.
        keeper: Only the group of this image; None for any.
        groups: Only images that are in a group: removed duplicates, and those that stay in their place.
        pending: Only images with a decision that `filter` does not know yet.
        queued: Only images that are queued for labelling.
        like: Sorted by their similarity to this image: an id, or the name of a file that was dropped in; None for no.
        by: What similarity means.
        sort: A key of `SORTS`; `like` comes before it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: Literal["kept", "filtered", "duplicate", "undecided"] | None = None
    reason: str | None = None
    words: Annotated[str, Field(max_length=500)] = ""
    where: Annotated[str, Field(max_length=condition.MOST_CHARACTERS)] = ""
    category: str | None = None
    low: float = 0.0
    high: float = 1.0
    threshold: float = 0.5
    keeper: Id | None = None
    groups: bool = False
    pending: bool = False
    queued: bool = False
    like: Id | None = None
    by: Alike = "likeness"
    sort: Annotated[str, AfterValidator(_known)] = "id"

    def order(self) -> str:
        """Returns the SQL of its order."""
        return SORTS[self.sort] if self.category or self.sort not in SCORED else SORTS["id"]

    def source(self, categories: Collection[str], nearest: int | None = None) -> tuple[str, dict[str, Any]]:
        """Returns the SQL from `from` to `where`, and its values.

        Args:
            categories: Names of the categories that have scores.
            nearest: How many of the images nearest to the threshold are needed, if the view has this order and no
                other condition: they are then found without a sort of all. None to find all.

        Raises:
            ConditionError: The condition cannot be read.
        """
        joins, conditions = "from image", ["1"]
        values: dict[str, Any] = {"threshold": self.threshold}
        if self.category:
            alone = self == View(
                category=self.category, low=self.low, high=self.high, threshold=self.threshold, sort=NEAREST
            )
            score = f"({_AROUND})" if alone and nearest else "score"
            values["nearest"] = nearest or 0
            joins += f" join {score} as score on score.image_id = image.image_id and score.category = :category"
            conditions.append("score.score between :low and :high")
            values |= {"category": self.category, "low": self.low, "high": self.high}
        wanted = words_query(self.words)
        if wanted:
            joins += " join words on words.rowid = image.rowid"
            conditions.append("words match :words")
            values["words"] = wanted
        if self.where.strip():
            sql, given = condition.sql_of(self.where, categories)
            conditions.append(sql)
            values |= given
        if self.state:
            conditions.append("image.state = :state")
            values["state"] = self.state
        if self.reason:
            whole = "char(10) || replace(image.reasons, ': ', char(10)) || char(10)"
            conditions.append(f"instr({whole}, char(10) || :reason || char(10)) > 0")
            values["reason"] = self.reason
        if self.keeper:
            conditions.append("(image.kept_id = :keeper or image.image_id = :keeper)")
            values["keeper"] = self.keeper
        if self.groups:
            conditions.append("(image.kept_id is not null or image.image_id in (select kept_id from image))")
        if self.pending:
            conditions.append("image.decision like 'pending %'")
        if self.queued:
            conditions.append("image.image_id in (select image_id from queued)")
        return f"{joins} where {' and '.join(conditions)}", values


def words_query(text: str) -> str:
    """Returns an FTS5 query for images that have all words; every word is literal.

    Examples:
        >>> print(words_query('red AND sho*'))
        "red" "AND" "sho*"
    """
    text = "".join(one if one.isprintable() else " " for one in text)
    return " ".join('"' + word.replace('"', '""') + '"' for word in text.split())
