"""`weigh`: importance weights that give back the balance which filtering took, and the curated set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType
from scipy import sparse

from jobs import tables
from jobs.config import WeighSettings, fingerprint
from jobs.job import Job, Summary
from jobs.lake import Recipe
from jobs.score import current_encoder
from models import probe
from models.errors import LostRowsError, WinnowError
from models.probe import Probe, ProbeQuality
from udfs.bootstrap import WEIGHT_UNIT
from udfs.captions import caption_words

_LEAST_CAPTIONS = 50
_REACH_SAMPLE = 4000


@dataclass(frozen=True)
class Features:
    """What the probe sees of an image, in this order: the words of its caption, then its embedding.

    Attributes:
        words: Words whose presence is a feature.
        dims: Length of the embedding; 0 where it is not used.
    """

    words: tuple[str, ...]
    dims: int

    def matrix(
        self, places: Sequence[NDArray[np.int32]], embeddings: Sequence[NDArray[np.float32]]
    ) -> sparse.csr_matrix:
        """Features of shape (n, words + dims), from each caption's places in `words` and the embeddings."""
        lengths = np.array([len(p) for p in places], dtype=np.int64)
        columns = np.concatenate([np.zeros(0, np.int64), *places]).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        words = sparse.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(places), len(self.words)))
        if not self.dims:
            return words
        stacked = np.concatenate([np.zeros((0, self.dims)), *[np.asarray(e)[None] for e in embeddings]])
        return sparse.hstack([words, sparse.csr_matrix(stacked)], format="csr")


def run(job: Job) -> Summary:
    """Weighs the kept images and writes weights, weight_quality and curated.

    Raises:
        LostRowsError: Images are not the sum of kept, filtered and duplicates.
    """
    lake, settings = job.lake, job.settings.weigh
    images = lake.require(tables.IMAGES)
    lake.require(tables.DUPLICATES)
    inputs = lake.inputs(tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.FILTERED_DUPLICATES, tables.SIGNALS)
    encoder = current_encoder(job)
    recipe = Recipe("weigh", inputs, {**fingerprint(settings), "encoder": encoder.digest, "seed": job.settings.seed})
    before = lake.recipe(tables.CURATED)
    if before is not None and before.makes_the_same(recipe):
        job.progress.note("weigh: up to date")
        return dict(before.result)
    signals = lake.read(tables.SIGNALS).where(F.col("encoder") == encoder.digest)
    with job.progress.step("weigh: gather the unfiltered reference"):
        reference = reference_of(
            images, lake.read(tables.VERDICTS), lake.read(tables.DUPLICATES), lake.read(tables.FILTERED_DUPLICATES)
        )
        rows = with_embedding(reference, signals).persist(StorageLevel.DISK_ONLY)
        counts = rows.agg(F.count("*"), F.count_if("kept")).collect()[0]
    try:
        return _weigh(job, rows, Features((), encoder.dims), (int(counts[0]), int(counts[1])), recipe)
    finally:
        rows.unpersist()


def _weigh(job: Job, rows: DataFrame, features: Features, counts: tuple[int, int], recipe: Recipe) -> Summary:
    lake, settings = job.lake, job.settings.weigh
    total, kept = counts
    if kept == 0:
        raise WinnowError(
            "weigh: no image is kept, so there is nothing to weigh: lower the thresholds and filter again"
        )
    chosen = settings.features if kept < total else []
    words = vocabulary(rows, settings) if "caption" in chosen else ()
    if "caption" in chosen and not words:
        job.progress.warn("weigh: filtering left too little of every caption word, so captions cannot be weighed by")
    features = Features(words, features.dims if "embedding" in chosen else 0)
    with job.progress.step("weigh: fit the probe"):
        probes, quality = _fit(job, rows, features)
        reach = _beyond_reach(rows, job.settings.seed)
    with job.progress.step("weigh: weigh the kept images"):
        raw = raw_weights(rows.where("kept"), features, probes, settings, job.settings.seed).persist(
            StorageLevel.DISK_ONLY
        )
        weights, facts = scaled_weights(raw, kept), _facts(raw, kept, settings)
        lake.replace(tables.WEIGHTS, weights, recipe)
        row = (kept, total, *facts, quality.auc, quality.calibration_error, reach, list(chosen))
        quality_row = lake.spark.createDataFrame([row], tables.WEIGHT_QUALITY.schema)
        lake.replace(tables.WEIGHT_QUALITY, quality_row, recipe)
    summary = _checked_summary(job, kept, facts, reach)
    with job.progress.step("weigh: write the curated set"):
        images = lake.read(tables.IMAGES)
        done = Recipe(recipe.command, recipe.inputs, recipe.settings, summary)
        lake.replace(tables.CURATED, lake.read(tables.WEIGHTS).join(images, "image_id"), done)
    raw.unpersist()
    return summary


