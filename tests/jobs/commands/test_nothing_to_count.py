"""A statistic of no rows is None, and its page says so: it is never NaN and never a made-up number."""

import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from markupsafe import Markup
from pyspark.sql import Row
from scipy import sparse

from jobs.commands import compare, report
from jobs.commands.dedup.verify.search_recall import SearchRecall
from jobs.commands.regurgitation import contact_sheet
from jobs.facts import sentences
from jobs.facts import weights as facts
from jobs.facts.funnel import Funnel
from jobs.facts.gather import Facts
from jobs.facts.samples import ShownImage
from jobs.facts.weights import Reliability, WeightBin, Weights
from jobs.origins.superseded import Superseded
from jobs.pages.charts import histograms, intervals
from jobs.runtime.config import CategorySettings
from models.stats import keyword_shift_stats, probe
from models.stats.thresholds import Calibration
from udfs.arrays.arrow import matrix

ALIKE = Weights((WeightBin(1.0, 1.19, 6),), None, (ShownImage("a", 1.0),), (ShownImage("b", 1.0),))


def quality(kept: int, reference: int, auc: float | None = None) -> Row:
    return Row(
        kept=kept, reference=reference, effective_sample_size=float(kept), clipped=0, max_weight=1.0, probe_auc=auc,
        calibration_error=None, beyond_reach=None, features=[],
    )  # fmt: skip


def funnel(images: int, filtered: int, **by: int) -> Funnel:
    return Funnel(images, 0, 0, images, images, filtered, 0, None, by)


def page_of(**given: object) -> str:
    """Returns the report of these facts, without styles."""
    made = {
        "funnel": None, "faults": (), "superseded": None, "categories": (), "decisions": None, "duplicates": None,
        "keywords": None,
        "weights": None, "regurgitation": None, "encoders": (), "semantic_encoders": (), "classifiers": (),
        "provenance": (), **given,
    }  # fmt: skip
    page = report.ReportPage(
        "lake", "/lake", report.datetime(2026, 1, 1), Facts(**made), {}, False, "", (), (("winnow", ""),)
    )
    return re.sub(r"<style>.*?</style>", "", report.render(page), flags=re.DOTALL)


def test_the_report_lists_superseded_images_if_there_are_any() -> None:
    row = Row(image_id="1" * 32, source="/photos", key="a<b", caption="a dgo")
    page = page_of(superseded=Superseded(3, (row,)))
    assert "Superseded images" in page and "3 images: the source" in page
    assert "a&lt;b" in page and "a dgo" in page and 'title="/photos"' in page
    assert "Superseded images" not in page_of()


@pytest.mark.parametrize(
    ("images", "quality_row"),
    [(0, quality(6, 6)), (0, quality(1, 24)), (0, quality(0, 0)), (0, None)],
    ids=["nothing filtered", "one kept", "nothing kept", "no quality"],
)
def test_without_a_probe_there_is_no_reliability_curve(images: int, quality_row: Row | None) -> None:
    assert facts._sides(images, quality_row) is None
    assert facts.reliability([], quality_row) == ()


@pytest.mark.parametrize(
    ("quality_row", "why"),
    [(quality(6, 6), "the filter removed no image"), (quality(3, 6), "there are too few images, or no word is in")],
)
def test_without_a_probe_the_report_says_why_all_weights_are_equal(quality_row: Row, why: str) -> None:
    page = page_of(weights=Weights(ALIKE.bins, quality_row, ALIKE.highest, ALIKE.lowest))

    assert why in page
    assert (
        not re.search(r"\bnan\b", page, re.IGNORECASE)
        and "Highest weights" not in page
        and "area under the curve" not in page
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (funnel(0, 0), "No image could be read"),
        (funnel(6, 6, everything=6), "The filter removed every image (6)"),
    ],
    ids=["nothing readable", "all filtered"],
)
def test_if_nothing_is_kept_the_report_says_what_to_do(found: Funnel, said: str) -> None:
    page = page_of(funnel=found)

    assert said in page
    assert "so the filter keeps every image" not in page or not found.filtered
    assert "<code>winnow weigh</code> to fill this section" not in page


def test_without_a_category_the_report_names_the_other_reasons() -> None:
    assert "6 images are filtered for other reasons: everything 6." in sentences.without_category(
        funnel(8, 6, everything=6)
    )
    assert "so the filter keeps every image" in sentences.without_category(funnel(8, 0))


def test_a_search_with_nothing_to_find_has_no_recall() -> None:
    none = np.zeros(0, np.int64)
    assert SearchRecall.of(1, none, none, 0.95).recall is None
    row = SimpleNamespace(distinct_hashes=0, sampled=0)
    assert sentences.search_recall(SimpleNamespace(quality=row)).startswith("No image has a hash")


