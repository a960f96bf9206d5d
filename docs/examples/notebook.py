"""Explore the lake that `winnow run /data/pictures --lake /data/lake` made, and compare other images with it.

Run this file as a script, or cell by cell: in VS Code, PyCharm and Jupyter (with jupytext), `# %%` starts a cell.
"""

# %% [markdown]
# # The tables of a lake
# `open_lake` uses the running Spark session, or starts a local one.

# %%
from pyspark.sql import functions as F

from winnow import hamming, minhash_bands, open_lake, pdq

LAKE = "/data/lake"
IMAGES = "/data/new-pictures"

lake = open_lake(LAKE)
for name, meaning in lake.tables.items():
    print(f"{name}: {meaning}")

# %% [markdown]
# ## What the filter removed, and why
# A removed image has every reason that applies to it. A kept image has none. The reason of a classifier contains the
# score, as in `cats: score 0.995 >= 0.420`. This cell cuts the score off, so that it can count the reasons.

# %%
reasons = (
    lake.spark("verdicts")
    .select(F.explode("reasons").alias("reason"))
    .select(F.regexp_replace("reason", " [0-9.]+ >= .*", "").alias("reason"))
    .groupBy("reason")
    .count()
    .orderBy(F.desc("count"), "reason")
    .toPandas()
)
print(reasons)

# %% [markdown]
# ## Thresholds
# Each category with a classifier has a threshold. The filter removes at least the share `recall_lower` of the images of
# the category, with the given confidence. The bound is unknown (null) for a threshold that is set in the settings,
# until a label of the random sample is positive.

# %%
if "thresholds" in lake.tables:
    thresholds = lake.pandas("thresholds", columns=["category", "threshold", "recall_lower", "confidence"])
    print(thresholds)

# %% [markdown]
# ## Hash images of your own
# `pdq` takes encoded images and returns a hash of 256 bits with its quality. Images with a quality below 50 are too
# plain to compare.

# %%
files = (
    lake.session.read.format("binaryFile")
    .option("recursiveFileLookup", "true")
    .option("pathGlobFilter", "*.{jpg,jpeg,png,webp}")
    .load(IMAGES)
)
hashed = files.select("path", pdq("content").alias("pdq"))
mine = hashed.where("pdq.quality >= 50").select(F.col("path").alias("id"), "pdq.hash")

# %% [markdown]
# ## Which of them are near-duplicates of images in the lake?
# Comparing every image with every other takes too long. Two images that share the key of a band are a candidate pair,
# and only the distances of candidate pairs are computed. PDQ's authors call two images the same up to 31 bits. More
# bands find more of the pairs.

# %%
theirs = (
    lake.spark("signals").where("pdq_quality >= 50").select(F.col("image_id").alias("id"), F.col("pdq").alias("hash"))
)


def band_keys(hashes):
    """Returns one row for each image and band: id, hash, band, key."""
    return hashes.select("id", "hash", F.posexplode(minhash_bands("hash", bands=40, rows=14)).alias("band", "key"))


candidates = (
    band_keys(mine)
    .alias("mine")
    .join(band_keys(theirs).alias("theirs"), ["band", "key"])
    .select(
        F.col("mine.id").alias("path"),
        F.col("theirs.id").alias("image_id"),
        F.col("mine.hash").alias("a"),
        F.col("theirs.hash").alias("b"),
    )
    .distinct()
)
near = (
    candidates.select("path", "image_id", hamming("a", "b").alias("distance"))
    .where("distance <= 31")
    .orderBy("distance", "path", "image_id")
    .toPandas()
)
print(near)
