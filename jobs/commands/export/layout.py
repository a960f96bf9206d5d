"""Which shard an image lies in, where in it and under what key: by its id and the seed alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil, log

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.sources.find import IMAGE_ENDINGS

_ROWS_OF_A_BUCKET = 100_000
_BROADCAST_ROWS = 500_000
_LONGEST_KEY = 160
_PART_BYTES = 250  # of the 255 that a file's name may have, without the longest ending (.webp)
_SUFFIX_BYTES = 33
_SUFFIX = f"_[0-9a-f]{{{_SUFFIX_BYTES - 1}}}$"
_DIGITS = 32


@dataclass(frozen=True)
class Layout:
    """The shards of an export.

    Attributes:
        firsts: The place (see `place`) of the first image of each shard, ascending.
        repeated_keys: Images whose key another image has too.
    """

    firsts: tuple[str, ...]
    repeated_keys: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.firsts)


def place(seed: int) -> Column:
    """Where an image stands in the shuffled order: 32 hexadecimal digits from its id and the seed, alike for none.

    Shards are read one after the other in training, so that neighbours must not come from one source.
    """
    return F.md5(F.concat(F.lit(f"{seed}:"), "image_id"))


def lay_out(curated: DataFrame, images: int, samples: int, seed: int) -> Layout:
    """Cuts the shuffled images into shards.

    Args:
        curated: image_id, key, source; no picture is read.
        images: Its rows.
        samples: Images of a shard; the last one may hold fewer.
        seed: Of the shuffled order.
    """
    digits = max(0, ceil(log(max(images, 1) / _ROWS_OF_A_BUCKET, 16)))
    firsts = _firsts(curated.select(place(seed).alias("place")), samples, digits)
    return Layout(tuple(firsts), repeats(curated).count())


def _firsts(places: DataFrame, samples: int, digits: int) -> list[str]:
    """The place of every so many-th image: ranked within buckets of a common prefix, so that no task ranks all."""
    bucketed = places.select("place", F.substring("place", 1, digits).alias("bucket"))
    starts = F.broadcast(places.sparkSession.createDataFrame(_offsets(bucketed, digits), "bucket string, before long"))
    within = F.row_number().over(Window.partitionBy("bucket").orderBy("place")) - 1
    ranked = bucketed.select("place", "bucket", within.alias("within")).join(starts, "bucket")
    heads = ranked.where((F.col("before") + F.col("within")) % samples == 0).select("place")
    return sorted(row["place"] for row in heads.collect())


def _offsets(bucketed: DataFrame, digits: int) -> list[tuple[str, int]]:
    """Each bucket, and how many images lie in those before it."""
    if not digits:
        return [("", 0)]
    offsets, before = [], 0
    for row in bucketed.groupBy("bucket").count().orderBy("bucket").collect():
        offsets.append((row["bucket"], before))
        before += row["count"]
    return offsets


def assigned(curated: DataFrame, layout: Layout, seed: int, finished: Collection[int]) -> DataFrame:
    """The images of all shards that are still to be written, each with its shard, task and place.

    Found by a join with the shards' bounds, so that pictures are shuffled once, to the task of their shard.

    Args:
        curated: The table.
        layout: From `lay_out` on the same rows with the same seed.
        seed: Of the shuffled order.
        finished: Shards that are there already.
    """
    wanted = [number for number in range(layout.shards) if number not in finished]
    digits = max(0, ceil(log(layout.shards / 4, 16))) if layout.shards > 4 else 0
    bounds = [bound for task, shard in enumerate(wanted) for bound in _bounds(layout.firsts, shard, task, digits)]
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
    """A shard's bounds, once for each prefix that places between them begin with."""
    first = firsts[shard] if shard else "0" * _DIGITS
    end = firsts[shard + 1] if shard + 1 < len(firsts) else "g"  # beyond the last hexadecimal digit
    if not digits:
        return [("", first, end, shard, task)]
    low, high = int(first[:digits], 16), 16**digits - 1 if end == "g" else int(end[:digits], 16)
    return [(f"{prefix:0{digits}x}", first, end, shard, task) for prefix in range(low, high + 1)]


def plain_key(key: Column) -> Column:
    """A key that a tar member can bear: no dot, which ends a WebDataset key, and nothing that leaves the folder.

    The image's own ending goes; other signs that file systems do not take become `_`.
    """
    endings = "|".join(IMAGE_ENDINGS)
    bare = F.regexp_replace(key, rf"(?i)\.({endings})$", "")
    safe = F.regexp_replace(bare, r"[.\\:*?\"<>|\p{Cntrl}]", "_")
    return F.regexp_replace(F.regexp_replace(safe, "/+", "/"), "^/|/$", "")


def repeats(curated: DataFrame) -> DataFrame:
    """image_id of the images whose plain key another image has that comes before it (by source, then id)."""
    named = curated.select("image_id", "source", plain_key(F.col("key")).alias("plain"))
    first = F.min(F.struct("source", "image_id")).alias("first")
    shared = named.groupBy("plain").agg(first, F.count("*").alias("images")).where("images > 1")
    others = named.join(shared.select("plain", F.col("first.image_id").alias("owner")), "plain")
    return others.where("image_id != owner").select("image_id")


def keyed(rows: DataFrame, curated: DataFrame, layout: Layout) -> DataFrame:
    """The same rows with `export_key`, which no two images share: the plain key, or with the image_id behind it.

    That is put behind a key that another image has too, one that is empty or too long for the name of a file, and one
    that ends as if an image_id stood there already, since another image may be given this very key.

    Args:
        rows: image_id, key and more.
        curated: All images, so that a key is the same whichever rows are written.
        layout: Says whether any key is repeated.
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
    """As many whole characters as leave room for an image_id in a file's name."""
    most = _PART_BYTES - _SUFFIX_BYTES
    start = F.make_valid_utf8(F.substring(part.cast("binary"), 1, most).cast("string"))
    # A character that was cut in two is made U+FFFD.
    return F.when(F.octet_length(part) <= most, part).otherwise(F.regexp_replace(start, "\ufffd+$", ""))