# Transforms ---------------------------------------------------------------------------------------------------------


def reference_of(
    images: DataFrame, verdicts: DataFrame, duplicates: DataFrame, filtered_duplicates: DataFrame
) -> DataFrame:
    """The unfiltered data, deduplicated, so that a picture which is there a hundred times counts once.

    Returns:
        image_id, caption, kept (whether it passed the filter).
    """
    gone = duplicates.select("removed_id").unionAll(filtered_duplicates.select("removed_id"))
    left = images.select("image_id", "caption").join(
        gone.withColumnRenamed("removed_id", "image_id"), "image_id", "left_anti"
    )
    judged = left.join(verdicts.select("image_id", "kept"), "image_id", "left")
    return judged.select("image_id", "caption", F.coalesce("kept", F.lit(True)).alias("kept"))


def with_embedding(reference: DataFrame, signals: DataFrame) -> DataFrame:
    """image_id, kept, words (of the caption, each once), embedding (null where there is none)."""
    joined = reference.join(signals.select("image_id", "embedding"), "image_id", "left")
    return joined.select("image_id", "kept", caption_words(F.col("caption")).alias("words"), "embedding")


def vocabulary(rows: DataFrame, settings: WeighSettings) -> tuple[str, ...]:
    """The most frequent caption words that filtering left enough of.

    A word that loses most of its captions names what the filter is there to remove: to weigh by it would ask the few
    that are left to stand for it.
    """
    counted = rows.select(F.explode("words").alias("word"), "kept").groupBy("word")
    counts = counted.agg(F.count("*").alias("captions"), F.count_if("kept").alias("left"))
    enough = (F.col("captions") >= _LEAST_CAPTIONS) & (F.col("left") >= settings.min_support * F.col("captions"))
    top = counts.where(enough).orderBy(F.desc("captions"), "word").limit(settings.words)
    return tuple(row.word for row in top.select("word").collect())


def places_of(words: Column, vocabulary: tuple[str, ...]) -> Column:
    """array<int>: the places in the vocabulary of the words of a caption."""
    pairs = [part for place, word in enumerate(vocabulary) for part in (F.lit(word), F.lit(place))]
    if not pairs:
        return F.array().cast("array<int>")
    lookup = F.create_map(*pairs)
    return F.array_compact(F.transform(words, lambda word: lookup[word]))


def fold_of(seed: int, folds: int) -> Column:
    """The cross-fitting fold of an image, by a hash of its id."""
    return F.pmod(F.xxhash64(F.lit(seed), "image_id"), F.lit(folds)).cast("int")


def raw_weights(
    kept: DataFrame, features: Features, probes: list[Probe], settings: WeighSettings, seed: int
) -> DataFrame:
    """image_id, raw (P(unfiltered | x) / P(filtered | x) by the probe that did not see it, in millionths), clipped."""
    bound = float(np.log(settings.max_weight))

    def weigh(batches: Iterator[tuple[pd.Series, pd.Series, pd.Series]]) -> Iterator[pd.Series]:
        for places, embeddings, fold in batches:
            matrix, odds = features.matrix(list(places), list(embeddings)), np.zeros(len(fold))
            for number, fitted in enumerate(probes):
                mine = (fold == number).to_numpy()
                odds[mine] = fitted.log_odds(matrix[mine])
            yield pd.Series(np.exp(np.minimum(odds, bound + 1.0)), index=fold.index)

    ratio = F.pandas_udf(weigh, DoubleType())(
        places_of(F.col("words"), features.words),
        F.coalesce("embedding", F.array().cast("array<float>")) if features.dims else F.array().cast("array<float>"),
        fold_of(seed, settings.folds),
    )
    limited = kept.select("image_id", ratio.alias("ratio"))
    millionths = F.round(F.least("ratio", F.lit(settings.max_weight)) * WEIGHT_UNIT).cast("long")
    return limited.select("image_id", millionths.alias("raw"), (F.col("ratio") > settings.max_weight).alias("clipped"))


