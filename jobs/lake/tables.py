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
        meaning: What its rows are, in a few words.
        partition: Columns by whose values its files are kept apart.
        later: Columns that a table of 0.1.0 may lack, since it gained them after its first version.
    """

    name: str
    schema: T.StructType
    maker: str
    meaning: str
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


def _table(
    name: str, maker: str, meaning: str, columns: str, partition: tuple[str, ...] = (), later: str = ""
) -> Table:
    fields = (column.split() for column in columns.split(", "))
    schema = T.StructType([T.StructField(name, _TYPES[kind]) for name, kind in fields])
    return Table(name, schema, maker, meaning, partition, frozenset(later.split()))


IMAGES = _table(
    "images",
    "ingest",
    "every image that was read, with its caption",
    "image_id string, key string, source string, caption string, image binary, width int, height int, "
    "format string, meta string, part int",
    partition=("part",),
    later="part",
)
QUARANTINE = _table(
    "quarantine",
    "ingest",
    "rows and files that could not be read, with the reason",
    "source string, key string, stage string, reason string, detail string, image_id string",
    later="image_id",
)
SOURCES = _table(
    "sources",
    "ingest",
    "how many rows each source had, and what became of them",
    "source string, rows_read long, images long, repeats long, quarantined long, ingested_at timestamp, "
    "format string, fingerprint string, run string",
    later="format fingerprint run",
)
SIGNALS = _table(
    "signals",
    "score",
    "perceptual hashes and embedding of each image",
    "image_id string, pdq binary, pdq_quality int, encoder string, embedding array<float>, embedding_hash binary, "
    "content string, thumbnail binary",
    later="content thumbnail",
)
SCORES = _table(
    "scores",
    "score",
    "the score of each image by the classifier of each category",
    "image_id string, category string, model string, score float",
)
LABELS = _table(
    "labels",
    "label",
    "what people say of an image: in a category or not",
    "image_id string, category string, label boolean, origin string, annotator string, labelled_at timestamp",
)
LABEL_FAULTS = _table(
    "label_faults",
    "label",
    "labels that could not be used, with the reason",
    "file string, key string, image_id string, category string, label string, origin string, annotator string, "
    "labelled_at string, reason string",
)
LABEL_QUEUE = _table(
    "label_queue",
    "label next",
    "images to label next, with the reason",
    "image_id string, category string, strategy string, reason string, place int, batch string, queued_at timestamp",
)
UNSURE = _table(
    "unsure",
    "label serve",
    "images that someone looked at and could not label",
    "image_id string, category string, origin string, annotator string, answered_at timestamp",
)
THRESHOLDS = _table(
    "thresholds",
    "calibrate",
    "the threshold of each category, with a lower bound on its recall",
    "category string, model string, threshold double, recall_lower double, confidence double, positives int, "
    "negatives int, missed int, dropped_negatives int",
)
VERDICTS = _table(
    "verdicts",
    "filter",
    "for each image whether the filter keeps it, with the reasons if not",
    "image_id string, kept boolean, reasons array<string>",
)
PAIRS = _table(
    "pairs",
    "dedup",
    "near-duplicates that the search found, with their distance",
    "a_id string, b_id string, distance int, method string",
)
DUPLICATES = _table(
    "duplicates",
    "dedup",
    "images removed as near-duplicates, each with the image that is kept",
    "removed_id string, kept_id string, distance int, method string",
)
FILTERED_DUPLICATES = _table(
    "filtered_duplicates",
    "dedup",
    "filtered images that are near-duplicates, each with the image that it repeats",
    "removed_id string, kept_id string, distance int, method string",
)
DEDUP_QUALITY = _table(
    "dedup_quality",
    "dedup",
    "the recall of the search for near-duplicates, as it was measured",
    "method string, max_distance int, sampled long, exhaustive_pairs long, found_pairs long, recall double, "
    "recall_low double, recall_high double, distinct_hashes long, bands int, band_rows int, "
    "compared long, skipped long, clusterings int, clusters int, whole boolean, told_apart long, "
    "both_kept long",
    later="compared skipped clusterings clusters whole told_apart both_kept",
)
"""One row for the whole search (`whole`), and before it, where clusters are searched, one for the union of the first
1, 2, … clusterings, over the pairs that this run compared."""
DEDUP_DISTANCES = _table(
    "dedup_distances",
    "dedup",
    "pairs of the sampled hashes by distance, and how many the search found",
    "distance int, exhaustive_pairs long, found_pairs long",
)
"""Pairs of the sampled hashes with all others, by distance, to some bits above the threshold."""
NEAR_MISSES = _table(
    "near_misses",
    "dedup",
    "the nearest pairs of kept images above the threshold",
    "a_id string, b_id string, distance int",
)
"""The nearest pairs above the threshold that a sampled hash takes part in and whose both images are kept."""
WEIGHTS = _table("weights", "weigh", "the importance weight of each kept image", "image_id string, weight double")
WEIGHT_QUALITY = _table(
    "weight_quality",
    "weigh",
    "effective sample size and calibration of the weights",
    "kept long, reference long, effective_sample_size double, clipped long, max_weight double, probe_auc double, "
    "calibration_error double, beyond_reach double, features array<string>",
)
RELIABILITY = _table(
    "reliability",
    "weigh",
    "predicted and observed shares, by which the weights are judged",
    "low double, high double, images long, predicted double, observed double",
)
BEYOND_REACH = _table(
    "beyond_reach",
    "weigh",
    "removed images that resemble no kept image, so that no weight makes up for them",
    "image_id string, nearest_id string, similarity double",
)
CURATED = _table(
    "curated",
    "weigh",
    "the training set: what is kept, with its weights",
    "image_id string, weight double, key string, source string, caption string, image binary, width int, "
    "height int, format string, meta string",
)
KEYWORD_SHIFT = _table(
    "keyword_shift",
    "audit",
    "the share of captions with a word before the filter, after it, and weighted",
    "keyword string, unfiltered double, filtered double, weighted double, shift double, shift_low double, "
    "shift_high double, weighted_shift double, weighted_low double, weighted_high double, captions long, "
    "topic string, mover boolean, adjusted double, looks long",
    later="topic mover adjusted looks",
)
REGURGITATION = _table(
    "regurgitation",
    "regurgitation",
    "generated images and their nearest images of the lake",
    "generated_key string, image_id string, distance int, similarity float, rank int, copy boolean, "
    "nearest_by string, generated_source string, prompt_id string, likeness float",
    later="likeness",
)
REGURGITATION_PAIRS = _table(
    "regurgitation_pairs",
    "regurgitation",
    "the pairs that the page of `regurgitation` shows",
    "place int, generated_key string, generated_source string, generated_caption string, thumbnail binary, "
    "image_id string, key string, fate string, distance int, similarity float, copy boolean, prompt_id string, "
    "likeness float",
)
REGURGITATION_FAULTS = _table(
    "regurgitation_faults",
    "regurgitation",
    "generated images that could not be read, with the reason",
    "source string, key string, stage string, reason string, detail string",
)

ALL = (
    IMAGES, QUARANTINE, SOURCES, SIGNALS, SCORES, LABELS, LABEL_FAULTS, LABEL_QUEUE, UNSURE, THRESHOLDS, VERDICTS,
    PAIRS, DUPLICATES, FILTERED_DUPLICATES, DEDUP_QUALITY, DEDUP_DISTANCES, NEAR_MISSES, WEIGHTS, WEIGHT_QUALITY,
    RELIABILITY, BEYOND_REACH, CURATED, KEYWORD_SHIFT, REGURGITATION, REGURGITATION_PAIRS, REGURGITATION_FAULTS,
)  # fmt: skip
