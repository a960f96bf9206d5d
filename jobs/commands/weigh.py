"""`weigh`: importance weights that give back the balance which filtering took, and the curated set."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from jobs.facts import sentences
from jobs.facts import weights as facts
from jobs.facts.reference import reference_of, with_words
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.matching.nearest import nearest_by_embedding
from jobs.models_in_use import current_encoder
from jobs.prerequisites import require_kept, require_verdicts
from jobs.runtime.config import WeighSettings, fingerprint
from models.errors import LostRowsError, WinnowError
from models.stats import probe
from models.stats.probe import Probe, ProbeQuality
from udfs.text.bootstrap import WEIGHT_UNIT
from udfs.text.captions import Keywords

_LEAST_CAPTIONS = 50
_LOST_SHOWN = 48
_SLOTS = 1 << 40

# Raised where other weights would come out than by the version before: what that wrote is made anew.
_REVISION = 3

# In the order in which they are written.
_WRITTEN = (tables.WEIGHTS, tables.WEIGHT_QUALITY, tables.RELIABILITY, tables.BEYOND_REACH, tables.CURATED)


@dataclass(frozen=True)
class Features:
    """What the probe sees of an image, in this order: the words of its caption, then its embedding.

    Attributes:
        words: Words whose presence is a feature.
        dims: Length of the embedding; 0 where it is not used.
        chosen: Their kinds, as the setting `weigh.features` names them.
    """

    words: tuple[str, ...]
    dims: int
    chosen: tuple[str, ...] = ()

    @cached_property
    def keywords(self) -> Keywords:
        """The words, to look for."""
        return Keywords(self.words)

    def matrix(self, words: pa.ListArray, embeddings: pa.ListArray) -> sparse.csr_matrix:
        """Features of shape (n, words + dims), from captions' words and embeddings; a missing embedding is all 0."""
        caption, place = self.keywords.places(words)
        found = sparse.csr_matrix((np.ones(len(caption)), (caption, place)), shape=(len(words), len(self.words)))
        if not self.dims:
            return found
        there = pc.fill_null(embeddings.value_lengths(), 0).to_numpy(zero_copy_only=False) == self.dims
        stacked = np.zeros((len(words), self.dims))
        stacked[there] = embeddings.flatten().to_numpy(zero_copy_only=False).reshape(-1, self.dims)
        return sparse.hstack([found, sparse.csr_matrix(stacked)], format="csr")


@dataclass(frozen=True)
class Gathered:
    """What is weighed.

    Attributes:
        rows: The unfiltered reference: image_id, kept, words (of the caption, each once).
        signals: image_id, embedding, of the current encoder; larger than the rows, so that it is joined only where an
            embedding is asked for.
        total: Rows.
        kept: Those of them that passed the filter.
    """

    rows: DataFrame
    signals: DataFrame
    total: int
    kept: int


@dataclass(frozen=True)
class Sums:
    """Sums over the raw weights.

    Attributes:
        total: Of the weights.
        squares: Of their squares.
        clipped: How many met the bound.
        largest: The largest of them.
    """

    total: float
    squares: float
    clipped: int
    largest: float

    @property
    def effective_sample_size(self) -> float:
        """How many images of weight 1 the weighted ones are worth."""
        return probe.effective_sample_size(self.total, self.squares)


def run(job: Job) -> Summary:
    """Weighs the kept images and writes weights, weight_quality and curated.

    Raises:
        WinnowError: Images came, or were judged anew, after the filter or the search for duplicates; or no image is
            kept.
        LostRowsError: Images are not the sum of kept, filtered and duplicates.
    """
    lake, settings = job.lake, job.settings.weigh
    images = lake.require(tables.IMAGES)
    lake.require(tables.DUPLICATES)
    now = lake.snapshot()
    require_verdicts(now)
    now.require_current(tables.DUPLICATES, tables.IMAGES, tables.VERDICTS)
    require_kept(lake)
    inputs = now.inputs(tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.FILTERED_DUPLICATES, tables.SIGNALS)
    encoder = current_encoder(job)
    _check_compared(now, encoder.digest)
    asked = {**fingerprint(settings), "encoder": encoder.digest, "seed": job.settings.seed, "revision": _REVISION}
    recipe = Recipe("weigh", inputs, asked)
    if (before := job.up_to_date(now.made_by(recipe, *_WRITTEN))) is not None:
        return before
    signals = lake.read(tables.SIGNALS).where(F.col("encoder") == encoder.digest)
    with job.progress.step("weigh: gather the unfiltered reference"):
        reference = reference_of(
            images, lake.read(tables.VERDICTS), lake.read(tables.DUPLICATES), lake.read(tables.FILTERED_DUPLICATES)
        )
        rows = with_words(reference).persist(StorageLevel.DISK_ONLY)
        counts = rows.agg(F.count("*"), F.count_if("kept")).collect()[0]
    try:
        return _weigh(job, Gathered(rows, signals, int(counts[0]), int(counts[1])), encoder.dims, recipe)
    finally:
        rows.unpersist()


