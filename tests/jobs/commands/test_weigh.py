import io

import numpy as np
import pytest
from pyspark.sql import SparkSession
from rich.console import Console
from scipy import sparse

from jobs.commands import audit, weigh
from jobs.facts import sentences
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.stats import probe
from tests.bench import weigh as simulation
from udfs.text.captions import Keywords


def test_the_cats_and_dogs_of_the_toy_example_get_weights_one_and_two() -> None:
    # Half cats, half dogs; the filter drops half of the dogs by something that the probe does not see.
    dog = np.array([0] * 3000 + [1] * 3000)
    kept = np.array([True] * 3000 + [True, False] * 1500)
    features = sparse.csr_matrix(np.concatenate([dog, dog[kept]])[:, None].astype(float))
    unfiltered = np.repeat([True, False], [6000, int(kept.sum())])
    folds = np.arange(len(unfiltered)) % 5
    probes, quality = probe.cross_fit(features, unfiltered, folds, regularisation=1.0)
    cat_weight, dog_weight = np.exp(probes[0].log_odds(sparse.csr_matrix([[0.0], [1.0]])))
    assert dog_weight / cat_weight == pytest.approx(2.0, rel=0.02)
    assert quality.calibration_error < 0.01


def test_weights_restore_the_mean_of_every_feature_even_where_one_nearly_tells_the_sides_apart() -> None:
    generator = np.random.default_rng(1)
    woman, bucket = generator.random(20_000) < 0.3, generator.random(20_000) < 0.1
    # Whoever holds a bucket is nearly always filtered out, and more women than others do.
    bucket |= woman & (generator.random(20_000) < 0.1)
    kept = ~(bucket & (generator.random(20_000) < 0.8))
    every = np.stack([woman, bucket], axis=1).astype(float)
    features = sparse.csr_matrix(np.concatenate([every, every[kept]]))
    fitted = probe.fit_probe(features, np.repeat([True, False], [20_000, int(kept.sum())]), regularisation=1.0)
    weights = np.exp(fitted.log_odds(sparse.csr_matrix(every[kept])))
    assert abs(woman[kept].mean() / woman.mean() - 1) > 0.05
    assert np.average(every[kept], axis=0, weights=weights) == pytest.approx(every.mean(axis=0), rel=0.01)


def test_words_in_all_or_nearly_all_captions_do_not_keep_the_fit_from_its_least() -> None:
    draw = np.random.default_rng(2)
    who = np.eye(3)[draw.choice(3, 40_000, p=[0.2, 0.2, 0.6])]
    kept = draw.random(40_000) < who @ [0.774, 0.846, 0.96]
    every = np.column_stack([who, np.ones(40_000), draw.random(40_000) < 0.9999])
    features = sparse.csr_matrix(np.concatenate([every, every[kept]]))
    fitted = probe.fit_probe(features, np.repeat([True, False], [40_000, int(kept.sum())]), regularisation=1.0)
    weights = np.exp(fitted.log_odds(every[kept]))
    assert fitted.coefficients[3] == 0.0
    assert np.average(who[kept], axis=0, weights=weights) == pytest.approx(who.mean(axis=0), rel=0.003)


def test_beyond_reach_counts_what_no_kept_image_resembles() -> None:
    generator = np.random.default_rng(0)
    cluster = generator.normal([5, 0, 0], 0.1, (200, 3))
    elsewhere = generator.normal([0, 5, 0], 0.1, (50, 3))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (cluster, elsewhere)]
    near, far = (rows.astype(np.float32) for rows in unit)
    among = near[:150] @ near[:150].T - 2 * np.eye(150)
    to_far, to_near = ((rows @ near[:150].T).max(axis=1) for rows in (far, near[150:]))
    assert probe.beyond_reach(to_far, among.max(axis=1)).all()
    assert probe.beyond_reach(to_near, among.max(axis=1)).mean() < 0.2


def test_a_calibrated_probe_has_a_reliability_curve_on_the_diagonal() -> None:
    draw = np.random.default_rng(0)
    word = draw.random(60_000) < 0.3
    kept = draw.random(60_000) < np.where(word, 0.6, 0.95)
    features = sparse.csr_matrix(np.concatenate([word, word[kept]])[:, None].astype(float))
    unfiltered = np.repeat([True, False], [60_000, int(kept.sum())])
    _, quality = probe.cross_fit(features, unfiltered, np.arange(len(unfiltered)) % 5, 1.0)
    assert sum(one.images for one in quality.reliability) == len(unfiltered)
    assert all(one.predicted == pytest.approx(one.observed, abs=0.02) for one in quality.reliability)
    assert quality.reliability[-1].predicted - quality.reliability[0].predicted > 0.1
    assert quality.calibration_error < 0.01


