"""`report`: what was read, kept and removed, and why, in one HTML file that opens offline."""

import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import functions as F

from jobs.facts import sentences
from jobs.facts.duplicates import Group
from jobs.facts.gather import Facts, gather
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.pages.charts import histograms, intervals
from jobs.pages.template import PICTURE_BYTES, style, template
from jobs.pages.thumbnails import Thumbnail, fetch
from jobs.runtime import config, wording
from jobs.runtime.config import CategorySettings, Settings
from jobs.runtime.version import version_of

FILE = "report.html"
MAX_PICTURES = 800
_ID_DIGITS = 12  # of an image_id: `explain` takes the first digits
_PIXELS_PER_POINT = 2  # sharp on high-density screens
_SOFTWARE = ("pyspark", "delta-spark", "onnxruntime", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "pillow")
_SPARK_CONF = "spark.conf."
# Spark's own settings can hold secrets under any name and inside any value: show only values that cannot be one.
_HARMLESS = re.compile(r"true|false|-?\d+(\.\d+)?([kmgtp]b?|ms|s|min|h|d)?", re.IGNORECASE)
_SECRET = re.compile(r"secret|passw|token|credential|key", re.IGNORECASE)


@dataclass(frozen=True)
class Setting:
    """A setting as the report shows it."""

    section: str
    key: str
    value: str
    changed: bool


@dataclass(frozen=True)
class ReportPage:
    """The input of the template.

    Attributes:
        name: Name of the set, from the settings or the sources.
        uri: Address of the lake.
        written_at: Time of the report, in UTC.
        facts: Facts from the tables.
        pictures: Thumbnails by image_id.
        veiled: Whether images are blurred until the reader asks to see them.
        not_undone: A sentence about the keywords that weighing does not correct; empty if there are none.
        settings: All settings; most settings of `spark.conf` have no value.
        software: Names and versions of the software.
        explain: Returns the command that explains an image, as it can be pasted.
        drop: Returns the command that drops an image because it is a copy of another one.
    """

    name: str
    uri: str
    written_at: datetime
    facts: Facts
    pictures: Mapping[str, Thumbnail]
    veiled: bool
    not_undone: str
    settings: tuple[Setting, ...]
    software: tuple[tuple[str, str], ...]
    explain: Callable[[str], str] = str
    drop: Callable[[str, str], str] = "{} {}".format


def run(job: Job) -> Summary:
    """Writes the report of a lake, from the tables that it has so far.

    Args:
        job: The lake may have no table: each section then names the command that fills it.

    Returns:
        The address of the report, under `report`.
    """
    with job.progress.step("report: count"):
        facts = gather(job.lake, job.settings)
    with job.progress.step("report: make thumbnails"):
        pictures = _pictures(job.lake, job.settings, facts)
    address = job.lake.write_file(FILE, render(_page(job, facts, pictures)).encode("utf-8", "replace"))
    return {"report": address}


def render(page: ReportPage) -> str:
    """Returns the page as one HTML file with its style sheet, without scripts.

    Args:
        page: Captions and names in it are escaped.
    """
    return template("report.html.jinja").render(
        page=page,
        facts=page.facts,
        words=sentences,
        wording=wording,
        histograms=histograms,
        intervals=intervals,
        tables=tables,
        style=style(),
        findings=_findings(page.facts),
    )


def flat_settings(settings: Settings) -> tuple[Setting, ...]:
    """Returns every setting as text, and whether it differs from the default.

    The defaults of a ready-made category are those of its own file. Values of `spark.conf` are shown only if they are
    numbers, sizes, times or booleans. Others may hold secrets.

    Args:
        settings: The settings of this run.
    """
    ready_made = [name for name in settings.categories if name in config.ready_made_categories()]
    plain = config.load(categories=ready_made)
    defaults = dict(_leaves(config.fingerprint(plain)))
    category_defaults = dict(_leaves(config.fingerprint(CategorySettings(definition=""))))
    for name in settings.categories:
        if name not in ready_made:
            defaults.update({f"categories.{name}.{key}": value for key, value in category_defaults.items()})
    flat = []
    for key, value in _leaves(config.fingerprint(settings)):
        section, _, rest = key.partition(".")
        shown = "(hidden)" if _may_be_secret(key, value) else _shown(value)
        flat.append(Setting(section if rest else "", rest or section, shown, defaults.get(key) != value))
    return tuple(flat)