def _check_compared(now: Snapshot, encoder: str) -> None:
    """Makes sure that the search for duplicates ended, and had the encoder in use: so all images have signals of it."""
    made, first = (now.recipe(table) for table in (tables.DUPLICATES, tables.FILTERED_DUPLICATES))
    compared = made.settings.get("encoder", encoder) if made else encoder
    if compared != encoder:
        raise WinnowError(
            f"duplicates were looked for with encoder {compared}, but {encoder} is in use: run `winnow score` and "
            "`winnow dedup` first"
        )
    if made and first and not made.makes_the_same(first):
        raise WinnowError("a search for duplicates with other settings was stopped: run `winnow dedup` first")


def _weigh(job: Job, data: Gathered, dims: int, recipe: Recipe) -> Summary:
    lake, settings = job.lake, job.settings.weigh
    features = _features(job, data, dims)
    with job.progress.step("weigh: fit the probe"):
        probes, quality = _fit(job, features, data)
    with job.progress.step("weigh: look for removed images that nothing resembles"):
        reach, lost = _beyond_reach(data, settings, job.settings.seed)
    with job.progress.step("weigh: weigh the kept images"):
        shown = featured(data.rows.where("kept"), data.signals, features)
        raw = raw_weights(shown, features, probes, settings, job.settings.seed).persist(StorageLevel.DISK_ONLY)
        sums = _sums(raw)
        lake.replace(tables.WEIGHTS, scaled_weights(raw, data.kept / sums.total), recipe)
        row = (
            data.kept, data.total, sums.effective_sample_size, sums.clipped, sums.largest * data.kept / sums.total,
            quality.auc, quality.calibration_error, reach, list(features.chosen),
        )  # fmt: skip
        quality_row = lake.spark.createDataFrame([row], tables.WEIGHT_QUALITY.schema)
        lake.replace(tables.WEIGHT_QUALITY, quality_row, recipe)
        beyond = facts.reach(lake, quality_row.collect()[0])
        bins = [astuple(one) for one in quality.reliability]
        lake.replace(tables.RELIABILITY, lake.spark.createDataFrame(bins, tables.RELIABILITY.schema), recipe)
        lake.replace(tables.BEYOND_REACH, lake.spark.createDataFrame(lost, tables.BEYOND_REACH.schema), recipe)
        raw.unpersist()
    if beyond and beyond.low > 0:
        job.progress.note(f"weigh: {sentences.reach(beyond)}")
    summary = _checked_summary(job, data.kept, sums)
    with job.progress.step("weigh: write the curated set"):
        images = lake.read(tables.IMAGES)
        done = recipe.with_result(summary)
        lake.replace(tables.CURATED, lake.read(tables.WEIGHTS).join(images, "image_id"), done)
    return summary


def _features(job: Job, data: Gathered, dims: int) -> Features:
    """What the settings ask the probe to see; nothing where nothing was filtered."""
    settings = job.settings.weigh
    chosen = tuple(settings.features) if data.kept < data.total else ()
    words = vocabulary(data.rows, settings, data.kept / data.total) if "caption" in chosen else ()
    if "caption" in chosen and not words:
        job.progress.warn("weigh: filtering left too little of every caption word, so captions cannot be weighed by")
    return Features(words, dims if "embedding" in chosen else 0, chosen)


# Transforms ---------------------------------------------------------------------------------------------------------


