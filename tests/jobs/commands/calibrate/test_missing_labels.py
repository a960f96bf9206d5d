import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.commands.calibrate.missing_labels import Answers, lacking
from models.stats import thresholds
from models.stats.ranking import ranking
from models.stats.thresholds import Target

TARGET = Target(0.95, 0.95)


@pytest.mark.parametrize(
    ("positives", "negatives", "text"),
    [
        (0, 0, "no labels of a random sample, 59 positive"),
        (0, 100, "0 of 100 labels of the random sample are positive, 59 are needed: 59 more, so label at least 2,0"),
        (20, 980, "39 more, so label about 1,950 more images at random; or set categories.cats.recall=0.860"),
    ],
)
def test_the_number_of_missing_labels(positives, negatives, text):
    assert text in lacking("cats", Answers(positives, negatives, 10_000), TARGET)


def test_it_never_asks_for_more_labels_than_there_are_images():
    text = lacking("cats", Answers(20, 180, 300), TARGET)

    assert "so label" not in text
    assert (
        "for a recall of 95 %: it has 300 more images to label, and about 50 positives of the random sample in all"
        in text
    )
    assert "support a recall of 94.1 %" in text


def test_just_enough_images_are_asked_for():
    assert "so label about 390 more images" in lacking("cats", Answers(20, 180, 390), TARGET)
    assert "too small" in lacking("cats", Answers(20, 180, 389), TARGET)


def test_a_recall_that_no_ranking_could_prove_is_not_advised():
    text = lacking("cats", Answers(4, 96, 20), TARGET)

    assert "about 4 positives of the random sample in all are too few for any threshold" in text
    assert "recall=" not in text and "or set categories.cats.threshold" in text


def test_without_a_positive_a_set_threshold_is_the_way_out():
    text = lacking("cats", Answers(0, 200, 100), TARGET)

    assert "too small" in text and "at most" in text
    assert text.endswith("or set categories.cats.threshold, which needs no label but leaves the recall unknown")


@given(st.integers(1, 500), st.floats(0.5, 0.995), st.floats(0.5, 0.995))
def test_the_recall_that_is_supported_can_be_set(positives, recall, confidence):
    if thresholds.order(positives, recall, confidence):
        return
    text = lacking("cats", Answers(positives, 100, 10**9), Target(recall, confidence))

    # A perfect ranking of so few positives is the most that they can show.
    shown = ranking(np.ones(positives), np.zeros(positives), [], confidence).better_than_chance
    found = re.search(r"recall=([0-9.]+)", text)
    if found is None:
        assert thresholds.lower_bound(positives, positives, confidence) < 0.502
        assert "leaves the recall unknown" in text
        return
    supported = float(found[1])

    assert shown

    assert thresholds.order(positives, supported, confidence) == 1
    assert supported > thresholds.lower_bound(positives, positives, confidence) - 0.001
    assert not math.isclose(supported, 1.0)