@pytest.mark.parametrize(
    ("unfiltered", "fits"),
    [
        ([], False),
        ([True], False),
        ([True, True, True, False], False),
        ([True, True, True, True], False),
        ([True, True, False, False], True),
    ],
    ids=["no row", "one row", "one kept", "one side only", "both sides"],
)
def test_a_probe_is_fitted_only_if_each_fold_leaves_both_sides(unfiltered: list[bool], fits: bool) -> None:
    sides, folds = np.array(unfiltered, dtype=np.bool_), np.arange(len(unfiltered)) % 2

    assert probe.can_cross_fit(sides, folds) == fits
    if fits:
        return
    # Without both sides, the fit fails.
    with pytest.raises(ValueError):
        probe.cross_fit(sparse.csr_matrix(np.ones((len(sides), 1))), sides, folds, 1.0)


def test_charts_of_nothing_and_of_one_value_are_drawn() -> None:
    word = Row(keyword="w", shift=0.0, shift_low=None, shift_high=None, weighted_shift=0.0, weighted_low=None,
               weighted_high=None)  # fmt: skip
    drawn = [
        histograms.histogram([], histograms.Axis("a", "b", "c", [])),
        histograms.score_histogram([], None),
        histograms.distance_histogram([], 0),
        histograms.sampled_histogram([], 0),
        histograms.nearest_histogram([], None),
        histograms.weight_histogram([], None),
        histograms.weight_histogram(ALIKE.bins, 1.0),
        intervals.shift_chart([word]),
        intervals.reliability_curve([Reliability(0.5, 0.5, 1, 0.5, 0.5, (0.5, 0.5))]),
    ]
    assert all(isinstance(one, Markup) and "nan" not in one for one in drawn)


def test_no_word_moved_if_nothing_was_filtered() -> None:
    row = Row(keyword="dog", shift=0.0, shift_low=None, shift_high=None, weighted_shift=0.0, weighted_low=None,
              weighted_high=None, mover=False, adjusted=1.0)  # fmt: skip
    assert sentences.shift_sentence(row) == "“dog” 0.0 % after filtering, 0.0 % after weighing"
    assert sentences.none_notable([row]) == "The filter removed no caption, so no keyword's share changed."
    assert sentences.notable([row]) == [] and sentences.not_undone([row], 0.01, 0.8) == []


def test_shifts_of_no_keyword_and_no_caption_are_empty() -> None:
    moved = keyword_shift_stats.moves(np.zeros((1, 11, 3)), 0.95, np.zeros(0))
    assert moved.shares.shape == (0, 3) and all(len(ends) == 0 for ends in (*moved.filtered, *moved.weighted))
    assert len(keyword_shift_stats.adjusted(np.zeros(0))) == 0


def test_the_summary_omits_the_precision_if_no_image_was_removed() -> None:
    from jobs.commands.calibrate.command import Outcome, _figures

    nothing = Calibration(0.5, 0.0, 0.95, 0, 10, 0, 0, 1.0)
    assert not any("precision" in name or "nan" in str(value) for name, value in
                   _figures(Outcome(nothing), nothing, CategorySettings(definition="d")).items())  # fmt: skip


def test_without_a_compared_image_the_sheet_shows_no_rate() -> None:
    summary = {"generated images": 3, "compared": 0, "not decodable": 3, "images searched": 9, "copies": 0,
               "copies of the prompt's own image": 0, "a copy is within": "54 bits of 256"}  # fmt: skip

    page = contact_sheet.render("lake", (), summary)

    assert "None of the 3 generated images could be compared: 3 could not be decoded" in page
    assert "has room for copies only" not in page and "0 of 0" not in page


def test_no_embedding_is_a_matrix_without_rows() -> None:
    assert matrix(pa.chunked_array([], pa.list_(pa.float32()))).shape[0] == 0


def test_the_comparison_of_lakes_without_keywords_has_no_keyword_section() -> None:
    blank = {"counts": {"curated": None}, "quarantine": {}, "filtered_by": {}, "thresholds": [], "dedup": None,
             "weights": None, "tables": {}, "models": {}, "software": {}}  # fmt: skip
    titles = [section.title for section in compare.sections(blank, blank, {}, [])]
    assert "Keyword shifts after weighing" not in titles
    lines = [line for section in compare.sections(blank, blank, {}, []) for line in section.lines]
    assert all((line.a, line.b) == ("–", "–") for line in lines if line.name == "curated")
