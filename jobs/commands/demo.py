"""`demo`: all of Winnow on generated pictures, and what came of it held against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands import run as whole
from jobs.commands.generate import command as generate
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.wording import signed
from models.errors import WinnowError
from udfs.labels.simulated_labeller import SimulatedLabeller

RANDOM_SHARE = 0.8
"""Share of the pictures whose label is set apart for calibration: a bound on 95 % recall needs 59 random positives."""

_SLICES = 1_000_000


def settings_files(own: Sequence[Path] | None) -> list[Path]:
    """The demo's settings, then the user's own."""
    return [Path(str(resources.files("conf").joinpath("demo.toml"))), *(own or [])]


def run(job: Job, directory: str, count: int, errors: float = 0.0) -> Summary:
    """Draws pictures, takes labels from their truth, runs everything and compares the result with the truth.

    Args:
        job: Whose lake lies in the directory.
        directory: Folder for pictures, labels and lake; what is there already is used again.
        count: Number of pictures.
        errors: Share of the labels that are wrong.

    Raises:
        WinnowError: The directory holds pictures, labels or a lake that are not the demo's.
    """
    pictures, labels = Path(directory) / "pictures", Path(directory) / "labels.parquet"
    job.lake.require_room()
    if labels.exists() and not (pictures / generate.MARKER).is_file():
        raise WinnowError(f"{labels} is not the demo's and would be replaced: give a new folder, `winnow demo FOLDER`")
    job.progress.heading("generate")
    generate.run(str(pictures), count, job.settings.seed, job.progress)
    truth = pd.read_parquet(pictures / "truth.parquet")
    labeller = SimulatedLabeller(errors, job.settings.seed, "truth")
    labels_of(truth, list(job.settings.categories), labeller).to_parquet(labels, index=False)
    wrong = f", and errs in {errors:.1%} of all labels" if errors else ""
    job.progress.note(f"the known truth of the pictures stands in for the person who would label them{wrong}")
    found = whole.run(job, [str(pictures)], "folder", [str(labels)])
    return {**outcome(job.lake, truth), "report": found["report: report"]}


def labels_of(truth: pd.DataFrame, categories: Sequence[str], labeller: SimulatedLabeller) -> pd.DataFrame:
    """What a person would have labelled: a random part for calibration, the rest for training.

    Args:
        truth: key, categories (list of names) for each picture.
        categories: Names of the categories.
        labeller: Who answers; the choice of what is random depends on the seed alone.

    Returns:
        key, category, label, origin (`random` or `seed`), annotator.
    """
    drawn = pd.util.hash_pandas_object(truth["key"], index=False, hash_key=f"winnow{labeller.seed:010d}"[:16])
    origin = (drawn % _SLICES < RANDOM_SHARE * _SLICES).map({True: "random", False: "seed"})
    parts = [
        pd.DataFrame(
            {
                "key": truth["key"],
                "category": category,
                "label": labeller.answers(truth["key"].tolist(), _of(truth, category), category),
                "origin": origin,
                "annotator": labeller.name,
            }
        )
        for category in categories
    ]
    return pd.concat(parts, ignore_index=True)


def _of(truth: pd.DataFrame, category: str) -> NDArray[np.bool_]:
    return np.array([category in names for names in truth["categories"]], dtype=bool)


@dataclass(frozen=True)
class Fates:
    """What became of every picture.

    Attributes:
        pictures: truth, with columns image_id, fate (kept, filtered, duplicate) and keeper (image_id or None).
    """

    pictures: pd.DataFrame

    def pairs_resolved(self) -> tuple[int, int]:
        """Of the planted duplicate pairs, how many do not have both pictures kept, and how many there are."""
        groups = (
            self.pictures.assign(kept=self.pictures["fate"] == "kept").groupby("group")["kept"].agg(["size", "sum"])
        )
        pairs = (groups["size"] * (groups["size"] - 1) // 2).sum()
        both_kept = (groups["sum"] * (groups["sum"] - 1) // 2).sum()
        return int(pairs - both_kept), int(pairs)

    def true_removals(self) -> tuple[int, int]:
        """Of the duplicates removed, how many are copies of their keeper; siblings, being in doubt, do not count."""
        removed = self.pictures[self.pictures["fate"] == "duplicate"]
        keeper = self.pictures.set_index("image_id").loc[removed["keeper"]].reset_index()
        same = removed["group"].to_numpy() == keeper["group"].to_numpy()
        siblings = removed["sibling_group"].notna().to_numpy() & (
            removed["sibling_group"].to_numpy() == keeper["sibling_group"].to_numpy()
        )
        counted = same | ~siblings
        return int((same & counted).sum()), int(counted.sum())

    def caught(self) -> tuple[int, int]:
        """Of the pictures in a category, how many are filtered or, being copies, gone, and how many there are."""
        unsafe = self.pictures[self.pictures["categories"].map(len) > 0]
        return int((unsafe["fate"] != "kept").sum()), len(unsafe)


def fates(lake: Lake, truth: pd.DataFrame) -> Fates:
    """Joins the lake's decisions to the truth; for the bounded picture sets of the demo and of tests only."""
    images = lake.read(tables.IMAGES).select("image_id", "key")
    verdicts = lake.read(tables.VERDICTS).select("image_id", "kept")
    duplicates = lake.read(tables.DUPLICATES).select(
        F.col("removed_id").alias("image_id"), F.col("kept_id").alias("keeper")
    )
    joined: DataFrame = images.join(verdicts, "image_id").join(duplicates, "image_id", "left")
    fate = F.when(~F.col("kept"), "filtered").when(F.col("keeper").isNotNull(), "duplicate").otherwise("kept")
    table = joined.select("image_id", "key", "keeper", fate.alias("fate")).toPandas()
    merged = truth.merge(table, on="key", how="left", validate="one_to_one")
    lost = int(merged["fate"].isna().sum())
    if lost:
        raise WinnowError(f"{lost} of {len(truth)} generated pictures are not in the lake: see its table quarantine")
    return Fates(merged)


def outcome(lake: Lake, truth: pd.DataFrame) -> Summary:
    """The figures that end the demo."""
    found = fates(lake, truth)
    summary: Summary = {
        "planted duplicate pairs of which at most one is kept": _share(found.pairs_resolved()),
        "removed duplicates that are true copies": _share(found.true_removals()),
        "pictures to be filtered that are gone": _share(found.caught()),
    }
    for row in lake.read(tables.THRESHOLDS).orderBy("category").collect():
        summary[f"recall of {row.category}, lower bound"] = f"{row.recall_lower:.1%} at {row.confidence:.0%} confidence"
    for row in lake.read(tables.KEYWORD_SHIFT).where(F.col("keyword").isin("woman", "man")).collect():
        summary[f"captions with '{row.keyword}'"] = (
            f"{signed(row.shift)} % after filtering, {signed(row.weighted_shift)} % after weighing"
        )
    return summary


def _share(part: tuple[int, int]) -> str:
    of, total = part
    return f"{of:,} of {total:,} ({of / total:.2%})" if total else "none"
