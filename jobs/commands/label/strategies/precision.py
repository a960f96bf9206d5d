"""The strategy `precision`: images that the current model calls positive, to find false positives."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.label.strategies.request import Pick, PickRequest, Pool
from jobs.job import Job
from jobs.lake import tables
from jobs.models_in_use import HEAD, current_models
from models.errors import WinnowError
from models.inference.encoder import Encoder
from models.inference.head import LOWEST_POSITIVE, Head
from models.stats import diverse_sampling
from udfs.inference.classify import head_scores
from udfs.inference.model_files import distribute_model

_BANDS = 20


def pick(job: Job, request: PickRequest, pool: Pool) -> list[Pick]:
    """Picks images that score at or above the model's high-recall threshold, over the whole range of these scores."""
    scored, digest = _scored(job, request.category, pool)
    threshold, source = _threshold(job, request.category, digest, pool.encoder)
    above = scored.where(F.col("score").cast("double") >= threshold)
    rows = over_all_scores(above, job.settings.seed, max(job.settings.label_next.sample, request.count)).toArrow()
    scores = rows["score"].to_numpy()
    order = diverse_sampling.strata(scores, request.count)
    ids = rows["image_id"].to_pylist()
    chosen = diverse_sampling.distinct(pool.hashes(ids), order, request.count, pool.max_distance)
    return [Pick(ids[i], f"the model gives {scores[i]:.3f}, at or above {threshold:.3f}, {source}") for i in chosen]


def over_all_scores(scored: DataFrame, seed: int, count: int) -> DataFrame:
    """Draws a random sample with about the same number of images from each band of scores, if the band has so many.

    Args:
        scored: image_id, score.
        seed: Seed of the sample.
        count: Size of the sample.

    Returns:
        The same columns, in the order of the draw.

    Source:
        Efraimidis and Spirakis, "Weighted random sampling with a reservoir", IPL 2006: the rows with the smallest
        -log(u) / weight, where the weight is one over the number of images in the band.
    """
    band = F.least(F.floor(F.col("score") * _BANDS), F.lit(_BANDS - 1)).cast("int")
    sizes = {row.band: row["count"] for row in scored.groupBy(band.alias("band")).count().collect()}
    if not sizes:
        return scored
    size = F.element_at(F.create_map(*[F.lit(n) for pair in sizes.items() for n in pair]), band)
    chance = F.xxhash64(F.lit(f"{seed} precision"), F.col("image_id"))
    uniform = (F.pmod(chance, F.lit(1 << 52)) + 0.5) / (1 << 52)
    return scored.orderBy(-F.log(uniform) * size, "image_id").limit(count)


def _scored(job: Job, category: str, pool: Pool) -> tuple[DataFrame, str]:
    """Returns image_id, score of the pool by the category's model, and the model's digest."""
    if job.settings.categories[category].model is not None:
        digest = current_models(job)[category]
        own = (F.col("category") == category) & (F.col("model") == digest)
        scores = job.lake.read(tables.SCORES).where(own).groupBy("image_id").agg(F.max("score").alias("score"))
        return pool.images.select("image_id").join(scores, "image_id"), digest
    head = _head(job, category, pool.encoder)
    name = distribute_model(job.lake.spark, job.lake.read_file(HEAD.format(category)))
    score = head_scores(name)(F.col("embedding")).alias("score")
    return pool.images.select("image_id", score).where(F.col("score").isNotNull()), head.digest


def _head(job: Job, category: str, encoder: Encoder) -> Head:
    file = HEAD.format(category)
    if not job.lake.has_file(file):
        raise WinnowError(f"{category} has no classifier yet: label some images, then run `winnow train {category}`")
    return Head.load(job.lake.read_file(file), encoder.digest, encoder.dims)


def _threshold(job: Job, category: str, digest: str, encoder: Encoder) -> tuple[float, str]:
    """Returns the model's high-recall threshold, and where it comes from, in words."""
    own = (F.col("category") == category) & (F.col("model") == digest)
    calibrated = job.lake.read(tables.THRESHOLDS).where(own).select("threshold").collect()
    if calibrated:
        return float(calibrated[0].threshold), "its calibrated threshold"
    if job.settings.categories[category].model is not None:
        raise WinnowError(f"{category} has its own model, which has no threshold yet: run `winnow calibrate` first")
    lowest = _head(job, category, encoder).session.get_modelmeta().custom_metadata_map.get(LOWEST_POSITIVE)
    if lowest is None:
        return 0.5, "the middle: it has too few labels to be tried on some that it did not see"
    return float(lowest), "which every labelled positive reaches when it is held out"