def featured(rows: DataFrame, signals: DataFrame, features: Features) -> DataFrame:
    """image_id, kept, words, embedding: null where there is none, and empty where the probe does not see it."""
    if not features.dims:
        return rows.withColumn("embedding", F.array().cast("array<float>"))
    return rows.join(signals.select("image_id", "embedding"), "image_id", "left")


def vocabulary(rows: DataFrame, settings: WeighSettings, kept: float) -> tuple[str, ...]:
    """The most frequent caption words that filtering left enough of.

    A word that loses most of its captions names what the filter is there to remove: to weigh by it would ask the few
    that are left to stand for it. Enough is reckoned against what filtering left of all captions: a strict filter,
    which drops a fifth of everything, would otherwise leave no word to weigh by.

    Args:
        rows: words, kept.
        settings: How much is enough, and how many words.
        kept: Share of all captions that filtering left.
    """
    counted = rows.select(F.explode("words").alias("word"), "kept").groupBy("word")
    counts = counted.agg(F.count("*").alias("captions"), F.count_if("kept").alias("left"))
    enough = (F.col("captions") >= _LEAST_CAPTIONS) & (F.col("left") >= settings.min_support * kept * F.col("captions"))
    top = counts.where(enough).orderBy(F.desc("captions"), "word").limit(settings.words)
    return tuple(row.word for row in top.select("word").collect())


def fold_of(seed: int, folds: int) -> Column:
    """The cross-fitting fold of an image, by a hash of its id."""
    return F.pmod(F.xxhash64(F.lit(seed), "image_id"), F.lit(folds)).cast("int")


def sampled(seed: int, share: float) -> Column:
    """Whether an image is in a sample of about this share of all, by a hash of its id: no sort, whatever the size."""
    return F.pmod(F.xxhash64(F.lit(seed), "image_id"), F.lit(_SLOTS)) < F.lit(int(min(1.0, share) * _SLOTS))


