"""The shard, the place and the key of each exported image: they depend only on its id and the seed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, log

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.sources.find import IMAGE_ENDINGS

_ROWS_OF_A_BUCKET = 100_000
_BROADCAST_ROWS = 500_000
_LONGEST_KEY = 160
_PART_BYTES = 250  # a file name may have 255 bytes; the longest ending is .webp
_SUFFIX_BYTES = 33
_SUFFIX = f"_[0-9a-f]{{{_SUFFIX_BYTES - 1}}}$"
_DIGITS = 32


@dataclass(frozen=True)
class Layout:
    """The shards of an export.

    Attributes:
        firsts: The place (see `place`) of the first image of each shard, ascending.
        repeated_keys: Number of images whose key an earlier image has.
    """

    firsts: tuple[str, ...]
    repeated_keys: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.firsts)


def place(seed: int) -> Column:
    """Returns the place of an image in the shuffled order: 32 hexadecimal digits from its id and the seed.

    Training reads a shard from start to end, so neighbours must not come from the same source.
    """
    return F.md5(F.concat(F.lit(f"{seed}:"), "image_id"))


def lay_out(curated: DataFrame, images: int, samples: int, seed: int) -> Layout:
    """Cuts the shuffled images into shards.

    Args:
        curated: image_id, key, source; no image bytes are read.
        images: Number of rows.
        samples: Images per shard; the last shard may hold fewer.
        seed: Seed of the shuffled order.
    """
    digits = max(0, ceil(log(max(images, 1) / _ROWS_OF_A_BUCKET, 16)))
    firsts = _firsts(curated.select(place(seed).alias("place")), samples, digits)
    return Layout(tuple(firsts), repeats(curated).count())


def _firsts(places: DataFrame, samples: int, digits: int) -> list[str]:
    """The place of the first image of each shard; ranks are per bucket (prefix), so that no task ranks all images."""
    bucketed = places.select("place", F.substring("place", 1, digits).alias("bucket"))
    starts = F.broadcast(places.sparkSession.createDataFrame(_offsets(bucketed, digits), "bucket string, before long"))
    within = F.row_number().over(Window.partitionBy("bucket").orderBy("place")) - 1
    ranked = bucketed.select("place", "bucket", within.alias("within")).join(starts, "bucket")
    heads = ranked.where((F.col("before") + F.col("within")) % samples == 0).select("place")
    return sorted(row["place"] for row in heads.collect())


def _offsets(bucketed: DataFrame, digits: int) -> list[tuple[str, int]]:
    """Each bucket, and the number of images in the buckets before it."""
    if not digits:
        return [("", 0)]
    offsets, before = [], 0
    for row in bucketed.groupBy("bucket").count().orderBy("bucket").collect():
        offsets.append((row["bucket"], before))
        before += row["count"]
    return offsets


def assigned(curated: DataFrame, layout: Layout, seed: int, finished: Collection[int]) -> DataFrame:
    """Returns the images of all shards that are not written yet, each with its shard, task and place.

    A join with the bounds of the shards finds them; these are few and go to every worker.

    Args:
        curated: The table curated.
        layout: From `lay_out` on the same rows with the same seed.
        seed: Seed of the shuffled order.
        finished: Shards that are already complete.
    """
    unwritten = [number for number in range(layout.shards) if number not in finished]
    digits = max(0, ceil(log(layout.shards / 4, 16))) if layout.shards > 4 else 0
    bounds = [bound for task, shard in enumerate(unwritten) for bound in _bounds(layout.firsts, shard, task, digits)]
    schema = "prefix string, first string, end string, shard int, task int"
    table = F.broadcast(curated.sparkSession.createDataFrame(bounds, schema))
    placed = curated.withColumn("place", place(seed))
    inside = (
        (F.substring("place", 1, digits) == F.col("prefix"))
        & (F.col("place") >= F.col("first"))
        & (F.col("place") < F.col("end"))
    )
    return placed.join(table, inside).drop("prefix", "first", "end")


def _bounds(firsts: Sequence[str], shard: int, task: int, digits: int) -> list[tuple[str, str, str, int, int]]:
    """The bounds of a shard, once for each prefix of the places between them."""
    first = firsts[shard] if shard else "0" * _DIGITS
    end = firsts[shard + 1] if shard + 1 < len(firsts) else "g"  # beyond the last hexadecimal digit
    if not digits:
        return [("", first, end, shard, task)]
    low, high = int(first[:digits], 16), 16**digits - 1 if end == "g" else int(end[:digits], 16)
    return [(f"{prefix:0{digits}x}", first, end, shard, task) for prefix in range(low, high + 1)]


def plain_key(key: Column) -> Column:
    """Returns a key that is valid for a tar member: no dot (it ends a WebDataset key) and no path out of the folder.

    The ending of the image file is removed. Other characters that file systems reject become `_`.
    """
    endings = "|".join(IMAGE_ENDINGS)
    bare = F.regexp_replace(key, rf"(?i)\.({endings})$", "")
    safe = F.regexp_replace(bare, r"[.\\:*?\"<>|\p{Cntrl}]", "_")
    return F.regexp_replace(F.regexp_replace(safe, "/+", "/"), "^/|/$", "")


def repeats(curated: DataFrame) -> DataFrame:
    """Returns image_id of the images whose plain key an earlier image has (by source, then id)."""
    named = curated.select("image_id", "source", plain_key(F.col("key")).alias("plain"))
    first = F.min(F.struct("source", "image_id")).alias("first")
    shared = named.groupBy("plain").agg(first, F.count("*").alias("images")).where("images > 1")
    others = named.join(shared.select("plain", F.col("first.image_id").alias("owner")), "plain")
    return others.where("image_id != owner").select("image_id")


def keyed(rows: DataFrame, curated: DataFrame, layout: Layout) -> DataFrame:
    """Returns the rows with a unique `export_key`: the plain key, if needed followed by the image_id.

    The image_id follows a key that an earlier image has, that is empty, that is too long for a file name, or that
    already ends like an image_id, because the key of another image could become equal to it.

    Args:
        rows: image_id, key and more.
        curated: All images, so that a key does not depend on which rows are written.
        layout: Its repeated_keys says whether any key is repeated.
    """
    plain = F.coalesce(plain_key(F.col("key")), F.lit(""))
    bare = _fits(plain) & ~plain.rlike(_SUFFIX)
    if not layout.repeated_keys:
        return rows.withColumn("export_key", F.when(bare, plain).otherwise(_with_id(plain)))
    marked = repeats(curated).withColumn("repeated", F.lit(True))
    few = layout.repeated_keys <= _BROADCAST_ROWS
    joined = rows.join(F.broadcast(marked) if few else marked, "image_id", "left")
    alone = bare & F.col("repeated").isNull()
    return joined.withColumn("export_key", F.when(alone, plain).otherwise(_with_id(plain))).drop("repeated")


def _fits(plain: Column) -> Column:
    names = F.forall(F.split(plain, "/"), lambda part: F.octet_length(part) <= _PART_BYTES)
    return (F.length(plain) > 0) & (F.length(plain) <= _LONGEST_KEY) & names


def _with_id(plain: Column) -> Column:
    parts = F.transform(F.split(F.substring(plain, 1, _LONGEST_KEY), "/"), _cut)
    return F.concat(F.array_join(parts, "/"), F.lit("_"), F.col("image_id"))


def _cut(part: Column) -> Column:
    """The longest start of whole characters that leaves room for an image_id in a file name."""
    most = _PART_BYTES - _SUFFIX_BYTES
    start = F.make_valid_utf8(F.substring(part.cast("binary"), 1, most).cast("string"))
    # A character that was cut in two becomes U+FFFD.
    return F.when(F.octet_length(part) <= most, part).otherwise(F.regexp_replace(start, "\ufffd+$", ""))
