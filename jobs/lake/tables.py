"""Every table of the lake: its name, its schema and who makes it."""

from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import types as T


@dataclass(frozen=True)
class Table:
    """A Delta table of the lake.

    Attributes:
        name: Folder of the table below the lake.
        schema: Columns in order, with types; more columns may be added by later versions, none taken away.
        maker: The command that writes it.
        partition: Columns by whose values its files are kept apart.
        later: Columns that a table of 0.1.0 may lack, since it gained them after its first version.
    """

    name: str
    schema: T.StructType
    maker: str
    partition: tuple[str, ...] = ()
    later: frozenset[str] = frozenset()

    def lacks(self, columns: Iterable[str]) -> list[str]:
        """Columns that every table of this name has and these are without; none if the table can be Winnow's.

        Args:
            columns: Names of the columns that a table has; Spark ignores their case, and so does this.

        Examples:
            >>> DEDUP_DISTANCES.lacks(["Distance", "found_pairs", "mine"])
            ['exhaustive_pairs']
        """
        there = {name.lower() for name in columns}
        return [name for name in self.schema.names if name not in there and name not in self.later]


# Spark parses DDL only once a session runs; a table's schema is known before.
_TYPES: dict[str, T.DataType] = {
    "string": T.StringType(),
    "binary": T.BinaryType(),
    "boolean": T.BooleanType(),
    "int": T.IntegerType(),
    "long": T.LongType(),
    "float": T.FloatType(),
    "double": T.DoubleType(),
    "timestamp": T.TimestampType(),
    "array<string>": T.ArrayType(T.StringType()),
    "array<float>": T.ArrayType(T.FloatType()),
}


def _table(name: str, maker: str, columns: str, partition: tuple[str, ...] = (), later: str = "") -> Table:
    fields = (column.split() for column in columns.split(", "))
    schema = T.StructType([T.StructField(name, _TYPES[kind]) for name, kind in fields])
    return Table(name, schema, maker, partition, frozenset(later.split()))


IMAGES = _table(
    "images",
    "ingest",
    "image_id string, key string, source string, caption string, image binary, width int, height int, "
    "format string, meta string, part int",
    partition=("part",),
    later="part",
)
QUARANTINE = _table(
    "quarantine",
    "ingest",
    "source string, key string, stage string, reason string, detail string, image_id string",
    later="image_id",
)
SOURCES = _table(
    "sources",
    "ingest",
    "source string, rows_read long, images long, repeats long, quarantined long, ingested_at timestamp, "
    "format string, fingerprint string, run string",
    later="format fingerprint run",
)
SIGNALS = _table(
    "signals",
    "score",
    "image_id string, pdq binary, pdq_quality int, encoder string, embedding array<float>, embedding_hash binary, "
    "content string, thumbnail binary",
    later="content thumbnail",
)
SCORES = _table("scores", "score", "image_id string, category string, model string, score float")
LABELS = _table(
    "labels",
    "label",
    "image_id string, category string, label boolean, origin string, annotator string, labelled_at timestamp",
)
LABEL_FAULTS = _table(
    "label_faults",
    "label",
    "file string, key string, image_id string, category string, label string, origin string, annotator string, "
    "labelled_at string, reason string",
)
LABEL_QUEUE = _table(
    "label_queue",
    "label next",
    "image_id string, category string, strategy string, reason string, place int, batch string, queued_at timestamp",
)
UNSURE = _table(
    "unsure",
    "label serve",
    "image_id string, category string, origin string, annotator string, answered_at timestamp",
)
THRESHOLDS = _table(
    "thresholds",
    "calibrate",
    "category string, model string, threshold double, recall_lower double, confidence double, positives int, "
    "negatives int, missed int, dropped_negatives int",
)
VERDICTS = _table("verdicts", "filter", "image_id string, kept boolean, reasons array<string>")
PAIRS = _table("pairs", "dedup", "a_id string, b_id string, distance int, method string")
DUPLICATES = _table("duplicates", "dedup", "removed_id string, kept_id string, distance int, method string")
FILTERED_DUPLICATES = _table(
    "filtered_duplicates", "dedup", "removed_id string, kept_id string, distance int, method string"
)
DEDUP_QUALITY = _table(
    "dedup_quality",
    "dedup",
    "method string, max_distance int, sampled long, exhaustive_pairs long, found_pairs long, recall double, "
    "recall_low double, recall_high double, distinct_hashes long, bands int, band_rows int, "
    "compared long, skipped long, clusterings int, clusters int, whole boolean, told_apart long, "
    "both_kept long",
    later="compared skipped clusterings clusters whole told_apart both_kept",
)
"""One row for the whole search (`whole`), and before it, where clusters are searched, one for the union of the first
1, 2, … clusterings, over the pairs that this run compared."""
DEDUP_DISTANCES = _table("dedup_distances", "dedup", "distance int, exhaustive_pairs long, found_pairs long")
"""Pairs of the sampled hashes with all others, by distance, to some bits above the threshold."""
NEAR_MISSES = _table("near_misses", "dedup", "a_id string, b_id string, distance int")
"""The nearest pairs above the threshold that a sampled hash takes part in and whose both images are kept."""
WEIGHTS = _table("weights", "weigh", "image_id string, weight double")
WEIGHT_QUALITY = _table(
    "weight_quality",
    "weigh",
    "kept long, reference long, effective_sample_size double, clipped long, max_weight double, probe_auc double, "
    "calibration_error double, beyond_reach double, features array<string>",
)
RELIABILITY = _table("reliability", "weigh", "low double, high double, images long, predicted double, observed double")
BEYOND_REACH = _table("beyond_reach", "weigh", "image_id string, nearest_id string, similarity double")
CURATED = _table(
    "curated",
    "weigh",
    "image_id string, weight double, key string, source string, caption string, image binary, width int, "
    "height int, format string, meta string",
)
KEYWORD_SHIFT = _table(
    "keyword_shift",
    "audit",
    "keyword string, unfiltered double, filtered double, weighted double, shift double, shift_low double, "
    "shift_high double, weighted_shift double, weighted_low double, weighted_high double, captions long, "
    "topic string, mover boolean, adjusted double, looks long",
    later="topic mover adjusted looks",
)
REGURGITATION = _table(
    "regurgitation",
    "regurgitation",
    "generated_key string, image_id string, distance int, similarity float, rank int, copy boolean, "
    "nearest_by string, generated_source string, prompt_id string, likeness float",
    later="likeness",
)
REGURGITATION_PAIRS = _table(
    "regurgitation_pairs",
    "regurgitation",
    "place int, generated_key string, generated_source string, generated_caption string, thumbnail binary, "
    "image_id string, key string, fate string, distance int, similarity float, copy boolean, prompt_id string, "
    "likeness float",
)
REGURGITATION_FAULTS = _table(
    "regurgitation_faults", "regurgitation", "source string, key string, stage string, reason string, detail string"
)

ALL = (
    IMAGES, QUARANTINE, SOURCES, SIGNALS, SCORES, LABELS, LABEL_FAULTS, LABEL_QUEUE, UNSURE, THRESHOLDS, VERDICTS,
    PAIRS, DUPLICATES, FILTERED_DUPLICATES, DEDUP_QUALITY, DEDUP_DISTANCES, NEAR_MISSES, WEIGHTS, WEIGHT_QUALITY,
    RELIABILITY, BEYOND_REACH, CURATED, KEYWORD_SHIFT, REGURGITATION, REGURGITATION_PAIRS, REGURGITATION_FAULTS,
)  # fmt: skip
