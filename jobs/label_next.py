"""`label next`: which images to label next, and why; they go to the table label_queue."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import model_files, nearest, tables, train
from jobs.job import Job, Summary
from jobs.lake import Recipe
from jobs.score import HEAD, current_encoder, current_models
from models import images, picks
from models.encoder import Encoder
from models.errors import WinnowError
from models.head import LOWEST_POSITIVE, Head
from udfs.classify import head_scores
from udfs.cross_validation import HELD_OUT, CrossValidation
from udfs.hamming import HASH_BYTES, words
from udfs.hashes import PDQ_SIDE

STRATEGIES = ("seed", "random", "precision", "recall")

# Neighbours looked at for each that is wanted, since some are near-duplicates of each other.
_SPARE = 4
_FEWEST, _MOST = 5, 200
_BANDS = 20
# Labels that cross-validation is run on; people make hundreds or thousands, of more a random part does.
_MOST_LABELS = 20_000


@dataclass(frozen=True)
class Request:
    """What is to be picked.

    Attributes:
        category: For which category.
        strategy: One of `STRATEGIES`.
        count: How many images.
        like: For `seed`: local image files around which to pick.
    """

    category: str
    strategy: str
    count: int
    like: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pick:
    """An image to label and why."""

    image_id: str
    reason: str


@dataclass(frozen=True)
class Picked:
    """What was picked.

    Attributes:
        picks: In the order in which to label them.
        summary: Counts, for the table that ends the command.
    """

    picks: tuple[Pick, ...]
    summary: Summary


@dataclass(frozen=True, eq=False)
class Misses:
    """Labelled positives around which to look, hardest first.

    Attributes:
        queries: Their embeddings, float32 of shape (q, dims).
        reasons: Why each was chosen.
    """

    queries: NDArray[np.float32]
    reasons: tuple[str, ...]


def run(job: Job, request: Request) -> Picked:
    """Picks images that are neither labelled nor queued for the category, and queues them.

    Raises:
        WinnowError: The category or strategy is unknown; there are no signals; the strategy lacks labels or a model.
    """
    _check(job, request)
    job.lake.require(tables.SIGNALS)
    encoder = current_encoder(job)
    pool = unseen(_signals(job, encoder.digest), *_seen(job), request.category)
    with job.progress.step(f"label next: pick {request.count:,} by {request.strategy} for {request.category}"):
        picked = _STRATEGIES[request.strategy](job, request, pool, encoder)
    if not picked:
        _explain_nothing(job, request, pool, encoder)
    elif len(picked) < request.count:
        job.progress.note(f"label next: {len(picked):,} found, {request.count:,} were asked for")
    with job.progress.step(f"label next: queue {len(picked):,} images"):
        batch = _queue(job, request, picked)
    counts: Summary = {"picked": len(picked), "strategy": request.strategy, "batch": batch}
    return Picked(tuple(picked), counts)


def unseen(signals: DataFrame, labels: DataFrame, queue: DataFrame, unsure: DataFrame, category: str) -> DataFrame:
    """Signals of images that nobody has labelled, queued or been unsure of for a category.

    Args:
        signals: image_id and more.
        labels: Table labels.
        queue: Table label_queue.
        unsure: Table unsure.
        category: Whose labels.
    """
    own = [rows.where(F.col("category") == category).select("image_id") for rows in (labels, queue, unsure)]
    return signals.join(own[0].unionByName(own[1]).unionByName(own[2]), "image_id", "left_anti")


def in_random_order(pool: DataFrame, seed: int, purpose: str) -> DataFrame:
    """The pool in an order that has nothing to do with what the images show, the same each time.

    Args:
        pool: image_id and more.
        seed: Of the order.
        purpose: Another purpose, another order, so that no two samples have to do with each other.
    """
    return pool.orderBy(F.xxhash64(F.lit(f"{seed} {purpose}"), F.col("image_id")), "image_id")


def over_all_scores(scored: DataFrame, seed: int, count: int) -> DataFrame:
    """A random sample in which every band of scores has about as many images as any other, if it has that many.

    Args:
        scored: image_id, embedding_hash, score.
        seed: Of the sample.
        count: Its size.

    Returns:
        The same columns, in the order of the draw.

    Source:
        Efraimidis and Spirakis, "Weighted random sampling with a reservoir", IPL 2006: the smallest -log(u) / weight,
        the weight being one over the number of images in the band.
    """
    band = F.least(F.floor(F.col("score") * _BANDS), F.lit(_BANDS - 1)).cast("int")
    sizes = {row.band: row["count"] for row in scored.groupBy(band.alias("band")).count().collect()}
    if not sizes:
        return scored
    size = F.element_at(F.create_map(*[F.lit(n) for pair in sizes.items() for n in pair]), band)
    chance = F.xxhash64(F.lit(f"{seed} precision"), F.col("image_id"))
    uniform = (F.pmod(chance, F.lit(1 << 52)) + 0.5) / (1 << 52)
    return scored.orderBy(-F.log(uniform) * size, "image_id").limit(count)


def missed_positives(held_out: DataFrame) -> DataFrame:
    """How often the versions that never saw an example call it negative.

    Args:
        held_out: `udfs.cross_validation.HELD_OUT`.

    Returns:
        example, versions, missed (how many of them miss it), logit (their sum, in millionths).
    """
    # Whole numbers add up to the same in any order.
    total = F.sum(F.round(F.col("logit") * 1e6).cast("long"))
    return held_out.groupBy("example").agg(
        F.count("*").alias("versions"), F.count_if(F.col("logit") < 0).alias("missed"), total.alias("logit")
    )


# Strategies ---------------------------------------------------------------------------------------------------------


def _seed(job: Job, request: Request, pool: DataFrame, encoder: Encoder) -> list[Pick]:
    """The middle of each group of the embedding space, or what is nearest to given pictures."""
    if request.like:
        pictures = np.stack([_thumbnail(file, encoder.size) for file in request.like])
        queries, _ = encoder.encode(pictures)
        return _around(request, pool, encoder, Misses(queries, tuple(f"like {file}" for file in request.like)))
    sample = in_random_order(pool, job.settings.seed, "seed").select("image_id", "embedding")
    rows = sample.limit(max(job.settings.label_next.sample, request.count)).toArrow()
    if not len(rows):
        return []
    places, shares = picks.centres(_matrix(rows["embedding"]), min(request.count, len(rows)), job.settings.seed)
    ids = rows["image_id"].to_pylist()
    return [
        Pick(ids[place], f"middle of a group of about {share:.2%} of the images")
        for place, share in zip(places.tolist(), shares.tolist(), strict=True)
    ]


def _random(job: Job, request: Request, pool: DataFrame, encoder: Encoder) -> list[Pick]:
    """The next images of one fixed random order, which the labels have nothing to do with."""
    rows = in_random_order(pool, job.settings.seed, "random").select("image_id").limit(request.count).collect()
    return [Pick(row.image_id, "random sample, set apart for calibration") for row in rows]


def _precision(job: Job, request: Request, pool: DataFrame, encoder: Encoder) -> list[Pick]:
    """What the model calls positive at its high-recall threshold, over the whole range of scores above it."""
    scored, digest = _scored(job, request.category, pool, encoder)
    threshold, whence = _threshold(job, request.category, digest, encoder)
    above = scored.where(F.col("score").cast("double") >= threshold)
    rows = over_all_scores(above, job.settings.seed, max(job.settings.label_next.sample, request.count)).toArrow()
    scores = rows["score"].to_numpy()
    order = picks.strata(scores, request.count)
    chosen = picks.distinct(_hashes(rows["embedding_hash"]), order, request.count, encoder.max_distance)
    ids = rows["image_id"].to_pylist()
    return [Pick(ids[i], f"the model gives {scores[i]:.3f}, at or above {threshold:.3f}, {whence}") for i in chosen]


def _recall(job: Job, request: Request, pool: DataFrame, encoder: Encoder) -> list[Pick]:
    """Neighbours of labelled positives that cross-validated models miss."""
    return _around(request, pool, encoder, _misses(job, request.category, encoder))


_STRATEGIES: dict[str, Callable[[Job, Request, DataFrame, Encoder], list[Pick]]] = {
    "seed": _seed,
    "random": _random,
    "precision": _precision,
    "recall": _recall,
}


def _around(request: Request, pool: DataFrame, encoder: Encoder, misses: Misses) -> list[Pick]:
    """The images nearest to each query in turn, no two of them near-duplicates."""
    each = -(-_SPARE * request.count // len(misses.queries))
    near = nearest.nearest_by_embedding(
        pool.select("image_id", "embedding"), misses.queries, min(max(each, _FEWEST), _MOST)
    )
    hashed = pool.select("image_id", "embedding_hash").join(F.broadcast(near), "image_id")
    # At most _MOST for each of at most label_next.queries: a bounded number, however large the pool.
    rows = hashed.select("query", "rank", "similarity", "image_id", "embedding_hash").orderBy("rank", "query").toArrow()
    ids, queries = rows["image_id"].to_pylist(), rows["query"].to_pylist()
    first = {image_id: place for place, image_id in reversed(list(enumerate(ids)))}
    hashes = _hashes(rows["embedding_hash"])
    chosen = picks.distinct(hashes, sorted(first.values()), request.count, encoder.max_distance)
    similarity = rows["similarity"].to_numpy()
    return [Pick(ids[i], f"similarity {similarity[i]:.2f}, {misses.reasons[queries[i]]}") for i in chosen]


# Models -------------------------------------------------------------------------------------------------------------


def _misses(job: Job, category: str, encoder: Encoder) -> Misses:
    """Labelled positives that models miss which never saw them; the hardest ones where none is missed."""
    found = train.labelled_embeddings(job, category, encoder.digest, "label next")
    embeddings, labels = found.embeddings[:_MOST_LABELS], found.labels[:_MOST_LABELS]
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if positives < 2 or negatives < 2:
        raise WinnowError(
            f"{category} has {positives} positive and {negatives} negative labels (random ones set apart), and recall "
            f"needs two of each: `winnow label next {category} --strategy seed` finds images to label"
        )
    settings = job.settings.label_next
    fit = CrossValidation(embeddings, labels, settings.folds, job.settings.train.weight_decay, job.settings.seed)
    count = settings.folds * settings.repeats
    spark = job.lake.spark
    numbers = spark.range(0, count, 1, min(count, 2 * spark.sparkContext.defaultParallelism))
    judged = missed_positives(numbers.mapInArrow(fit, HELD_OUT)).collect()
    hard = sorted(
        (row for row in judged if labels[row.example]), key=lambda row: (-row.missed / row.versions, row.logit)
    )
    missed = [row for row in hard if row.missed]
    if not missed:
        job.progress.note(
            f"label next: no labelled positive of {category} is missed, so the weakest tenth is looked at"
        )
        missed = hard[: -(-len(hard) // 10)]
    missed = missed[: settings.queries]
    reasons = tuple(
        f"near {found.image_ids[row.example][:12]}, a positive that {row.missed} of {row.versions} models miss that "
        "never saw it"
        for row in missed
    )
    return Misses(embeddings[[row.example for row in missed]], reasons)


def _scored(job: Job, category: str, pool: DataFrame, encoder: Encoder) -> tuple[DataFrame, str]:
    """The pool with the score of the category's model: image_id, embedding_hash, score; and the model's digest."""
    if job.settings.categories[category].model is not None:
        digest = current_models(job)[category]
        own = (F.col("category") == category) & (F.col("model") == digest)
        scores = job.lake.read(tables.SCORES).where(own).groupBy("image_id").agg(F.max("score").alias("score"))
        return pool.select("image_id", "embedding_hash").join(scores, "image_id"), digest
    head = _head(job, category, encoder)
    name = model_files.ship(job.lake.spark, job.lake.read_file(HEAD.format(category)))
    score = head_scores(name)(F.col("embedding")).alias("score")
    return pool.select("image_id", "embedding_hash", score), head.digest


def _head(job: Job, category: str, encoder: Encoder) -> Head:
    file = HEAD.format(category)
    if not job.lake.has_file(file):
        raise WinnowError(f"{category} has no classifier yet: label some images, then run `winnow train {category}`")
    return Head.load(job.lake.read_file(file), encoder.digest, encoder.dims)


def _threshold(job: Job, category: str, digest: str, encoder: Encoder) -> tuple[float, str]:
    """The model's high-recall threshold, and in words where it comes from."""
    own = (F.col("category") == category) & (F.col("model") == digest)
    calibrated = job.lake.read(tables.THRESHOLDS).where(own).select("threshold").collect()
    if calibrated:
        return float(calibrated[0].threshold), "its calibrated threshold"
    if job.settings.categories[category].model is not None:
        raise WinnowError(f"{category} has a model of its own but no threshold: run `winnow calibrate` first")
    lowest = _head(job, category, encoder).session.get_modelmeta().custom_metadata_map.get(LOWEST_POSITIVE)
    if lowest is None:
        return 0.5, "the middle: it has too few labels to be tried on some that it did not see"
    return float(lowest), "which every labelled positive reaches when it is held out"


