"""All facts of the report, read from the tables; a bounded amount of data reaches the driver."""

from dataclasses import dataclass, field

from pyspark.sql import Row

from jobs.facts.categories import Category, categories
from jobs.facts.decisions import Decisions, decisions
from jobs.facts.duplicates import Duplicates, duplicates
from jobs.facts.funnel import Fault, Funnel, faults, funnel
from jobs.facts.keywords import KeywordShifts, keywords
from jobs.facts.provenance import Provenance, models_used, provenance
from jobs.facts.regurgitated import Regurgitation, regurgitation
from jobs.facts.samples import Opening, opening
from jobs.facts.weights import Weights, weights
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.origins.superseded import Superseded, listed
from jobs.runtime.config import Settings


@dataclass(frozen=True)
class Facts:
    """All facts of the report; None if the command behind a fact has not run."""

    funnel: Funnel | None
    faults: tuple[Fault, ...]
    superseded: Superseded | None
    categories: tuple[Category, ...]
    decisions: Decisions | None
    duplicates: Duplicates | None
    keywords: KeywordShifts | None
    weights: Weights | None
    regurgitation: Regurgitation | None
    encoders: tuple[Row, ...]
    semantic_encoders: tuple[Row, ...]
    classifiers: tuple[Row, ...]
    provenance: tuple[Provenance, ...]
    opening: Opening = field(default_factory=Opening)


def gather(lake: Lake, settings: Settings) -> Facts:
    """Returns the facts of the report, read from the tables of the lake.

    Args:
        lake: Any table may be missing or empty.
        settings: The definitions of the categories, the number of groups and the seed.
    """
    now = lake.snapshot()
    made = provenance(lake, now, tables.ALL)
    rows = {one.table: one.rows for one in made}
    return Facts(
        funnel=funnel(lake, rows),
        faults=faults(lake.read(tables.QUARANTINE)) if rows.get(tables.QUARANTINE.name) else (),
        superseded=listed(lake),
        categories=categories(lake, settings),
        decisions=decisions(lake) if tables.DECISIONS.name in rows else None,
        duplicates=duplicates(lake, settings) if tables.DUPLICATES.name in rows else None,
        keywords=keywords(lake.read(tables.KEYWORD_SHIFT)) if tables.KEYWORD_SHIFT.name in rows else None,
        weights=weights(lake) if tables.WEIGHTS.name in rows else None,
        regurgitation=regurgitation(lake, settings) if tables.REGURGITATION.name in rows else None,
        encoders=models_used(lake.read(tables.SIGNALS), "encoder") if rows.get(tables.SIGNALS.name) else (),
        semantic_encoders=(
            models_used(lake.read(tables.FEATURES), "encoder") if rows.get(tables.FEATURES.name) else ()
        ),
        classifiers=models_used(lake.read(tables.SCORES), "category", "model") if rows.get(tables.SCORES.name) else (),
        provenance=made,
        opening=opening(lake, settings),
    )