def _may_be_secret(key: str, value: object) -> bool:
    if not key.startswith(_SPARK_CONF):
        return False
    return bool(_SECRET.search(key.removeprefix(_SPARK_CONF))) or not _HARMLESS.fullmatch(str(value))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(v) for v in value) or "(none)"
    return "off" if value is None else str(value)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _page(job: Job, facts: Facts, pictures: Mapping[str, Thumbnail]) -> ReportPage:
    return ReportPage(
        name=facts.opening.name,
        uri=job.lake.uri,
        written_at=datetime.now(UTC),
        facts=facts,
        pictures=pictures,
        veiled=bool(job.settings.categories or facts.categories),
        not_undone=_not_undone(facts, job.settings),
        settings=flat_settings(job.settings),
        software=_software(),
        explain=lambda image_id: job.command("explain", image_id[:_ID_DIGITS]),
        drop=lambda image_id, other: job.command(
            "drop", image_id[:_ID_DIGITS], "--why", f"a copy of {other[:_ID_DIGITS]}"
        ),
    )


def _software() -> tuple[tuple[str, str], ...]:
    installed = [("winnow", version_of("winnow")), ("python", sys.version.split()[0])]
    installed += [(name, version_of(name)) for name in _SOFTWARE]
    return (*installed, ("system", f"{platform.system()} {platform.machine()}"))


def _pictures(lake: Lake, settings: Settings, facts: Facts) -> Mapping[str, Thumbnail]:
    side = settings.report.thumbnail * _PIXELS_PER_POINT
    wanted = list(dict.fromkeys(_image_ids(facts)))[:MAX_PICTURES]
    pairs = (*facts.regurgitation.shown_copies, *facts.regurgitation.shown_others) if facts.regurgitation else ()
    used_bytes = sum(len(pair.picture or "") for pair in pairs)
    if not wanted or not lake.exists(tables.IMAGES):
        return {}
    # This opens only their files. Because the ids are literals, Spark reads only row groups whose Bloom filters match.
    ids = lake.spark.createDataFrame([(image_id,) for image_id in wanted], "image_id string")
    few = lake.rows_of(tables.IMAGES, ids).where(F.col("image_id").isin(wanted))
    return fetch(few, wanted, side, PICTURE_BYTES - used_bytes)


def _image_ids(facts: Facts) -> Iterator[str]:
    """The images that the page shows, the most important first."""
    yield from (image_id for image_id, _ in facts.opening.before)
    yield from facts.opening.after
    if facts.regurgitation:
        shown = (*facts.regurgitation.shown_copies, *facts.regurgitation.shown_others)
        yield from (pair.row.image_id for pair in shown)
    for category in facts.categories:
        yield from (s.image_id for s in (*category.dropped_nearest, *category.kept_nearest))
    if facts.decisions:
        yield from (row.image_id for row in facts.decisions.newest)
    if facts.duplicates:
        for groups in (facts.duplicates.farthest, facts.duplicates.largest, facts.duplicates.random):
            for group in groups:
                yield from _members(group)
        wrong = facts.duplicates.labelled.wrong if facts.duplicates.labelled else ()
        yield from (i for row in wrong for i in (row.kept_id, row.removed_id))
        copies = facts.duplicates.told_apart.copies if facts.duplicates.told_apart else ()
        yield from (i for row in (*copies, *facts.duplicates.misses) for i in (row.a_id, row.b_id))
        if facts.duplicates.semantic:
            yield from (i for row in facts.duplicates.semantic.farthest for i in (row.kept_id, row.removed_id))
    if facts.weights:
        yield from (s.image_id for s in (*facts.weights.highest, *facts.weights.lowest))
        yield from (i for lost in facts.weights.lost for i in (lost.image_id, lost.nearest_id))


def _not_undone(facts: Facts, settings: Settings) -> str:
    tolerance = settings.audit.tolerance
    rows = facts.keywords.every if facts.keywords else ()
    left = sentences.not_undone(rows, tolerance, settings.weigh.min_support)
    sentence = sentences.not_undone_sentence(left, tolerance) if left else ""
    return sentence[:1].upper() + sentence[1:]


def _members(group: Group) -> Iterator[str]:
    yield group.kept_id
    yield from (image_id for image_id, _ in group.members)


def _findings(facts: Facts) -> list[tuple[str, str, str]]:
    """The most important findings: the id of a section, its name and one sentence."""
    findings = [(f"category-{c.name}", c.name, sentences.recall_bound(c)) for c in facts.categories]
    if facts.duplicates and facts.duplicates.quality:
        findings.append(("duplicates", "Duplicates", sentences.search_recall(facts.duplicates)))
    moved = sentences.notable(facts.keywords.every) if facts.keywords else []
    findings += [("keywords", "Keywords", sentences.shift_sentence(row) + ".") for row in moved[:2]]
    if facts.weights and facts.weights.quality:
        findings.append(("weights", "Weights", sentences.weights_worth(facts.weights)))
    if facts.regurgitation:
        findings.append(("regurgitation", "Regurgitation", sentences.regurgitated(facts.regurgitation)))
    return findings