def _thumbnail(file: str, size: int) -> NDArray[np.uint8]:
    try:
        data = Path(file).expanduser().read_bytes()
        return images.thumbnail(images.decode(data, PDQ_SIDE), (size, size))
    except OSError as error:
        raise WinnowError(f"image file {file} cannot be read: {error.strerror}") from error
    except images.ImageFault as fault:
        raise WinnowError(f"image file {file} cannot be decoded: {fault}") from fault


# Tables -------------------------------------------------------------------------------------------------------------


def _check(job: Job, request: Request) -> None:
    known = job.settings.categories
    if request.category not in known:
        have = f"they have {', '.join(known)}" if known else "they have none"
        raise WinnowError(
            f"no category '{request.category}' in the settings, {have}: give its file or folder by --conf, "
            "or add [categories.NAME]"
        )
    if request.strategy not in STRATEGIES:
        raise WinnowError(f"no strategy '{request.strategy}': choose one of {', '.join(STRATEGIES)}")
    if request.like and request.strategy != "seed":
        raise WinnowError(f"--like goes with --strategy seed, not with {request.strategy}")


def _signals(job: Job, encoder: str) -> DataFrame:
    own = job.lake.read(tables.SIGNALS).where((F.col("encoder") == encoder) & F.col("embedding").isNotNull())
    return own.select("image_id", "embedding", "embedding_hash")