def scaled_weights(raw: DataFrame, kept: int) -> DataFrame:
    """image_id, weight: scaled to mean 1; summed as whole numbers, so that no order of rows shows in a weight."""
    total = raw.agg(F.sum("raw")).collect()[0][0]
    return raw.select("image_id", (F.col("raw").cast("double") * (kept / total)).alias("weight"))


# Parts of the job ---------------------------------------------------------------------------------------------------


def _fit(job: Job, rows: DataFrame, features: Features) -> tuple[list[Probe], ProbeQuality]:
    """Cross-fitted probes; where there is no feature to weigh by, ones that weigh everything alike."""
    settings, seed = job.settings.weigh, job.settings.seed
    if not features.words and not features.dims:
        flat = Probe(np.zeros(len(features.words) + features.dims), 0.0)
        return [flat] * settings.folds, ProbeQuality(0.5, 0.0)
    fold = fold_of(seed, settings.folds).alias("fold")
    shown = rows.select(
        "image_id", "kept", fold, places_of(F.col("words"), features.words).alias("places"),
        F.col("embedding") if features.dims else F.array().cast("array<float>").alias("embedding"),
    )  # fmt: skip
    # Both sides at most `sample` images, whatever the lake's size; an image that was kept is a sample of both.
    order = F.xxhash64(F.lit(seed + 1), "image_id")
    sides = [
        shown.orderBy(order, "image_id").limit(settings.sample),
        shown.where("kept").orderBy(order, "image_id").limit(settings.sample),
    ]
    frames = [side.toPandas() for side in sides]
    both = pd.concat(frames, ignore_index=True)
    unfiltered = np.repeat([True, False], [len(frame) for frame in frames])
    matrix = features.matrix(list(both["places"]), list(both["embedding"]))
    return probe.cross_fit(matrix, unfiltered, both["fold"].to_numpy(), settings.regularisation)


def _beyond_reach(rows: DataFrame, seed: int) -> float:
    """`models.probe.beyond_reach` on bounded samples."""
    order = F.xxhash64(F.lit(seed + 2), "image_id")
    present = rows.where(F.col("embedding").isNotNull())
    sides = [present.where(~F.col("kept")), present.where("kept")]
    removed, kept = (side.orderBy(order, "image_id").limit(_REACH_SAMPLE).select("embedding") for side in sides)
    return probe.beyond_reach(_stacked(removed), _stacked(kept))


def _stacked(embeddings: DataFrame) -> NDArray[np.float32]:
    rows = [row.embedding for row in embeddings.collect()]
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), -1 if rows else 0)


def _facts(raw: DataFrame, kept: int, settings: WeighSettings) -> tuple[float, int, float]:
    """Effective sample size, clipped images and the largest weight."""
    square = F.col("raw").cast("decimal(19,0)") * F.col("raw").cast("decimal(19,0)")
    total, squares, clipped, top = raw.agg(F.sum("raw"), F.sum(square), F.count_if("clipped"), F.max("raw")).collect()[
        0
    ]
    size = probe.effective_sample_size(float(total), float(squares))
    return size, int(clipped), float(top) * kept / float(total)


def _checked_summary(job: Job, kept: int, facts: tuple[float, int, float], reach: float) -> Summary:
    lake = job.lake
    images = lake.read(tables.IMAGES).count()
    filtered = lake.read(tables.VERDICTS).where(~F.col("kept")).count()
    duplicates = lake.read(tables.DUPLICATES).count()
    if images != kept + filtered + duplicates:
        raise LostRowsError(
            f"weigh: {images} images are not {kept} kept + {filtered} filtered + {duplicates} duplicates; "
            "run filter, dedup and weigh again"
        )
    size, clipped, top = facts
    if reach > 0:
        job.progress.note(
            f"{reach:.0%} of the filtered images look like nothing that is kept: no weight can bring them back"
        )
    return {
        "images": images, "filtered": filtered, "duplicates": duplicates, "kept": kept,
        "effective sample size": f"{size:.0f} ({size / kept:.1%})", "clipped": clipped, "largest weight": round(top, 3),
    }  # fmt: skip
