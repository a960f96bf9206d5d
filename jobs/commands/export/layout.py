"""The shards of an export and the key of each image: they depend on the parts, the ids and the seed only."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import md5

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.sources.find import IMAGE_ENDINGS

_BROADCAST_ROWS = 500_000
_LONGEST_KEY = 160
_PART_BYTES = 250  # a file name may have 255 bytes; the longest ending is .webp
_SUFFIX_BYTES = 33
_SUFFIX = f"_[0-9a-f]{{{_SUFFIX_BYTES - 1}}}$"


@dataclass(frozen=True)
class ShardGroup:
    """Shards that hold the images of the same parts, mixed.

    Attributes:
        parts: Numbers of the parts, ascending.
        images: Number of images of these parts in the table curated.
        first: Number of the first shard.
        shards: Number of shards.
    """

    parts: tuple[int, ...]
    images: int
    first: int
    shards: int


@dataclass(frozen=True)
class Layout:
    """The shards of an export.

    Attributes:
        groups: The groups of shards, in order.
        repeated_keys: Number of images whose key an earlier image has.
    """

    groups: tuple[ShardGroup, ...]
    repeated_keys: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return sum(group.shards for group in self.groups)

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(group.images for group in self.groups)


def lay_out(curated: DataFrame, samples: int) -> Layout:
    """Divides the images among shards, part by part.

    Args:
        curated: image_id, part, key, source.
        samples: Images per shard at most.
    """
    counts = {int(row["part"]): int(row["count"]) for row in curated.groupBy("part").count().collect()}
    return Layout(tuple(shard_groups(counts, samples)), repeats(curated).count())


def shard_groups(counts: Mapping[int, int], samples: int) -> list[ShardGroup]:
    """Returns the groups of shards; small parts that follow each other share a group, so that shards are not tiny.

    Args:
        counts: Number of images of each part.
        samples: Images per shard at most; the shards of a group differ by one image at most.

    Examples:
        >>> shard_groups({0: 25, 1: 3, 2: 8, 3: 1}, 10)[1:]
        [ShardGroup(parts=(1, 2), images=11, first=3, shards=2), ShardGroup(parts=(3,), images=1, first=5, shards=1)]
    """
    groups: list[ShardGroup] = []
    parts: tuple[int, ...] = ()
    images = first = 0
    last = max(counts, default=0)
    for part, count in sorted(counts.items()):
        parts, images = (*parts, part), images + count
        if images >= samples or part == last:
            groups.append(ShardGroup(parts, images, first, -(-images // samples)))
            parts, images, first = (), 0, first + groups[-1].shards
    return groups


def place(seed: int, image_id: str) -> str:
    """Returns the place of an image in the shuffled order: 32 hexadecimal digits from its id and the seed.

    Training reads a shard from start to end, so neighbours must not come from the same source.
    """
    return md5(f"{seed}:{image_id}".encode(), usedforsecurity=False).hexdigest()


def places(ids: Iterable[str], group: ShardGroup, seed: int) -> dict[str, tuple[str, int]]:
    """Returns the place and the shard of each image of a group.

    Args:
        ids: The ids of all its images.
        group: The group.
        seed: Seed of the shuffled order.

    Examples:
        >>> found = places(["a", "b", "c"], ShardGroup((0,), 3, 7, 2), seed=1)
        >>> sorted(shard for _, shard in found.values())
        [7, 7, 8]
    """
    ordered = sorted((place(seed, image_id), image_id) for image_id in ids)
    return {
        image_id: (where, group.first + rank * group.shards // group.images)
        for rank, (where, image_id) in enumerate(ordered)
    }


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
