"""The report: numbers add up, captions are escaped, the page works offline and fits every screen."""

import base64
import hashlib
import io
import math
import random
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from pyspark.sql import functions as F

from jobs.commands import report
from jobs.facts import gather, sentences
from jobs.facts.funnel import Funnel
from jobs.facts.gather import Facts
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe, Version
from jobs.pages import thumbnails
from jobs.runtime.config import Settings, load
from jobs.runtime.progress import Progress
from models.stats import thresholds
from tests.builders.chromium import needs_chromium
from tests.builders.lake_rows import write_rows

CATEGORY = 'categories.fireworks={definition="Pictures that show fireworks that burn."}'
HOSTILE = [
    '<script>document.title = "owned"</script><img src=x onerror="alert(1)">',
    "\"quotes\" and 'apostrophes' & {{ 7 * 7 }} {% raw %}",
    "\u202eright to left override \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "long " * 2000,
    "nul \x00 and\nnewline \U0001f600",
    "W" * 10_000,
]


def identity(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def picture(number: int) -> bytes:
    draw_random = random.Random(number)
    size = draw_random.choice([(160, 120), (120, 160), (128, 128), (240, 100)])
    image = Image.new("RGB", size, tuple(draw_random.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = draw_random.randrange(size[0]), draw_random.randrange(size[1])
        shape = draw_random.choice([pen.ellipse, pen.rectangle])
        shape((x - 30, y - 20, x + 30, y + 20), fill=tuple(draw_random.randrange(256) for _ in range(3)))
    buffer = io.BytesIO()
    image.save(buffer, draw_random.choice(["PNG", "JPEG"]))
    return buffer.getvalue()


def plausible_rows(count: int) -> dict[tables.Table, list[tuple[Any, ...]]]:
    """Returns rows of every table that the report reads: a tenth filtered, a fifth duplicates of kept images."""
    ids = [identity(n) for n in range(count)]
    noise = random.Random(0)
    filtered, doubles = ids[: count // 10], ids[count // 10 : count // 10 + count // 5]
    keepers = ids[count // 10 + count // 5 :]
    groups = [keepers[int(len(keepers) * noise.random() ** 3)] for _ in doubles]
    duplicates = [(r, k, noise.randrange(0, 49), "lsh") for r, k in zip(doubles, groups, strict=True)]
    answers = ["different", "unsure", *["same"] * (len(doubles) - 2)]
    pairs = [(*sorted((r, k)), d) for r, k, d, _ in duplicates]
    captions = [*HOSTILE, None, ""]
    images = [
        (i, f"{n:05}.jpg", "file:/pictures", captions[n] if n < len(captions) else f"A drawing, number {n}",
         picture(n), 160, 120, "PNG", "{}")
        for n, i in enumerate(ids)
    ]  # fmt: skip
    scores = [(i, "fireworks", "digest-of-a-classifier", 0.3 + 0.7 * noise.random() ** 0.3) for i in filtered]
    scores += [(i, "fireworks", "digest-of-a-classifier", 0.29 * noise.random() ** 6) for i in ids[len(filtered) :]]
    weights = [(i, 2 ** noise.gauss(0, 0.6)) for i in keepers]
    when = datetime(2026, 1, 2)
    bad = [("file:/pictures", f"bad{n}.jpg", "ingest", r, f"detail <b>{n}</b>", None)
           for n, r in enumerate(["truncated"] * 5 + ["not an image"] * 2 + ["empty"])]  # fmt: skip
    return {
        tables.IMAGES: images,
        tables.QUARANTINE: bad,
        tables.SOURCES: [("file:/pictures", count + len(bad) + 3, count, 3, len(bad), when)],
        tables.SIGNALS: [(i, bytes(32), 90, "digest-of-an-encoder", [1.0], bytes(32)) for i in ids],
        tables.SCORES: scores,
        tables.LABELS: [(i, "fireworks", i in filtered, "random", "test", when) for i in ids[: count // 3]],
        tables.THRESHOLDS: [("fireworks", "digest-of-a-classifier", 0.2954, 0.9537, 0.95, 312, 4012, 3, 8)],
        tables.VERDICTS: [
            (i, i not in filtered, ["fireworks: labelled", "fireworks: score 0.9 >= 0.3"] if i in filtered else [])
            for i in ids
        ],
        tables.DECISIONS: [
            (ids[0], "drop", "a <b>logo</b>", "anna", when),
            (keepers[0], "keep", "not a firework", "ben", when + timedelta(days=1)),
            (keepers[1], "keep", "a mistake", "ben", when),
            (keepers[1], "withdrawn", "seen again", "ben", when + timedelta(days=1)),
        ],
        tables.PAIRS: [(min(r, k), max(r, k), d, m) for r, k, d, m in duplicates],
        tables.DUPLICATES: duplicates,
        tables.DEDUP_QUALITY: [
            ("both", 50, 1000, 315, 312, 0.9905, 0.972, 0.998, 4410, 40, 14, 81234, 0, 2, 8, True, 7, 2),
            ("clusters", 50, 1000, 315, 291, 0.9238, 0.889, 0.95, 4410, None, None, 61234, 0, 2, 8, False),
            ("clusters", 50, 1000, 315, 262, 0.8317, 0.786, 0.871, 4410, None, None, 31234, 0, 1, 8, False),
        ],
        tables.DEDUP_DISTANCES: [(44, 30, 30), (50, 12, 11), (52, 9, 0), (60, 40, 0)],
        tables.NEAR_MISSES: [(keepers[0], keepers[1], 53), (keepers[2], keepers[3], 51)],
        tables.PAIR_QUEUE: [
            (*pair, "random", "why", 0, place, "batch", when) for place, pair in enumerate(pairs)
        ],
        tables.PAIR_LABELS: [
            (a, b, answer, "random", "ann", when) for (a, b, _), answer in zip(pairs, answers, strict=False)
        ] + [(*keepers[:2], "same", "threshold", "ann", when), ("gone", "too", "same", "random", "ann", when)],
        tables.WEIGHTS: weights,
        tables.WEIGHT_QUALITY: [
            (len(keepers), len(keepers), len(keepers) * 0.89, 2, 10.0, 0.612, 0.011, 0.042, ["caption"])
        ],
        tables.RELIABILITY: [
            (0.44, 0.48, 40, 0.47, 0.45), (0.48, 0.52, 41, 0.502, 0.49), (0.52, 0.6, 40, 0.55, 0.58)
        ],
        tables.BEYOND_REACH: [(i, k, s) for i, k, s in zip(filtered, keepers, (0.31, 0.12, 0.2), strict=False)],
        tables.KEYWORD_SHIFT: [
            ("woman", 0.21, 0.18, 0.209, -0.142, -0.15, -0.133, -0.004, -0.013, 0.005, 812, "gender", False, 1e-9, 300),
            ("man", 0.2, 0.188, 0.2, -0.061, -0.071, -0.052, 0.002, -0.008, 0.011, 803, "gender", False, 1e-6, 300),
            ("child", 0.08, 0.082, 0.08, 0.021, 0.008, 0.034, 0.001, -0.012, 0.015, 301, "age", False, 0.02, 300),
            ("people", 0.05, 0.05, 0.05, 0.004, -0.013, 0.021, 0.0, -0.017, 0.018, 190, "people", False, 0.9, 300),
            ("<b>girl</b> car", 0.01, 0.01, 0.01, -0.01, -0.06, 0.04, 0.0, -0.05, 0.05, 40, "age", False, 1.0, 300),
            ("zebra", 0.0, 0.0, 0.0, None, None, None, None, None, None, 0, "yours", False, None, 300),
            ("kitchen", 0.04, 0.03, 0.04, -0.16, -0.2, -0.1, 0.08, 0.03, 0.13, 400, None, True, 0.0003, 300),
            ("<i>sink</i>", 0.04, 0.02, 0.04, -0.19, -0.3, -0.1, 0.0, -0.1, 0.1, 400, None, True, 0.0012, 300),
        ],
        **regurgitated(ids, min(40, count - 1)),
    }  # fmt: skip


def regurgitated(ids: list[str], count: int) -> dict[tables.Table, list[tuple[Any, ...]]]:
    """Returns generated images with two neighbours each: every tenth is a copy; the first 20 name their prompt."""
    rows = []
    for n in range(count):
        copy = n % 10 == 0
        prompt = ids[n] if n < 20 else None
        rows += [
            (f"g{n}", ids[n], 5 + n if copy else 70 + n, 0.95 - n / 100, 1, copy, "hash", "made", prompt),
            (f"g{n}", ids[n + 1], 90, 0.2, 2, False, "hash", "made", prompt),
        ]
    small = io.BytesIO()
    Image.new("RGB", (90, 60), "teal").save(small, "WEBP")
    best = sorted((row for row in rows if row[4] == 1), key=lambda row: (not row[5], -row[3]))
    pairs = [
        (place, row[0], "made", HOSTILE[place % len(HOSTILE)], small.getvalue() if place else None, row[1], "key",
         "kept", row[2], row[3], row[5], row[8], 0.97 if row[5] else None)
        for place, row in enumerate(best)
    ]  # fmt: skip
    fault = ("made", "broken", "ingest", "truncated", "")
    return {
        tables.REGURGITATION: rows,
        tables.REGURGITATION_PAIRS: pairs,
        tables.REGURGITATION_FAULTS: [fault],
    }


def append(lake: Lake, table: tables.Table, rows: list[tuple[Any, ...]]) -> None:
    # New columns of a table stay empty here.
    padded = [row + (None,) * (len(table.schema) - len(row)) for row in rows]
    result = {
        "fireworks: escapes at most": "0.123% of all images",
        "fireworks: precision about": "90.0% (80.0% to 95.0%)",
    }
    recipe = Recipe(
        table.maker, {"images": Version(version=0, id="an-id")}, result=result if table == tables.THRESHOLDS else {}
    )
    write_rows(lake, table, padded, recipe)


def write_lake(lake: Lake, count: int) -> None:
    for table, rows in plausible_rows(count).items():
        append(lake, table, rows)


def with_category(lake: Lake, *overrides: str) -> Job:
    settings = load(overrides=[CATEGORY, "spark.conf={\"spark.hadoop.fs.s3a.secret.key\"='hunter2'}", *overrides])
    return Job(lake, settings, Progress())


def html_of(job: Job) -> str:
    address = report.run(job)["report"]
    return Path(str(address).removeprefix("file:")).read_text("utf-8")


@pytest.fixture(scope="module")
def full(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Job:
    lake = Lake(spark, str(tmp_path_factory.mktemp("report") / "lake"))
    write_lake(lake, 60)
    return with_category(lake)


@pytest.fixture(scope="module")
def page(full: Job) -> str:
    return html_of(full)


@pytest.fixture(scope="module")
def facts(full: Job) -> Facts:
    return gather.gather(full.lake, full.settings)


def test_the_counts_of_the_funnel_add_up(facts: Facts, page: str) -> None:
    funnel = facts.funnel

    assert funnel == Funnel(
        rows_read=71, repeats=3, quarantined=8, images=60, judged=60, filtered=6, duplicates=12, weighed=42,
        filtered_by={"fireworks": 6},
    )  # fmt: skip
    assert funnel.gaps == ()
    filtered = "6 filtered (10.0\u00a0% of the images), 12 duplicates, 3 repeats, 8 quarantined."
    assert f"Of 71 rows read, 42 images are kept. Not kept: {filtered}" in page
    assert "do not add up" not in page


def test_the_page_opens_with_the_name_of_the_set_and_images_before_and_after(facts: Facts, page: str) -> None:
    assert facts.opening.name == "pictures" and "<h1>pictures</h1>" in page
    results = {result for _, result in facts.opening.before}
    assert len(facts.opening.before) == len(facts.opening.after) == 12 and results <= {"kept", "filtered", "duplicate"}
    kept = [image_id for image_id, result in facts.opening.before if result == "kept"]
    assert kept and kept == list(facts.opening.after)[: len(kept)], "an image that stays is in both"
    header = page[page.index("<header>") : page.index("</header>")]
    assert header.count('class="pic open"') == len(kept) + 12 and header.count('class="pic gone"') == 12 - len(kept)
    assert 'for="show"' in header


def test_every_image_has_its_key_and_a_command_that_explains_it(facts: Facts, page: str) -> None:
    figures, commands = (
        page.count('<figure class="pic'),
        re.findall(r"<code>winnow explain ([0-9a-f]{12}) --lake", page),
    )
    generated = page.count("<figcaption>generated</figcaption>")
    assert len(commands) == figures - generated and set(commands) <= {identity(n)[:12] for n in range(60)}
    assert re.search(r'<summary title="\d{5}.jpg">\d{5}.jpg</summary>', page)


def test_the_sizes_of_tables_are_shown(facts: Facts, page: str) -> None:
    assert all(one.size and one.size > 100 for one in facts.provenance)
    assert re.search(r"On disk: files of earlier versions included, [\d.,]+ [kM]B in all", page)


def test_a_ready_made_category_differs_from_no_default() -> None:
    plain, own = (report.flat_settings(load(overrides=more, categories=["nsfw"]))
                  for more in ([], ["categories.nsfw.threshold=0.9"]))  # fmt: skip
    assert not [one for one in plain if one.changed]
    assert [f"{one.section}.{one.key}" for one in own if one.changed] == ["categories.nsfw.threshold"]


def test_without_a_removed_duplicate_distances_curve_and_near_misses_are_shown(lake: Lake) -> None:
    rows = plausible_rows(30)
    for table in (tables.IMAGES, tables.PAIRS, tables.DEDUP_QUALITY, tables.DEDUP_DISTANCES, tables.NEAR_MISSES):
        append(lake, table, rows[table])
    append(lake, tables.VERDICTS, [(identity(n), True, []) for n in range(30)])
    append(lake, tables.DUPLICATES, [])
    html = html_of(with_category(lake))
    section = html[html.index('<section id="duplicates"') : html.index('<section id="keywords"')]
    assert "No image is removed as a near-duplicate: in each of the 6 pairs found, one image at most passed" in section
    for shown in ("Pairs found, by distance", "pairs of the sampled hashes, by distance", "Just beyond the threshold"):
        assert shown in section
    assert "Nearest to the threshold" not in section


def test_counts_that_do_not_add_up_are_reported() -> None:
    funnel = Funnel(rows_read=10, repeats=0, quarantined=1, images=8, judged=7, filtered=1, duplicates=2, weighed=4)

    assert len(funnel.gaps) == 3
    assert "10 rows were read, but there are 8 images, 0 repeats and 1 quarantined" in funnel.gaps[0]


def test_the_report_of_an_empty_lake_names_the_command_for_each_section(job: Job) -> None:
    html = html_of(job)

    for command in ("ingest SOURCE", "dedup", "weigh", "audit", "score", "regurgitation GENERATED"):
        assert f"<code>winnow {command}</code>" in html
    assert "<img" not in html


@pytest.mark.slow
def test_the_report_of_empty_tables_is_written(lake: Lake, settings: Settings) -> None:
    for table in tables.ALL:
        append(lake, table, [])

    html = html_of(with_category(lake))

    assert "Of 0 rows read, 0 images are kept." in html
    assert "<code>winnow train fireworks</code>" in html


def test_captions_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert "onerror=&#34;alert(1)" in page
    assert "detail &lt;b&gt;" in page
    assert "W" * 300 not in page
    assert not re.search(r"[\x00-\x08]", page)


def test_the_page_loads_nothing_from_outside(page: str) -> None:
    assert len(page.encode()) < 10_000_000
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"url\(|@import|https?://", page)


def test_secrets_in_the_settings_are_hidden(page: str) -> None:
    assert "fs.s3a.secret.key" in page
    assert "hunter2" not in page


def settings_shown(*overrides: str) -> dict[str, str]:
    return {f"{one.section}.{one.key}": one.value for one in report.flat_settings(load(overrides=overrides))}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fs.azure.account.key.mystore.dfs.core.windows.net", "aHVudGVyMg=="),
        ("spark.jars.repositories", "https://user:hunter2@registry.example/maven"),
        ("spark.driver.extraJavaOptions", "-Djavax.net.ssl.keyStorePassword=hunter2"),
        ("spark.executorEnv.API_KEY", "20260102"),
        ("spark.ssl.keyPassword", "1234"),
        ("spark.app.name", "512m of hunter2"),
    ],
)
def test_a_spark_setting_that_may_be_secret_is_shown_without_its_value(name: str, value: str) -> None:
    assert settings_shown(f"spark.conf.{name}={value}")[f"spark.conf.{name}"] == "(hidden)"


def test_a_spark_setting_that_cannot_be_secret_is_shown_with_its_value() -> None:
    harmless = {"spark.executor.memory": "8g", "spark.speculation": "true", "spark.network.timeout": "120s",
                "spark.memory.fraction": "0.6", "spark.sql.autoBroadcastJoinThreshold": "-1"}  # fmt: skip
    shown = settings_shown(
        'categories.disaster={definition="Floods and fires."}',
        *[f"spark.conf.{name}={value}" for name, value in harmless.items()],
    )

    assert {name: shown[f"spark.conf.{name}"] for name in harmless} == harmless
    assert shown["categories.disaster.definition"] == "Floods and fires."
    assert "(hidden)" not in shown.values()


def test_thumbnails_are_small_and_keep_the_aspect_ratio(page: str) -> None:
    uris = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    sizes = {Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in uris}

    assert len(uris) > 50
    assert {(160, 120), (120, 160), (192, 80)} <= sizes
    assert max(max(size) for size in sizes) <= 192


@pytest.mark.slow
def test_the_facts_are_the_same_in_every_run(full: Job, facts: Facts) -> None:
    again = gather.gather(full.lake, full.settings)

    assert again == facts


def test_the_images_shown_are_the_nearest_to_the_threshold(facts: Facts) -> None:
    [category] = facts.categories
    dropped = [sample.value for sample in category.dropped_nearest]
    kept = [sample.value for sample in category.kept_nearest]

    assert category.dropped == 6 and category.scored == 60
    assert dropped == sorted(dropped) and min(dropped) >= 0.2954
    assert kept == sorted(kept, reverse=True) and max(kept) < 0.2954
    assert (category.random_positives, category.random_negatives) == (6, 14)


def test_the_page_shows_the_threshold_with_the_digits_that_its_scores_need(facts: Facts, page: str) -> None:
    [category] = facts.categories
    decimals = sentences.score_decimals(category)
    section = page[page.index("<h4>Removed, nearest") : page.index('<section id="duplicates"')]
    shown = [float(text) for text in re.findall(r"<figcaption>([\d.]+)</figcaption>", section)]
    removed = len(category.dropped_nearest)

    assert f"<dt>Threshold</dt><dd>{0.2954:.{decimals}f}</dd>" in page
    assert len(shown) == removed + len(category.kept_nearest)
    assert min(shown[:removed]) >= 0.2954 > max(shown[removed:])


def test_the_page_shows_escape_bound_and_precision(page: str) -> None:
    assert "At most 0.123\u00a0% of all images belong to this category but are kept." in page
    assert "about 90.0\u00a0% (80.0\u00a0% to 95.0\u00a0%) belong to this category" in page


def test_the_page_shows_how_many_missed_pairs_remain(page: str) -> None:
    assert "2 missed pairs remain in the set." in page


def test_the_page_shows_the_seconds_of_each_table(facts: Facts, page: str) -> None:
    assert all(one.seconds is not None and one.seconds >= 0 for one in facts.provenance)
    assert '<th class="n">Seconds</th>' in page


def test_the_page_lists_the_decisions_that_stand_newest_first(facts: Facts, page: str) -> None:
    assert facts.decisions is not None and [row.decision for row in facts.decisions.newest] == ["keep", "drop"]
    section = page[page.index('<h3 id="decisions"') : page.index('<section id="duplicates"')]
    assert "By decision of people, 1 image is kept whatever the filter says, and 1 image is filtered." in section
    assert section.count("<img") == 2 and section.index("not a firework") < section.index("a &lt;b&gt;logo&lt;/b&gt;")
    assert "<td>2026-01-03 00:00</td>" in section and "a mistake" not in section


def test_each_group_is_shown_once_with_its_farthest_duplicate_first(facts: Facts) -> None:
    duplicates = facts.duplicates

    assert duplicates is not None
    shown = [group.kept_id for group in (*duplicates.largest, *duplicates.random, *duplicates.farthest)]
    assert len(shown) == len(set(shown)) == duplicates.groups
    for group in (*duplicates.largest, *duplicates.random, *duplicates.farthest):
        assert group.members[0][1] == group.farthest
        assert group.size == len(group.members) + group.hidden
    assert sum(count for _, count in duplicates.pair_distances) == duplicates.removed == 12


def test_watched_words_come_before_movers(facts: Facts, page: str) -> None:
    assert facts.keywords is not None
    assert [row.keyword for row in facts.keywords.watched[:3]] == ["woman", "man", "child"]
    assert {row.keyword for row in facts.keywords.movers} == {"kitchen", "<i>sink</i>"}
    overview = page[page.index('class="findings"') : page.index('<section id="quarantine"')]
    assert "“woman”" in overview and "“man”" in overview and "kitchen" not in overview
    found = page[page.index("<h4>Movers") : page.index('<section id="weights"')]
    assert "kitchen" in found and "&lt;i&gt;sink&lt;/i&gt;" in found and "woman" not in found
    assert "found among 300 frequent words" in found


def test_the_page_names_words_that_weighing_does_not_correct(page: str) -> None:
    assert "After weighing, 1 word is still off by more than 1\u00a0%: “kitchen” +8.0" in page


def test_the_probe_is_shown_with_its_calibration(facts: Facts, page: str) -> None:
    assert facts.weights is not None
    low, high = facts.weights.reliability[0].interval
    assert [one.images for one in facts.weights.reliability] == [40, 41, 40] and low < 18 / 40 < high
    assert "Expected calibration error: 1.1\u00a0%." in page
    assert page.count('class="after"><title>predicted') == 3


def test_images_beyond_reach_are_beside_their_nearest_image_least_similar_first(facts: Facts, page: str) -> None:
    assert facts.weights is not None
    assert [round(lost.similarity, 2) for lost in facts.weights.lost] == [0.12, 0.2, 0.31]
    section = page[page.index("<h4>Beyond reach") : page.index('<section id="regurgitation"')]
    assert section.count("<img") == 2 * len(facts.weights.lost)


def test_a_lower_bound_is_rounded_down(page: str) -> None:
    assert "<dt>Recall, at least</dt><dd>95.3 %</dd>" in page  # 95.37 %


def test_generated_images_are_beside_the_images_of_the_lake(facts: Facts, page: str) -> None:
    given = facts.regurgitation
    assert given is not None
    assert (given.compared, given.copies, given.own, given.undecodable) == (40, 4, 2, 1)
    assert given.bound == pytest.approx(0.2144, abs=1e-4)  # exact binomial, 4 of 40, 95 %
    assert {one.distance: (one.copies, one.others) for one in given.nearest}[5] == (1, 0)
    assert sum(one.others for one in given.nearest) == 36
    section = page[page.index('<section id="regurgitation"') :]
    assert "4 of 40 generated images are copies of images of this lake" in section
    assert "<dt>Rate of copies, at most</dt><dd>22 %</dd>" in section  # a bound is rounded up
    assert section.count("<article") == 4 + len(given.shown_others) == 16
    assert section.count(">generated</figcaption>") == 16 and "no image</span>" in section


def test_a_key_that_holds_a_whole_image_is_cut(lake: Lake) -> None:
    key = "data:image/png;base64," + "A" * 1_000_000
    rows = plausible_rows(4)
    bad = rows[tables.QUARANTINE][0]
    append(lake, tables.QUARANTINE, [(bad[0], key, *bad[2:])])
    append(lake, tables.REGURGITATION, [(key, *row[1:]) for row in rows[tables.REGURGITATION]])
    pairs = [(row[0], key, row[2], None, *row[4:]) for row in rows[tables.REGURGITATION_PAIRS]]
    append(lake, tables.REGURGITATION_PAIRS, pairs)

    html = html_of(with_category(lake))

    assert html.count(f"{key[:159]}…") == 2 * len(pairs) + 1
    assert key[:160] not in html


def test_every_chart_has_its_table(page: str) -> None:
    charts = re.findall(r'<figure class="plot.*?</figure>\s*(.{0,40})', page, re.S)

    assert len(charts) == 9
    assert all(after.startswith("<details><summary>Table") for after in charts)


def test_the_precision_of_labelled_pairs_is_shown_with_its_interval_and_by_distance(facts: Facts, page: str) -> None:
    assert facts.duplicates is not None and facts.duplicates.labelled is not None
    labelled = facts.duplicates.labelled
    assert (labelled.same, labelled.different, labelled.unsure, labelled.unpaired) == (10, 1, 1, 1)
    low, high = thresholds.interval(10, 12, 0.95)[0], thresholds.interval(11, 12, 0.95)[1]
    interval = f"precision 90.9&#8239;% [{100 * low:.1f}, {100 * high:.1f}]".replace("&#8239;", " ")
    assert interval in page.replace("\u202f", " ").replace("&nbsp;", " ").replace("\xa0", " ")
    section = page[page.index("Precision by distance") : page.index("Near-duplicate pairs of the sampled hashes")]
    assert sum(share.same for share in labelled.shares) == 11  # the near miss counts here only
    assert "1 labelled pair is not counted" in section
    [wrong] = labelled.wrong
    shown = section[section.index("Removed, but another image") :]
    assert shown.count("<img") == 2 and wrong.removed_id[:12] in shown


def test_the_report_says_how_to_measure_precision(lake: Lake, settings: Settings) -> None:
    rows = plausible_rows(20)
    for table in (tables.IMAGES, tables.SOURCES, tables.DUPLICATES, tables.DEDUP_QUALITY):
        append(lake, table, rows[table])

    assert "<code>winnow label next duplicates</code>" in html_of(Job(lake, settings, Progress()))


def test_copies_among_pairs_told_apart_are_counted_and_shown_with_commands_that_drop_them(
    lake: Lake, settings: Settings
) -> None:
    rows = plausible_rows(40)
    a, b, *others = (row[0] for row in rows[tables.IMAGES])
    when = datetime(2026, 1, 2)
    apart = [(a, b), *zip(others[::2], others[1::2], strict=True)][:10]
    rows[tables.DEDUP_QUALITY] = [(*rows[tables.DEDUP_QUALITY][0], 0, 22, 3000, 2000)]
    for table in (tables.IMAGES, tables.SOURCES, tables.DUPLICATES, tables.DEDUP_QUALITY):
        append(lake, table, rows[table])
    append(lake, tables.TOLD_APART, [(*sorted(pair), 40, False) for pair in apart])
    job = Job(lake, settings, Progress())

    assert "<code>winnow label next duplicates --strategy told-apart</code>" in html_of(job)

    append(lake, tables.PAIR_QUEUE, [
        (*sorted(pair), 40, "told-apart", "why", 0, n, "batch", when) for n, pair in enumerate(apart)
    ])  # fmt: skip
    append(lake, tables.PAIR_LABELS, [
        (*sorted(pair), "different" if n else "same", "told-apart", "ann", when) for n, pair in enumerate(apart)
    ])  # fmt: skip
    page = html_of(job)
    plain = page.replace("&#8239;", " ").replace("\u202f", " ").replace("&nbsp;", " ").replace("\xa0", " ")

    low, high = thresholds.interval(1, 10, 0.95)
    assert "Of 10 pairs drawn at random from the 2,000 that thumbnails told apart, people call 1 the same" in plain
    assert f"about 200 pairs of copies [{int(2000 * low)}, {math.ceil(2000 * high):,}] stay." in plain
    section = page[page.index("Told apart, but the same image") :]
    first, second = sorted((a, b))
    for one, other in ((first, second), (second, first)):
        assert f"winnow drop {one[:12]} --why &#39;a copy of {other[:12]}&#39; --lake" in section
    assert section.count('<p class="drop">') == 2


def test_near_misses_are_shown_nearest_first(facts: Facts, page: str) -> None:
    assert facts.duplicates is not None
    assert [row.distance for row in facts.duplicates.misses] == [51, 53]
    section = page[page.index("Just beyond the threshold") : page.index("<h4>Largest groups")]
    assert section.count("<img") == 4 and "51 bits" in section


def test_the_recall_is_shown_for_each_number_of_clusterings_and_for_the_whole_search(facts: Facts, page: str) -> None:
    assert facts.duplicates is not None and facts.duplicates.quality is not None
    assert facts.duplicates.quality.method == "both"
    assert [row.found_pairs for row in facts.duplicates.united] == [262, 291]
    section = page[
        page.index("Recall by number of clusterings") : page.index("Near-duplicate pairs of the sampled hashes")
    ]
    assert section.index("262 of 315") < section.index("291 of 315") and "92.4" in section
    assert "Pairs separated by strict mode" in page


def test_a_lake_without_categories_shows_its_images_unblurred(lake: Lake, settings: Settings) -> None:
    rows = plausible_rows(20)
    for table in (tables.IMAGES, tables.SOURCES, tables.DUPLICATES):
        append(lake, table, rows[table])

    html = html_of(Job(lake, settings, Progress()))

    assert '<body class="plain">' in html and 'id="show"' not in html
    assert "The settings define no category to filter out" in html


@pytest.mark.slow
def test_a_broken_image_leaves_the_rest_of_the_page_intact(lake: Lake, settings: Settings) -> None:
    rows = plausible_rows(20)
    broken = [(*row[:4], b"no image", *row[5:]) if n % 2 else row for n, row in enumerate(rows[tables.IMAGES])]
    for table, data in {**rows, tables.IMAGES: broken}.items():
        append(lake, table, data)

    html = html_of(with_category(lake))

    assert "no image</span>" in html and "data:image/webp" in html


def test_only_files_with_images_of_the_page_are_opened(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = plausible_rows(40)
    append(lake, tables.DUPLICATES, rows[tables.DUPLICATES])
    shown = {image_id for row in rows[tables.DUPLICATES] for image_id in row[:2]}
    for some in (True, False):
        append(lake, tables.IMAGES, [row for row in rows[tables.IMAGES] if (row[0] in shown) is some])
    opened: list[str] = []

    def fetch(images: Any, *rest: Any) -> Any:
        opened.extend(images.inputFiles())
        return thumbnails.fetch(images, *rest)

    monkeypatch.setattr(report, "fetch", fetch)
    html = html_of(Job(lake, settings, Progress()))

    unshown = lake.read(tables.IMAGES).where(~F.col("image_id").isin(list(shown)))
    named = {row.file for row in unshown.select(F.col("_metadata.file_path").alias("file")).distinct().collect()}
    assert opened and named and not named & set(opened)
    assert html.count("data:image/webp") >= len(shown)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_requests_nothing(browser: Any, full: Job, page: str, width: int, scheme: str) -> None:
    requests: list[str] = []
    errors: list[str] = []
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))

    tab.goto(Path(full.lake.path("report.html")).as_uri())
    for details in tab.query_selector_all("summary"):
        details.click()

    assert [url for url in requests if not url.startswith("data:")] == [Path(full.lake.path("report.html")).as_uri()]
    assert errors == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.title() == "pictures – Winnow report"
    # Text outside a drawing is not part of the scroll width if something clips it.
    edges = tab.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect()).map(r => [r.left, r.right])"
    )
    assert all(left >= 0 and right <= width for left, right in edges)
    tab.close()


@pytest.mark.slow
@needs_chromium
def test_images_are_blurred_until_the_reader_shows_them(browser: Any, full: Job, page: str) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(Path(full.lake.path("report.html")).as_uri())

    def blur(number: int) -> str:
        return str(tab.evaluate(f"getComputedStyle(document.querySelectorAll('.pic:not(.open) img')[{number}]).filter"))

    assert "blur" in blur(0)
    assert tab.evaluate("getComputedStyle(document.querySelector('.pic.open img')).filter") == "none"
    tab.focus(".pic:not(.open) >> nth=0")
    tab.wait_for_timeout(500)  # the blur fades
    assert blur(0) == "none" and "blur" in blur(1)
    tab.click("label.toggle")
    tab.wait_for_timeout(500)
    assert blur(1) == "none"
    tab.close()
