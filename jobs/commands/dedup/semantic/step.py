"""The step of `dedup` that removes semantic duplicates, after the search for near-duplicates."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.near_duplicates import NearDuplicateConfig, NearDuplicates
from jobs.commands.dedup.nodes import hash_nodes
from jobs.commands.dedup.nodes.compared import Inputs
from jobs.commands.dedup.semantic.duplicates import NearDuplicateRows, semantic_duplicates
from jobs.facts.duplicates import SEMANTIC_REMOVED, SEMANTIC_SHARE
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.models_in_use import semantic_encoder
from jobs.runtime.scratch import Scratch
from jobs.runtime.wording import percent
from jobs.scoring.features import ensure_features
from models.errors import LostRowsError


@dataclass(frozen=True)
class SemanticCounts:
    """The number of images, of those that passed the filter.

    Attributes:
        near: Removed as near-duplicates.
        semantic: Removed as semantic duplicates.
    """

    near: int
    semantic: int

    def summary(self, passed: int) -> Summary:
        """Returns the lines of the summary about semantic duplicates.

        Args:
            passed: Number of images that passed the filter.
        """
        before = passed - self.near
        share = f"{percent((before - self.semantic) / before)} of {before:,} images" if before else "no image"
        return {SEMANTIC_REMOVED: self.semantic, SEMANTIC_SHARE: share}


def all_removed(
    job: Job, inputs: Inputs, config: NearDuplicateConfig, found: NearDuplicates, scratch: Scratch, features: DataFrame
) -> tuple[DataFrame, SemanticCounts]:
    """Returns all removed images, semantic duplicates included, and their number.

    Args:
        job: The running command.
        inputs: The input tables.
        config: The settings.
        found: What the search for near-duplicates found.
        scratch: Keeps the result.
        features: image_id, embedding.

    Raises:
        LostRowsError: The result is inconsistent.
    """
    settings = config.settings
    assert settings.semantic is not None
    members = hash_nodes.members(inputs.signals, inputs.images, inputs.verdicts, config.rule)
    ordered = scratch.keep(hash_nodes.ordered(members, settings.rank, inputs.earlier.kept if inputs.earlier else None))
    hashes = inputs.signals.where(F.col("encoder") == config.rule.encoder).select(
        "image_id", F.col(hash_nodes.hash_column(config.rule)).alias("hash")
    )
    near = NearDuplicateRows(found.removed, found.pairs, ordered, hashes)
    with job.progress.step("dedup: find semantic duplicates"):
        _note_missing(job, ordered, features)
        removed = scratch.keep(semantic_duplicates(near, features, settings.semantic, config.seed, scratch))
        return removed, _checked(removed)


def stored_features(job: Job, store: bool) -> DataFrame:
    """Returns image_id and embedding by the semantic encoder; computes what is missing if it may be stored.

    Args:
        job: The running command.
        store: Whether to compute the features of images that lack them. A dry run does not.
    """
    encoder = semantic_encoder(job)
    if store:
        return ensure_features(job, encoder, "dedup")
    own = job.lake.read(tables.FEATURES).where(F.col("encoder") == encoder.digest)
    return own.select("image_id", "embedding")


def _note_missing(job: Job, ordered: DataFrame, features: DataFrame) -> None:
    missing = ordered.join(features.select("image_id"), "image_id", "left_anti").count()
    if missing:
        job.progress.warn(
            f"dedup: {missing:,} images have no embedding in the table features, so they are not removed as semantic "
            "duplicates: `winnow score --set dedup.semantic=0.95` computes embeddings of all images that can be decoded"
        )


def _checked(removed: DataFrame) -> SemanticCounts:
    """Returns the numbers of removed images; no image may be removed twice or because of one that is removed."""
    passed = removed.where("passed")
    counts = F.count("*"), F.countDistinct("removed_id"), F.count_if(F.col("method") == tables.SEMANTIC)
    rows, distinct, semantic = passed.agg(*counts).collect()[0]
    gone = passed.select(F.col("removed_id").alias("kept_id"))
    orphans = passed.join(gone, "kept_id", "left_semi").count()
    if rows != distinct or orphans:
        raise LostRowsError(
            f"dedup: {rows} removed rows name {distinct} images, and {orphans} rows name a kept image that is removed "
            "too: Spark lost a stage and recomputed it differently; run `winnow dedup` again"
        )
    return SemanticCounts(rows - semantic, semantic)
