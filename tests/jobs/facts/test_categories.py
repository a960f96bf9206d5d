from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from pyspark.sql import Row

from jobs.facts import sentences
from jobs.facts.categories import categories
from jobs.lake import tables
from jobs.runtime import config
from tests.builders.lake_rows import write_rows


@dataclass
class Category:
    threshold: Row | None


def category(recall, chosen_by, positives=3, missed=1, **others):
    bounds = {"threshold": 0.8, "recall_lower": recall, "confidence": 0.95, "positives": positives, "missed": missed}
    return Category(Row(**bounds, negatives=97, dropped_negatives=2, unsure=None, chosen_by=chosen_by, **others))


@pytest.mark.parametrize("chosen_by", [tables.CHOSEN_BY_LABELS, None])
def test_the_bound_of_a_threshold_that_labels_chose(chosen_by):
    assert sentences.recall_bound(category(0.95, chosen_by)) == (
        "Recall is at least 95.0 % (95 % confidence): of the labels of the random sample, the threshold "
        "misses 1 of 3 positives and removes 2 of 97 negatives."
    )


def test_the_recall_of_a_set_threshold_is_unknown_without_a_positive():
    assert sentences.recall_bound(category(None, tables.SET, positives=0, missed=0)) == (
        "The threshold is set in the settings. Its recall is unknown, because no label of the random sample is "
        "positive; the threshold removes 2 of 97 negatives."
    )
    assert sentences.recall_bound(category(0.13, tables.SET)).startswith(
        "The threshold is set in the settings. Recall is at least 13 % (95 % confidence): "
    )


def test_the_share_of_a_category_has_its_interval():
    assert sentences.prevalence(category(0.9, tables.SET)) == "3.0 % [0.6, 8.5]"
    assert sentences.prevalence(Category(None)) == "unknown"


def test_the_images_near_a_threshold_are_shown_by_their_verdicts(lake, spark):
    when = datetime(2026, 1, 1)
    scores = {"low": 0.1, "labelled": 0.49, "kept by hand": 0.5, "high": 0.9}
    write_rows(lake, tables.SCORES, [(i, "boats", "m", score) for i, score in scores.items()])
    write_rows(lake, tables.THRESHOLDS, [("boats", "m", 0.5, 0.9, 0.95, 2, 1, 0, 1, None, "labels")])
    kept = {"low": True, "labelled": False, "kept by hand": True, "high": False}
    write_rows(lake, tables.VERDICTS, [(i, is_kept, [], None) for i, is_kept in kept.items()])
    labels = [(True, when), (False, when + timedelta(days=1))]
    write_rows(lake, tables.LABELS, [("low", "boats", yes, "random", "ann", at) for yes, at in labels])
    own = config.load(overrides=['categories.boats={definition="d", model={path="b.onnx", size=[8, 8]}}'])

    (found,) = categories(lake, own)

    assert [one.image_id for one in found.dropped_nearest] == ["high"]
    assert [one.image_id for one in found.kept_nearest] == ["low"]
    # The newest label of an image counts, and only once.
    assert (found.random_positives, found.random_negatives, found.own_model) == (0, 1, True)
