"""People's decisions in `filter`: they beat labels, rules and scores, but nobody can keep an unreadable image."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.facts.decisions import DECISION, DROP, KEEP
from jobs.scoring.gaps import is_decodable


def decided(judged: DataFrame, decisions: DataFrame) -> DataFrame:
    """Applies people's decisions to the verdicts of labels, rules and scores.

    Args:
        judged: image_id, kept, reasons. An image with the reason `UNDECODABLE` stays filtered.
        decisions: image_id, decision, decided_by, why, as `jobs.facts.decisions.standing` returns them.

    Returns:
        Table verdicts. A dropped image has the decision as its first reason. A kept one has no reasons; kept_because
        says who keeps it and why, and the reasons against it.
    """
    rows = judged.join(decisions, "image_id", "left")
    readable = is_decodable()
    keeps = (F.col("decision") == KEEP) & readable
    drops = F.col("decision") == DROP
    words = F.concat("decided_by", F.lit(": "), "why")
    against = F.when(F.size("reasons") > 0, F.concat(F.lit(" (against "), F.array_join("reasons", "; "), F.lit(")")))
    reason = F.concat(F.lit(f"{DECISION}: dropped by "), words)
    because = F.concat(F.lit("kept by "), words, F.coalesce(against, F.lit("")))
    none = F.array().cast("array<string>")
    return rows.select(
        "image_id",
        F.when(keeps, True).when(drops, False).otherwise(F.col("kept")).alias("kept"),
        F.when(keeps, none)
        .when(drops, F.concat(F.array(reason), "reasons"))
        .otherwise(F.col("reasons"))
        .alias("reasons"),
        F.when(keeps, because).alias("kept_because"),
    )