@pytest.mark.parametrize(("carried", "undone"), [(True, True), (False, False)])
def test_a_planted_bias_is_undone_on_a_held_out_half_or_said_not_to_be(carried: bool, undone: bool) -> None:
    planted = simulation.planted(100_000, carried, seed=3)
    rows = simulation.audited(planted, simulation.held_out_weights(planted))
    shifts = {row.keyword: row for row in rows}
    assert shifts["woman"].shift == pytest.approx(-0.14, abs=0.015)
    assert shifts["man"].shift == pytest.approx(-0.06, abs=0.015)
    before, after = ([abs(getattr(row, side)) for row in rows[:20]] for side in ("shift", "weighted_shift"))
    left = {row.keyword for row in sentences.not_undone(rows, 0.01, 0.8)}
    assert all(abs(shifts[who].weighted_shift) <= 0.01 for who in ("woman", "man")) == undone
    assert (np.median(before) / np.median(after) >= 5) == undone
    assert ("woman" in left and "man" in left) != undone


def _fill(job: Job, spark: SparkSession) -> None:
    """600 captions; the filter takes a quarter of the women and no one else; one man is a duplicate."""
    rows, verdicts = [], []
    for number in range(600):
        who = ("woman", "man", "tree")[number % 3]
        image_id = f"{number:032x}"
        rows.append((image_id, str(number), "s", f"A {who}, outside", b"x", 10, 10, "PNG", "{}"))
        verdicts.append((image_id, who != "woman" or number % 4 != 0, []))
    recipe = Recipe("test")
    images = spark.createDataFrame(rows, "image_id string, key string, source string, caption string, image binary, "
                                   "width int, height int, format string, meta string")  # fmt: skip
    job.lake.append(tables.IMAGES, _with_extra_columns(images), recipe)
    job.lake.append(tables.VERDICTS, spark.createDataFrame(verdicts, tables.VERDICTS.schema), recipe)
    duplicates = [(f"{1:032x}", f"{4:032x}", 3, "lsh")]
    job.lake.append(tables.DUPLICATES, spark.createDataFrame(duplicates, tables.DUPLICATES.schema), recipe)
    job.lake.append(tables.FILTERED_DUPLICATES, spark.createDataFrame([], tables.FILTERED_DUPLICATES.schema), recipe)


def _with_extra_columns(images):  # type: ignore[no-untyped-def]
    from pyspark.sql import functions as F

    for field in tables.IMAGES.schema.fields:
        if field.name not in images.columns:
            images = images.withColumn(field.name, F.lit(0).cast(field.dataType))
    return images


def test_weights_bring_the_keyword_back_and_average_to_one(job: Job, spark: SparkSession) -> None:
    _fill(job, spark)
    # The default ridge is for real data: on 600 rows it would show.
    job = Job(job.lake, config.load(overrides=["weigh.regularisation=1.0"]), job.progress)
    summary = weigh.run(job)
    audited = audit.run(job)
    assert audited["keyword woman"].startswith("“woman” −18.") and "not undone" not in audited

    weights = {row.image_id: row.weight for row in job.lake.read(tables.WEIGHTS).collect()}
    assert len(weights) == summary["kept"] == 600 - 50 - 1
    assert np.mean(list(weights.values())) == pytest.approx(1.0, abs=1e-9)
    assert f"{1:032x}" not in weights and f"{0:032x}" not in weights

    shifts = {row.keyword: row for row in job.lake.read(tables.KEYWORD_SHIFT).collect()}
    # 'a' and 'outside' stand in every caption; 'tree' was not listed, and stands out as much as 'man'.
    assert set(shifts) == {"woman", "man", "tree"}
    assert [(shifts[k].topic, shifts[k].mover) for k in ("woman", "tree")] == [("gender", False), (None, True)]
    assert shifts["woman"].looks == 5 and shifts["woman"].adjusted < 1e-9
    woman = shifts["woman"]
    assert woman.shift == pytest.approx((150 / 549) / (200 / 599) - 1)
    assert woman.shift_low < woman.shift < woman.shift_high < 0
    assert abs(woman.weighted_shift) < 0.01 < abs(shifts["man"].shift)
    curated = job.lake.read(tables.CURATED)
    assert curated.count() == 549 and {"image_id", "weight", "caption", "image"} <= set(curated.columns)


def test_keywords_are_found_whatever_stands_between_their_words_and_told_where_they_have_none(
    job: Job, spark: SparkSession
) -> None:
    _fill(job, spark)
    weigh.run(job)
    progress = Progress(Console(file=io.StringIO(), width=500))
    audit.run(Job(job.lake, config.load(overrides=['audit.keywords=["woman/outside", "&"]']), progress))

    # The captions have a comma between both words.
    captions = {row.keyword: row.captions for row in job.lake.read(tables.KEYWORD_SHIFT).collect()}
    assert captions["woman/outside"] == captions["woman"] > 0
    assert "audit: no letter or digit is in '&': no caption is searched for it" in progress.console.file.getvalue()


def test_a_second_run_changes_nothing_and_other_settings_do(job: Job, spark: SparkSession) -> None:
    _fill(job, spark)
    first = weigh.run(job)
    version = job.lake.snapshot().version(tables.WEIGHTS)
    assert weigh.run(job) == first and job.lake.snapshot().version(tables.WEIGHTS) == version
    other = Job(job.lake, config.load(overrides=["weigh.max_weight=1.0001"]), job.progress)
    assert weigh.run(other)["clipped"] > 0 and job.lake.snapshot().version(tables.WEIGHTS) == version + 1  # type: ignore[operator]


