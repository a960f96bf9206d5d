"""The pairs of the label page: their queue, their answers, and their images, two for each pair.

Everywhere else on the page, a pair is an image with the id `A-B`, and the answer *same* is a *yes*.
"""

from collections.abc import Iterable
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.commands.label.page.app import Spec
from jobs.commands.label.page.assignment_queue import Queued
from jobs.commands.label.page.images import PageImages
from jobs.commands.label.page.journal import Answer, Decision, LabelBatch
from jobs.commands.label.page.store import MOST_QUEUED, Store, since_1970
from jobs.facts.pairs.sample import DIFFERENT, ENDS, RANDOM, SAME, UNSURE
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime.config import PAIRS, Settings

_BETWEEN = "-"
_ANSWERS: dict[str, Answer] = {SAME: "yes", DIFFERENT: "no", UNSURE: "unsure"}
_MIRRORED = "Mirror images."
_VARIANT = "Variants of one drawing that differ in a small detail."


def pair_spec(lake: str, refill: str, settings: Settings) -> Spec:
    """Returns what the page says of pairs: what `dedup` must call the same image with these settings.

    Args:
        lake: Id of the lake.
        refill: The command that queues more pairs.
        settings: Whether a differing detail separates two images, and whether images are blurred: if the settings
            define a category.
    """
    same = ["Cropped, resized, compressed again, brighter, darker or grey.", "With text, a logo or a border added."]
    different = [
        "Two photographs of the same subject, place or event.",
        "Only the layout is the same.",
    ]
    (different if settings.dedup.strict else same).append(_VARIANT)
    (same if settings.dedup.mirrored else different).append(_MIRRORED)
    return Spec(
        lake,
        PAIRS,
        "Is one image a copy of the other, or are both copies of a third one?",
        tuple(same),
        tuple(different),
        refill,
        title="The same image?",
        pairs=True,
        veiled=bool(settings.categories),
    )


def pair_id(a_id: str, b_id: str) -> str:
    """Returns the id of a pair.

    Examples:
        >>> pair_id("0a", "1b"), ends_of("0a-1b")
        ('0a-1b', ('0a', '1b'))
    """
    return f"{a_id}{_BETWEEN}{b_id}"


def ends_of(pair: str) -> tuple[str, ...]:
    """Returns the ids of the images of a pair, or the id of an image alone."""
    return tuple(pair.split(_BETWEEN))


def queue(rows: DataFrame, labels: DataFrame) -> DataFrame:
    """Returns the queued pairs, each once; unlabelled ones first if there are more than `MOST_QUEUED`.

    If both strategies picked a pair, it is a random one.

    Args:
        rows: Table pair_queue.
        labels: Table pair_labels.

    Returns:
        a_id, b_id, origin, reason, turn int (1 for the pair that was queued first).
    """
    order = ("queued_at", "batch", "place")
    first = Window.partitionBy(*ENDS).orderBy(F.col("strategy") != RANDOM, *order)
    once = rows.withColumn("rank", F.row_number().over(first)).where(F.col("rank") == 1)
    labelled = labels.select(*ENDS).distinct().withColumn("labelled", F.lit(True))
    marked = once.join(labelled, ENDS, "left")
    chosen = marked.orderBy(F.col("labelled").isNotNull(), *order, *ENDS).limit(MOST_QUEUED)
    # A window without partitions: at most `MOST_QUEUED` rows are left.
    turn = F.row_number().over(Window.orderBy(*order, *ENDS)).alias("turn")
    return chosen.select(*ENDS, F.col("strategy").alias("origin"), "reason", turn)


class PairStore(Store):
    """Reads and writes the tables of the lake for the page of pairs.

    Args:
        job: The running command.
    """

    _queue = tables.PAIR_QUEUE

    def __init__(self, job: Job) -> None:
        super().__init__(job, PAIRS)

    def queue(self) -> list[Queued]:
        """Returns the queued pairs; at most `MOST_QUEUED`."""
        self._read_at = self._lake.snapshot().inputs(self._queue)
        rows = queue(self._lake.read(self._queue), self._lake.read(tables.PAIR_LABELS)).orderBy("turn").collect()
        return [Queued(pair_id(row.a_id, row.b_id), row.origin, row.reason or "") for row in rows]

    def decisions(self, queued: Iterable[Queued]) -> list[Decision]:
        """Returns earlier answers to queued pairs. They count whatever strategy had picked the pair."""
        origins = {one.image_id: one.origin for one in queued}
        at = F.unix_micros("labelled_at").alias("at")
        rows = self._of_queued(origins, "left_semi").select(*ENDS, "answer", "annotator", at).collect()
        return [
            Decision(pair, PAIRS, _ANSWERS[row.answer], origins[pair], row.annotator, since_1970(row.at))
            for row in rows
            for pair in [pair_id(row.a_id, row.b_id)]
        ]

    def other_labels(self, queued: Iterable[Queued]) -> dict[str, tuple[int, int]]:
        """Counts labelled pairs that are not queued, by origin: same, different. Only other programs write such."""
        return {}

    def commit(self, batch: LabelBatch) -> None:
        """Writes a batch of the journal to the table pair_labels; skips answers that it already holds."""
        self._write(tables.PAIR_LABELS, _labels, batch.undone, batch.made)

    def _of_queued(self, pairs: Iterable[str], how: str) -> DataFrame:
        few = self._lake.spark.createDataFrame([ends_of(pair) for pair in pairs], "a_id string, b_id string")
        return self._lake.read(tables.PAIR_LABELS).join(F.broadcast(few), ENDS, how)


def _labels(rows: DataFrame) -> DataFrame:
    ends = F.split("image_id", _BETWEEN)
    said = F.lit(None)
    for ours, theirs in _ANSWERS.items():
        said = F.when(F.col("answer") == theirs, ours).otherwise(said)
    return rows.select(
        ends[0].alias("a_id"),
        ends[1].alias("b_id"),
        said.alias("answer"),
        "origin",
        "annotator",
        F.timestamp_micros("at").alias("labelled_at"),
    )


class PairImages(PageImages):
    """The images of the pairs that people will see next. A pair can be shown once both are read."""

    def has(self, image_id: str) -> bool:
        """Returns whether a pair, or an image, can be shown at once."""
        return all(super(PairImages, self).has(end) for end in ends_of(image_id))

    def facts(self, image_id: str) -> dict[str, Any]:
        """Returns what the page says of a queued pair: its two images."""
        return {"images": [{"image_id": end, **super(PairImages, self).facts(end)} for end in ends_of(image_id)]}

    def locate(self, image_ids: Iterable[str]) -> list[str]:
        """Finds the files in which the images of pairs are, and returns the pairs with an image not in the lake."""
        pairs = list(image_ids)
        super().locate(_ends(pairs))
        return [pair for pair in pairs if not all(map(self.located, ends_of(pair)))]

    def fetch(self, image_ids: Iterable[str]) -> list[str]:
        """Reads the images of pairs, and returns the pairs that cannot be shown."""
        pairs = list(image_ids)
        lost = set(super().fetch(end for end in _ends(pairs) if not super(PairImages, self).has(end)))
        return [pair for pair in pairs if lost & set(ends_of(pair))]

    def keep(self, image_ids: Iterable[str]) -> None:
        """Drops all images except those of these pairs and the others that were read last."""
        super().keep(_ends(image_ids))


def _ends(pairs: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(end for pair in pairs for end in ends_of(pair)))
