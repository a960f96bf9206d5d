"""`demo`: runs all of Winnow on synthetic images and compares the result with their known truth."""

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
from jobs.runtime.wording import confidence, recall_at_least, signed
from models.errors import WinnowError
from udfs.labels.simulated_labeller import SimulatedLabeller

RANDOM_SHARE, TRAINING_SHARE = 0.5, 0.2
"""Shares of the pictures with labels for calibration and for training. The others show what the filter does without a
label: a bound of 90 % on recall needs 29 random positives."""

_SLICES = 1_000_000


def settings_files(own: Sequence[Path] | None) -> list[Path]:
    """Returns the settings file of the demo, then those of the user."""
    return [Path(str(resources.files("conf").joinpath("demo.toml"))), *(own or [])]


def run(job: Job, directory: str, count: int, errors: float = 0.0) -> Summary:
    """Draws pictures, takes labels from their truth, runs all commands and compares the result with the truth.

    Args:
        job: The running command; its lake is in the directory.
        directory: Folder for pictures, labels and lake; existing results of the demo are reused.
        count: Number of pictures.
        errors: Fraction of labels to flip.

    Raises:
        WinnowError: The directory holds pictures, labels or a lake that the demo did not write.
    """
    pictures, labels = Path(directory) / "pictures", Path(directory) / "labels.parquet"
    job.lake.require_room()
    if labels.exists() and not (pictures / generate.MARKER).is_file():
        raise WinnowError(
            f"{labels} was not written by the demo and would be replaced: run `winnow demo FOLDER` with a new folder"
        )
    job.progress.heading("generate")
    generate.run(str(pictures), count, job.settings.seed, job.progress)
    truth = pd.read_parquet(pictures / "truth.parquet")
    labeller = SimulatedLabeller(errors, job.settings.seed, "truth")
    labels_of(truth, list(job.settings.categories), labeller).to_parquet(labels, index=False)
    flipped = f"; {errors:.1%} of the labels are wrong" if errors else ""
    job.progress.note(f"labels come from ground truth, not from a person{flipped}")
    summary = whole.run(job, [str(pictures)], "folder", [str(labels)])
    return {**outcome(job.lake, truth), "report": summary["report: report"]}


def labels_of(truth: pd.DataFrame, categories: Sequence[str], labeller: SimulatedLabeller) -> pd.DataFrame:
    """Returns labels from the truth: of a random part for calibration, of another part for training, of the rest none.

    Args:
        truth: key, categories (list of names) for each picture.
        categories: Names of the categories.
        labeller: The simulated annotator. Which labels are random depends only on its seed.

    Returns:
        key, category, label, origin (`random` or `seed`), annotator.
    """
    drawn = pd.util.hash_pandas_object(truth["key"], index=False, hash_key=f"winnow{labeller.seed:010d}"[:16])
    place = drawn % _SLICES / _SLICES
    is_labelled = place < RANDOM_SHARE + TRAINING_SHARE
    origin = (place < RANDOM_SHARE).map({True: "random", False: "seed"})
    parts = [
        pd.DataFrame(
            {
                "key": truth["key"],
                "category": category,
                "label": labeller.answers(truth["key"].tolist(), _in_category(truth, category), category),
                "origin": origin,
                "annotator": labeller.name,
            }
        )
        for category in categories
    ]
    return pd.concat([part[is_labelled] for part in parts], ignore_index=True)


def _in_category(truth: pd.DataFrame, category: str) -> NDArray[np.bool_]:
    return np.array([category in names for names in truth["categories"]], dtype=bool)