def raw_weights(
    kept: DataFrame, features: Features, probes: list[Probe], settings: WeighSettings, seed: int
) -> DataFrame:
    """image_id, raw (P(unfiltered | x) / P(filtered | x) by the probe that did not see it, in millionths), clipped."""
    bound = float(np.log(settings.max_weight))

    def weigh(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            matrix = features.matrix(batch.column("words"), batch.column("embedding"))
            fold = batch.column("fold").to_numpy(zero_copy_only=False)
            odds = np.zeros(len(fold))
            for number, fitted in enumerate(probes):
                odds[fold == number] = fitted.log_odds(matrix[fold == number])
            raw = np.rint(np.exp(np.minimum(odds, bound)) * WEIGHT_UNIT).astype(np.int64)
            columns = [batch.column("image_id"), pa.array(raw), pa.array(odds > bound)]
            yield pa.record_batch(columns, names=["image_id", "raw", "clipped"])

    shown = kept.select("image_id", "words", "embedding", fold_of(seed, settings.folds).alias("fold"))
    return shown.mapInArrow(weigh, "image_id string, raw long, clipped boolean")


def scaled_weights(raw: DataFrame, scale: float) -> DataFrame:
    """image_id, weight: the raw weights times `scale`, which makes their mean 1."""
    return raw.select("image_id", (F.col("raw").cast("double") * scale).alias("weight"))


# Parts of the job ---------------------------------------------------------------------------------------------------


def _fit(job: Job, features: Features, data: Gathered) -> tuple[list[Probe], ProbeQuality]:
    """Cross-fitted probes; where there is no feature, or too few images, ones that weigh everything alike."""
    settings, seed = job.settings.weigh, job.settings.seed
    alike = [Probe(np.zeros(len(features.words) + features.dims), 0.0)] * settings.folds
    if not features.words and not features.dims:
        return alike, ProbeQuality(None, None)
    # Both sides about `sample` images, whatever the lake's size; an image that was kept is a sample of both.
    in_all, in_kept = (sampled(seed + 1, settings.sample / max(1, count)) for count in (data.total, data.kept))
    rows = data.rows.where(in_all | (F.col("kept") & in_kept))
    # Which embeddings may be asked for shows in the id: the join need not move the others.
    some = featured(rows, data.signals.where(in_all | in_kept), features).select(
        "image_id", "words", "embedding", fold_of(seed, settings.folds).alias("fold"),
        in_all.alias("in_all"), (F.col("kept") & in_kept).alias("in_kept"),
    )  # fmt: skip
    # Sorted, so that sums come out the same to the last bit however the rows were spread.
    found = some.toArrow().sort_by("image_id").combine_chunks()
    words, embeddings = (_one_array(found.column(name)) for name in ("words", "embedding"))
    matrix, fold = features.matrix(words, embeddings), found.column("fold").to_numpy()
    places = [np.flatnonzero(found.column(side).to_numpy()) for side in ("in_all", "in_kept")]
    unfiltered = np.repeat([True, False], [len(side) for side in places])
    every = np.concatenate(places)
    if not probe.can_cross_fit(unfiltered, fold[every]):
        job.progress.warn(
            f"weigh: {data.kept:,} of {data.total:,} images are kept, too few for a probe, so all weigh the same"
        )
        return alike, ProbeQuality(None, None)
    return probe.cross_fit(matrix[every], unfiltered, fold[every], settings.regularisation)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _beyond_reach(
    data: Gathered, settings: WeighSettings, seed: int
) -> tuple[float | None, list[tuple[str, str, float]]]:
    """`models.stats.probe.beyond_reach` for bounded samples against all kept images.

    Returns:
        Share of the sampled removed images (None where there is nothing to compare), and those that are least like any
        kept one: image_id, its nearest kept image, their similarity.
    """
    order = F.xxhash64(F.lit(seed + 2), "image_id"), F.col("image_id")
    embedded = data.signals.where(F.col("embedding").isNotNull()).select("image_id", "embedding")
    sides = [data.rows.where(side).select("image_id") for side in (~F.col("kept"), F.col("kept"))]
    # Few ids go to the embeddings, rather than all embeddings to the ids.
    some = [F.broadcast(side.orderBy(*order).limit(settings.reach_sample)) for side in sides]
    removed, kept = (embedded.join(ids, "image_id").orderBy(*order).collect() for ids in some)
    if not removed or len(kept) < 2:
        return None, []
    asked = [*removed, *kept]
    queries = np.asarray([row.embedding for row in asked], dtype=np.float32)
    nearest: dict[int, tuple[str, float]] = {}
    # A kept image is its own nearest: the next one counts.
    pool = embedded.join(sides[1], "image_id", "left_semi")
    for row in nearest_by_embedding(pool, queries, 2).orderBy("query", "rank").collect():
        if row.image_id != asked[row.query].image_id:
            nearest.setdefault(row.query, (row.image_id, row.similarity))
    similarity = np.array([nearest[i][1] for i in range(len(asked))])
    lost = probe.beyond_reach(similarity[: len(removed)], similarity[len(removed) :])
    least = sorted(np.flatnonzero(lost).tolist(), key=lambda i: (similarity[i], removed[i].image_id))[:_LOST_SHOWN]
    return float(np.mean(lost)), [(removed[i].image_id, *nearest[i]) for i in least]


def _sums(raw: DataFrame) -> Sums:
    """Sums of whole numbers, so that no order of rows shows in a weight."""
    square = F.col("raw").cast("decimal(19,0)") * F.col("raw").cast("decimal(19,0)")
    row = raw.agg(F.sum("raw"), F.sum(square), F.count_if("clipped"), F.max("raw")).collect()[0]
    return Sums(float(row[0]), float(row[1]), int(row[2]), float(row[3]))


def _checked_summary(job: Job, kept: int, sums: Sums) -> Summary:
    lake = job.lake
    images = lake.read(tables.IMAGES).count()
    filtered = lake.read(tables.VERDICTS).where(~F.col("kept")).count()
    duplicates = lake.read(tables.DUPLICATES).count()
    if images != kept + filtered + duplicates:
        raise LostRowsError(
            f"weigh: {images} images are not {kept} kept + {filtered} filtered + {duplicates} duplicates; "
            "run filter, dedup and weigh again"
        )
    size, clipped, top = sums.effective_sample_size, sums.clipped, sums.largest * kept / sums.total
    return {
        "images": images, "filtered": filtered, "duplicates": duplicates, "kept": kept,
        "effective sample size": f"{size:.0f} ({size / kept:.1%})", "clipped": clipped, "largest weight": round(top, 3),
    }  # fmt: skip
