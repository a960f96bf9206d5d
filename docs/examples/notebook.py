"""Looks into the lake that `winnow run /data/pictures --lake /data/lake` made, and compares other images with it.

Run it as a script, or cell by cell: VS Code, PyCharm and Jupyter (with jupytext) take `# %%` for the start of a cell.
"""

# %% [markdown]
# # The tables of a lake
# `open_lake` uses the Spark session that runs, or starts a local one.

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
# An image has all the reasons that apply to it. An image that is kept has none. A reason by a classifier tells the
# score, as in `cats: score 0.995 >= 0.420`, which is cut off here to count.

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
# There is a threshold for each category that has a classifier. The filter removes at least the share `recall_lower` of
# the category's images, with the given confidence.

# %%
if "thresholds" in lake.tables:
    thresholds = lake.pandas("thresholds", columns=["category", "threshold", "recall_lower", "confidence"])
    print(thresholds)

# %% [markdown]
# ## Hash images of your own
# `pdq` takes encoded images and gives a hash of 256 bits with its quality. Images of a quality below 50 are too plain
# to compare.

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
# Comparing every image with every other takes too long. Images that share the key of a band are candidate pairs, and
# only their distances are computed. PDQ's authors call two images the same up to 31 bits. More bands find more of the
# pairs.

# %%
theirs = (
    lake.spark("signals").where("pdq_quality >= 50").select(F.col("image_id").alias("id"), F.col("pdq").alias("hash"))
)


def band_keys(hashes):
    """One row for each image and band: id, hash, band, key."""
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