@dataclass(frozen=True)
class Fates:
    """The fate of every picture.

    Attributes:
        pictures: The truth, with the columns image_id, fate (kept, filtered, duplicate), keeper (image_id or None) and
            labelled (whether it has a label).
    """

    pictures: pd.DataFrame

    def pairs_resolved(self) -> tuple[int, int]:
        """Returns the number of planted duplicate pairs of which at most one picture is kept, and of all such pairs."""
        groups = (
            self.pictures.assign(kept=self.pictures["fate"] == "kept").groupby("group")["kept"].agg(["size", "sum"])
        )
        pairs = (groups["size"] * (groups["size"] - 1) // 2).sum()
        both_kept = (groups["sum"] * (groups["sum"] - 1) // 2).sum()
        return int(pairs - both_kept), int(pairs)

    def true_removals(self) -> tuple[int, int, int]:
        """Returns the number of removed duplicates that are copies of their keeper, of siblings, and of all others."""
        removed = self.pictures[self.pictures["fate"] == "duplicate"]
        keeper = self.pictures.set_index("image_id").loc[removed["keeper"]].reset_index()
        same = removed["group"].to_numpy() == keeper["group"].to_numpy()
        siblings = removed["sibling_group"].notna().to_numpy() & (
            removed["sibling_group"].to_numpy() == keeper["sibling_group"].to_numpy()
        )
        return int(same.sum()), int((siblings & ~same).sum()), int((~same & ~siblings).sum())

    def caught(self) -> tuple[int, int]:
        """Returns the number of unlabelled pictures of a category that are not kept, and of all of them."""
        unsafe = self._unlabelled(in_category=True)
        return int((unsafe["fate"] != "kept").sum()), len(unsafe)

    def mistaken(self) -> tuple[int, int]:
        """Returns the number of unlabelled pictures of no category that are filtered, and of all of them."""
        harmless = self._unlabelled(in_category=False)
        return int((harmless["fate"] == "filtered").sum()), len(harmless)

    def _unlabelled(self, in_category: bool) -> pd.DataFrame:
        """Returns the pictures without a label: labels decide on the others, whatever the classifier says."""
        others = self.pictures[~self.pictures["labelled"]]
        return others[(others["categories"].map(len) > 0) == in_category]


def fates(lake: Lake, truth: pd.DataFrame) -> Fates:
    """Joins the decisions of the lake with the truth; only for the small picture sets of the demo and of tests."""
    images = lake.read(tables.IMAGES).select("image_id", "key")
    verdicts = lake.read(tables.VERDICTS).select("image_id", "kept")
    duplicates = lake.read(tables.DUPLICATES).select(
        F.col("removed_id").alias("image_id"), F.col("kept_id").alias("keeper")
    )
    joined: DataFrame = images.join(verdicts, "image_id").join(duplicates, "image_id", "left")
    labelled = lake.read(tables.LABELS).select("image_id").distinct().withColumn("labelled", F.lit(True))
    fate = F.when(~F.col("kept"), "filtered").when(F.col("keeper").isNotNull(), "duplicate").otherwise("kept")
    known = joined.join(labelled, "image_id", "left")
    is_labelled = F.coalesce("labelled", F.lit(False)).alias("labelled")
    table = known.select("image_id", "key", "keeper", fate.alias("fate"), is_labelled).toPandas()
    merged = truth.merge(table, on="key", how="left", validate="one_to_one")
    lost = int(merged["fate"].isna().sum())
    if lost:
        raise WinnowError(
            f"{lost} of {len(truth)} synthetic images are not in the lake {lake.uri}: see its table quarantine"
        )
    return Fates(merged)


def outcome(lake: Lake, truth: pd.DataFrame) -> Summary:
    """Returns the figures that the demo prints at its end."""
    found = fates(lake, truth)
    copies, siblings, others = found.true_removals()
    summary: Summary = {
        "planted duplicate pairs of which at most one image is kept": _share(found.pairs_resolved()),
        "removed duplicates that are true copies": (
            f"{_share((copies, copies + others))}; also removed: {siblings:,} siblings, which differ in one detail"
        ),
        "unlabelled pictures of the categories that were removed": _share(found.caught()),
        "unlabelled pictures of no category that were filtered": _share(found.mistaken()),
    }
    for row in lake.read(tables.THRESHOLDS).orderBy("category").collect():
        summary[f"recall of {row.category}, lower bound"] = (
            f"{recall_at_least(row.recall_lower)} at {confidence(row.confidence)} confidence"
        )
    for row in lake.read(tables.KEYWORD_SHIFT).where(F.col("keyword").isin("woman", "man")).collect():
        summary[f"captions with '{row.keyword}'"] = (
            f"{signed(row.shift)} % after filtering, {signed(row.weighted_shift)} % after weighing"
        )
    return summary


def _share(part: tuple[int, int]) -> str:
    count, total = part
    return f"{count:,} of {total:,} ({count / total:.2%})" if total else "none"