def _seen(job: Job) -> tuple[DataFrame, DataFrame, DataFrame]:
    return tuple(job.lake.read(t) for t in (tables.LABELS, tables.LABEL_QUEUE, tables.UNSURE))


def _explain_nothing(job: Job, request: Request, pool: DataFrame, encoder: Encoder) -> None:
    if _signals(job, encoder.digest).isEmpty():
        raise WinnowError(f"no image has an embedding of encoder {encoder.digest}: run `winnow score` first")
    if pool.isEmpty():
        raise WinnowError(f"every image is labelled or queued for {request.category}: label what is queued")
    raise WinnowError(
        f"the model calls no unlabelled image positive for {request.category}: try --strategy recall or random"
    )


def _queue(job: Job, request: Request, picked: Sequence[Pick]) -> str:
    now = datetime.now(UTC)
    batch = f"{request.category}-{request.strategy}-{now:%Y%m%dT%H%M%S%f}"
    rows: list[tuple[Any, ...]] = [
        (pick.image_id, request.category, request.strategy, pick.reason, place, batch, now)
        for place, pick in enumerate(picked)
    ]
    made = Recipe("label next", settings={"batch": batch, "count": request.count, "like": list(request.like)})
    job.lake.append(tables.LABEL_QUEUE, job.lake.spark.createDataFrame(rows, tables.LABEL_QUEUE.schema), made)
    return batch


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    numbers = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return numbers.reshape(len(column), -1)


def _hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    joined = b"".join(column.to_pylist())
    return words(np.frombuffer(joined, dtype=np.uint8).reshape(-1, HASH_BYTES))
