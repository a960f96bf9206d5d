import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs.commands.audit import command as audit
from jobs.commands.weigh import command as weigh
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.models_in_use import semantic_encoder
from jobs.runtime import config
from models.errors import WinnowError
from tests.builders.biased_lake import fill
from tests.builders.lake_rows import write_rows


def test_weights_correct_the_keyword_share_and_have_mean_one(job: Job, spark: SparkSession) -> None:
    fill(job)
    # The default ridge is for real data; on 600 rows it would be too strong.
    job = Job(job.lake, config.load(overrides=["weigh.regularisation=1.0"]), job.progress)
    summary = weigh.run(job)
    audited = audit.run(job)
    assert audited["keyword woman"].startswith("“woman” −18.") and "not undone" not in audited

    weights = {row.image_id: row.weight for row in job.lake.read(tables.WEIGHTS).collect()}
    assert len(weights) == summary["kept"] == 600 - 50 - 1
    assert np.mean(list(weights.values())) == pytest.approx(1.0, abs=1e-9)
    assert f"{1:032x}" not in weights and f"{0:032x}" not in weights

    shifts = {row.keyword: row for row in job.lake.read(tables.KEYWORD_SHIFT).collect()}
    # 'a' and 'outside' are in every caption. 'tree' is not listed, and moved as much as 'man'.
    assert set(shifts) == {"woman", "man", "tree"}
    assert [(shifts[k].topic, shifts[k].mover) for k in ("woman", "tree")] == [("gender", False), (None, True)]
    assert shifts["woman"].looks == 5 and shifts["woman"].adjusted < 1e-9
    woman = shifts["woman"]
    assert woman.shift == pytest.approx((150 / 549) / (200 / 599) - 1)
    assert woman.shift_low < woman.shift < woman.shift_high < 0
    assert abs(woman.weighted_shift) < 0.01 < abs(shifts["man"].shift)
    curated = job.lake.read(tables.CURATED)
    assert curated.count() == 549 and {"image_id", "weight", "caption", "part"} <= set(curated.columns)
    assert "image" not in curated.columns


@pytest.mark.slow
def test_second_run_changes_nothing_unless_settings_change(job: Job, spark: SparkSession) -> None:
    fill(job)
    first = weigh.run(job)
    version = job.lake.snapshot().version(tables.WEIGHTS)
    assert weigh.run(job) == first and job.lake.snapshot().version(tables.WEIGHTS) == version
    other = Job(job.lake, config.load(overrides=["weigh.max_weight=1.0001"]), job.progress)
    assert weigh.run(other)["clipped"] > 0 and job.lake.snapshot().version(tables.WEIGHTS) == version + 1  # type: ignore[operator]


@pytest.mark.slow
def test_stale_verdicts_or_duplicates_are_refused(job: Job, spark: SparkSession) -> None:
    fill(job)
    lake = job.lake
    lake.replace(tables.VERDICTS, lake.read(tables.VERDICTS), Recipe("filter", lake.snapshot().inputs(tables.IMAGES)))
    compared = Recipe("dedup", lake.snapshot().inputs(tables.IMAGES, tables.VERDICTS), {"encoder": "another"})
    lake.replace(tables.DUPLICATES, lake.read(tables.DUPLICATES), compared)
    with pytest.raises(WinnowError, match=r"with encoder another, but .*: run `winnow score` and `winnow dedup` first"):
        weigh.run(job)
    lake.replace(tables.DUPLICATES, lake.read(tables.DUPLICATES), Recipe("dedup", compared.inputs))
    stopped = Recipe("dedup", compared.inputs, {"max_distance": 60})
    lake.replace(tables.FILTERED_DUPLICATES, lake.read(tables.FILTERED_DUPLICATES), stopped)
    with pytest.raises(
        WinnowError, match="`winnow dedup` was stopped while it ran with other settings: run `winnow dedup`"
    ):
        weigh.run(job)
    lake.replace(tables.FILTERED_DUPLICATES, lake.read(tables.FILTERED_DUPLICATES), Recipe("dedup", compared.inputs))
    weigh.run(job)
    audit.run(job)

    lake.append(tables.IMAGES, lake.read(tables.IMAGES).limit(1), Recipe("ingest"))

    with pytest.raises(WinnowError, match="'verdicts' is older than images: run `winnow filter` first"):
        weigh.run(job)
    with pytest.raises(WinnowError, match="'weights' is older than images: run `winnow weigh` first"):
        audit.run(job)
    lake.replace(tables.VERDICTS, lake.read(tables.VERDICTS), Recipe("filter", lake.snapshot().inputs(tables.IMAGES)))
    with pytest.raises(WinnowError, match="'duplicates' is older than images, verdicts: run `winnow dedup` first"):
        weigh.run(job)


@pytest.mark.slow
def test_all_weights_are_one_if_nothing_is_filtered(job: Job, spark: SparkSession) -> None:
    fill(job)
    kept = job.lake.read(tables.VERDICTS).selectExpr("image_id", "true as kept", "reasons", "kept_because")
    job.lake.replace(tables.VERDICTS, kept, Recipe("test"))
    weigh.run(job)
    assert {row.weight for row in job.lake.read(tables.WEIGHTS).collect()} == {1.0}


@pytest.mark.slow
def test_weights_without_features_report_the_bias_as_not_undone(job: Job, spark: SparkSession) -> None:
    fill(job)
    job = Job(job.lake, config.load(overrides=["weigh.features=[]"]), job.progress)
    weigh.run(job)
    assert "“woman” −18." in str(audit.run(job)["not undone"])


@pytest.mark.slow
def test_images_beyond_reach_are_listed_with_their_nearest_kept_image(job: Job, spark: SparkSession) -> None:
    fill(job)
    encoder = semantic_encoder(job)
    east, north = ([1.0] + [0.0] * (encoder.dims - 1), [0.0, 1.0] + [0.0] * (encoder.dims - 2))
    # Every second filtered woman points in a direction without kept images.
    features = [(f"{n:032x}", encoder.digest, north if n % 24 == 0 else east) for n in range(600)]
    write_rows(job.lake, tables.FEATURES, features)
    weigh.run(Job(job.lake, config.load(overrides=['weigh.features=["caption","embedding"]']), job.progress))

    quality = job.lake.read(tables.WEIGHT_QUALITY).collect()[0]
    lost = job.lake.read(tables.BEYOND_REACH).collect()
    assert quality.beyond_reach == pytest.approx(0.5) and len(lost) == 25
    assert all(int(row.image_id, 16) % 24 == 0 and row.similarity == pytest.approx(0.0) for row in lost)
    bins = job.lake.read(tables.RELIABILITY).orderBy("low").collect()
    assert sum(row.images for row in bins) == 599 + 549
