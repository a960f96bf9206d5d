"""The tables of the label page: it reads the queue, and reads and writes labels and unsure answers."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.commands.label.page.assignment_queue import RANDOM, Queued
from jobs.commands.label.page.journal import Decision, LabelBatch
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe, Version

# People label thousands of images. A longer queue is served in parts: the first unlabelled images now, the rest at the
# next start.
MOST_QUEUED = 20_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The columns that identify a decision; the last one of each table is its time.
_IDENTITY = {"image_id", "a_id", "b_id", "category", "annotator", "labelled_at", "answered_at"}
_DECISION = "image_id string, category string, answer string, origin string, annotator string, at long"


def queue(rows: DataFrame, labels: DataFrame, category: str) -> DataFrame:
    """Returns the images queued for a category, each once; unlabelled ones first if there are more than `MOST_QUEUED`.

    If several strategies picked an image and `random` is among them, its origin is `random`: only random labels can
    calibrate.

    Args:
        rows: Table label_queue.
        labels: Table labels.
        category: Name of the category.

    Returns:
        image_id, origin, reason, turn int (1 for the image that was queued first).
    """
    own = rows.where(F.col("category") == category)
    order = ("queued_at", "batch", "place")
    first = Window.partitionBy("image_id").orderBy(F.col("strategy") != RANDOM, *order)
    once = own.withColumn("rank", F.row_number().over(first)).where(F.col("rank") == 1)
    labelled = labels.where(F.col("category") == category).select("image_id").distinct()
    marked = once.join(labelled.withColumn("labelled", F.lit(True)), "image_id", "left")
    chosen = marked.orderBy(F.col("labelled").isNotNull(), *order, "image_id").limit(MOST_QUEUED)
    # A window without partitions: at most `MOST_QUEUED` rows are left.
    turn = F.row_number().over(Window.orderBy(*order, "image_id")).alias("turn")
    return chosen.select("image_id", F.col("strategy").alias("origin"), "reason", turn)


def answers(labels: DataFrame, unsure: DataFrame, category: str) -> DataFrame:
    """Returns labels and unsure answers with the same columns.

    Args:
        labels: Table labels.
        unsure: Table unsure.
        category: Name of the category.

    Returns:
        image_id, category, answer string, origin, annotator (empty if it is not known), at long (microseconds since
        1970 in UTC).
    """

    def form(rows: DataFrame, answer: str, time: str) -> DataFrame:
        return rows.where(F.col("category") == category).select(
            *("image_id", "category", F.expr(answer).alias("answer"), "origin"),
            F.coalesce("annotator", F.lit("")).alias("annotator"),
            F.coalesce(F.unix_micros(time), F.lit(0)).alias("at"),
        )

    firm = form(labels, "if(label, 'yes', 'no')", "labelled_at")
    return firm.unionByName(form(unsure, "'unsure'", "answered_at"))


def since_1970(microseconds: int) -> datetime:
    """Returns a time in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


class Store:
    """Reads and writes the tables of the lake for the page of one category.

    Args:
        job: The running command.
        category: Name of the category.
    """

    _queue = tables.LABEL_QUEUE

    def __init__(self, job: Job, category: str) -> None:
        self._lake = job.lake
        self._category = category
        self._read_at: dict[str, Version | None] = {}

    def changed(self) -> bool:
        """Returns whether the queue changed since `queue` read it."""
        return self._lake.snapshot().inputs(self._queue) != self._read_at

    def queue(self) -> list[Queued]:
        """Returns the queued images; at most `MOST_QUEUED`."""
        self._read_at = self._lake.snapshot().inputs(self._queue)
        rows = queue(self._lake.read(tables.LABEL_QUEUE), self._lake.read(tables.LABELS), self._category)
        return [Queued(row.image_id, row.origin, row.reason or "") for row in rows.orderBy("turn").collect()]

    def decisions(self, queued: Iterable[Queued]) -> list[Decision]:
        """Returns earlier decisions on queued images."""
        known = self._answers().join(F.broadcast(self._ids(queued)), "image_id", "left_semi")
        return [
            Decision(r.image_id, r.category, r.answer, r.origin or "import", r.annotator, since_1970(r.at))
            for r in known.collect()
        ]

    def other_labels(self, queued: Iterable[Queued]) -> dict[str, tuple[int, int]]:
        """Counts labelled images that are not queued, by origin: yes, no."""
        labels = self._lake.read(tables.LABELS).where(F.col("category") == self._category)
        others = labels.join(F.broadcast(self._ids(queued)), "image_id", "left_anti")
        newest = F.max_by(F.struct("origin", "label"), "labelled_at")
        each = others.groupBy("image_id").agg(newest.alias("newest")).groupBy("newest.origin")
        counts = each.agg(F.count_if("newest.label").alias("yes"), F.count("*").alias("all"))
        return {row.origin: (row.yes, row["all"] - row.yes) for row in counts.collect()}

    def commit(self, batch: LabelBatch) -> None:
        """Writes a batch of the journal to the tables labels and unsure; skips decisions that they already hold."""
        for table, rows, own in ((tables.LABELS, _labels, _is_label), (tables.UNSURE, _unsure, _is_unsure)):
            undone, made = ([d for d in some if own(d)] for some in (batch.undone, batch.made))
            self._write(table, rows, undone, made)

    def _write(
        self,
        table: tables.Table,
        rows: Callable[[DataFrame], DataFrame],
        undone: Sequence[Decision],
        made: Sequence[Decision],
    ) -> None:
        """Removes undone decisions from a table and adds new ones, of which `rows` makes the rows of the table."""
        recipe = Recipe("label serve", settings={"category": sorted({d.category for d in [*undone, *made]})})
        identity = [name for name in table.schema.names if name in _IDENTITY]
        if undone:
            self._lake.remove(table, rows(_rows(self._lake.spark, undone)).select(*identity), recipe)
        if made:
            # The condition on time skips the files with older decisions only.
            known = self._lake.read(table).where(F.col(identity[-1]) >= F.lit(min(d.at for d in made)))
            fresh = rows(_rows(self._lake.spark, made)).join(known, identity, "left_anti")
            if fresh.head(1):
                self._lake.append(table, fresh.coalesce(1), recipe)

    def _answers(self) -> DataFrame:
        return answers(self._lake.read(tables.LABELS), self._lake.read(tables.UNSURE), self._category)

    def _ids(self, queued: Iterable[Queued]) -> DataFrame:
        return self._lake.spark.createDataFrame([(one.image_id,) for one in queued], "image_id string")


def _rows(spark: SparkSession, decisions: Sequence[Decision]) -> DataFrame:
    values = [
        (d.image_id, d.category, d.answer, d.origin, d.annotator, (d.at - _EPOCH) // _MICROSECOND) for d in decisions
    ]
    return spark.createDataFrame(values, _DECISION)


def _is_label(decision: Decision) -> bool:
    return decision.answer != "unsure"


def _is_unsure(decision: Decision) -> bool:
    return decision.answer == "unsure"


def _labels(rows: DataFrame) -> DataFrame:
    value, at = (F.col("answer") == "yes").alias("label"), F.timestamp_micros("at").alias("labelled_at")
    return rows.select("image_id", "category", value, "origin", "annotator", at)


def _unsure(rows: DataFrame) -> DataFrame:
    return rows.select("image_id", "category", "origin", "annotator", F.timestamp_micros("at").alias("answered_at"))