def test_what_was_judged_or_compared_before_images_came_is_not_weighed(job: Job, spark: SparkSession) -> None:
    _fill(job, spark)
    lake = job.lake
    lake.replace(tables.VERDICTS, lake.read(tables.VERDICTS), Recipe("filter", lake.snapshot().inputs(tables.IMAGES)))
    compared = Recipe("dedup", lake.snapshot().inputs(tables.IMAGES, tables.VERDICTS), {"encoder": "another"})
    lake.replace(tables.DUPLICATES, lake.read(tables.DUPLICATES), compared)
    with pytest.raises(WinnowError, match=r"with encoder another, but .*: run `winnow score` and `winnow dedup` first"):
        weigh.run(job)
    lake.replace(tables.DUPLICATES, lake.read(tables.DUPLICATES), Recipe("dedup", compared.inputs))
    stopped = Recipe("dedup", compared.inputs, {"max_distance": 60})
    lake.replace(tables.FILTERED_DUPLICATES, lake.read(tables.FILTERED_DUPLICATES), stopped)
    with pytest.raises(WinnowError, match="search for duplicates with other settings was stopped: run `winnow dedup`"):
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


def test_nothing_filtered_means_every_weight_is_one(job: Job, spark: SparkSession) -> None:
    _fill(job, spark)
    kept = job.lake.read(tables.VERDICTS).selectExpr("image_id", "true as kept", "reasons")
    job.lake.replace(tables.VERDICTS, kept, Recipe("test"))
    weigh.run(job)
    assert {row.weight for row in job.lake.read(tables.WEIGHTS).collect()} == {1.0}


def test_weights_that_do_not_see_the_bias_do_not_claim_to_undo_it(job: Job, spark: SparkSession) -> None:
    _fill(job, spark)
    job = Job(job.lake, config.load(overrides=["weigh.features=[]"]), job.progress)
    weigh.run(job)
    assert "“woman” −18." in str(audit.run(job)["not undone"])


def test_bootstrap_counts_do_not_depend_on_partitions(spark: SparkSession, settings: config.Settings) -> None:
    rows = [(f"{i:032x}", "a woman" if i % 3 else "a man", i % 5 > 0) for i in range(500)]
    reference = spark.createDataFrame(rows, "image_id string, caption string, kept boolean")
    weights = reference.where("kept").selectExpr("image_id", "1.25D as weight")
    one, many = (
        audit.keyword_counts(
            audit.with_tokens(reference.repartition(n), weights), Keywords(("woman", "man")), settings.audit, 0
        )
        .orderBy("keyword", "resample")
        .collect()
        for n in (1, 7)
    )
    assert one == many
    totals = [row for row in one if row.keyword == -1 and row.resample == 0]
    assert (totals[0].unfiltered, totals[0].filtered, totals[0].weighted) == (500, 400, 500_000_000)


def test_a_word_is_weighed_by_if_it_kept_its_share_whatever_the_filter_took_of_all(
    spark: SparkSession, settings: config.Settings
) -> None:
    # Half of everything is dropped, of "slime" nine in ten.
    rows = [(["slime" if i % 2 else "cat"], i % 20 in (1, 0, 2, 4, 6, 8, 10, 12, 14, 16)) for i in range(2000)]
    frame = spark.createDataFrame(rows, "words array<string>, kept boolean")
    assert weigh.vocabulary(frame, settings.weigh, kept=0.5) == ("cat",)


def test_what_is_removed_and_like_nothing_that_is_kept_is_named_with_its_nearest(job: Job, spark: SparkSession) -> None:
    _fill(job, spark)
    from jobs.models_in_use import current_encoder

    encoder = current_encoder(job)
    east, north = ([1.0] + [0.0] * (encoder.dims - 1), [0.0, 1.0] + [0.0] * (encoder.dims - 2))
    # Every second woman of those that are filtered points where no kept image points.
    signals = [
        (f"{n:032x}", bytes(32), 90, encoder.digest, north if n % 24 == 0 else east, bytes(32), "", None)
        for n in range(600)
    ]
    job.lake.append(tables.SIGNALS, spark.createDataFrame(signals, tables.SIGNALS.schema), Recipe("test"))
    weigh.run(Job(job.lake, config.load(overrides=['weigh.features=["caption","embedding"]']), job.progress))

    quality = job.lake.read(tables.WEIGHT_QUALITY).collect()[0]
    lost = job.lake.read(tables.BEYOND_REACH).collect()
    assert quality.beyond_reach == pytest.approx(0.5) and len(lost) == 25
    assert all(int(row.image_id, 16) % 24 == 0 and row.similarity == pytest.approx(0.0) for row in lost)
    bins = job.lake.read(tables.RELIABILITY).orderBy("low").collect()
    assert sum(row.images for row in bins) == 599 + 549
