from dataclasses import dataclass

import pytest
from pyspark.sql import Row

from jobs.facts import sentences
from jobs.lake import tables


@dataclass
class Category:
    threshold: Row | None


def category(recall, chosen_by, positives=3, missed=1, **others):
    bounds = {"threshold": 0.8, "recall_lower": recall, "confidence": 0.95, "positives": positives, "missed": missed}
    return Category(Row(**bounds, negatives=97, dropped_negatives=2, unsure=None, chosen_by=chosen_by, **others))


@pytest.mark.parametrize("chosen_by", [tables.CHOSEN_BY_LABELS, None])
def test_the_bound_of_a_threshold_that_labels_chose(chosen_by):
    assert sentences.recall_bound(category(0.95, chosen_by)) == (
        "Recall is at least 95.0 % (95 % confidence): the threshold misses 1 of 3 random positives and removes 2 of 97 "
        "random negatives."
    )


def test_the_recall_of_a_set_threshold_is_unknown_without_a_positive():
    assert sentences.recall_bound(category(None, tables.SET, positives=0, missed=0)) == (
        "The threshold is set in the settings. Its recall is unknown, because no random label is positive; the "
        "threshold removes 2 of 97 random negatives."
    )
    assert sentences.recall_bound(category(0.13, tables.SET)).startswith(
        "The threshold is set in the settings. Recall is at least 13 % (95 % confidence): "
    )


def test_the_share_of_a_category_has_its_interval():
    assert sentences.prevalence(category(0.9, tables.SET)) == "3.0 % [0.6, 8.5]"
    assert sentences.prevalence(Category(None)) == "unknown"
