"""What another distance of `dedup` would change: exact counts within what was searched, estimates beyond it."""

import json

from jobs.commands.browse.distances import Distances

# 1,000 hashes, of which 100 were compared with all others: a pair is in that sample with probability 0.19.
SAMPLE = {0: (19, 19), 8: (38, 37), 11: (19, 0), 14: (57, 0)}


def distances(**changed: object) -> Distances:
    fields = {
        "threshold": 10, "safe": 10, "sampled": 100, "hashes": 1000, "pairs": {0: 100, 5: 3, 8: 200, 10: 7},
        "removed": {0: 90, 8: 20, 10: 5}, "sample": SAMPLE,
    }  # fmt: skip
    return Distances(**{**fields, **changed})  # type: ignore[arg-type]


def test_a_shorter_distance_is_counted() -> None:
    pairs, back, recall = distances().effect(8)
    assert pairs == "303 of 310 found pairs are within 8 bits."
    assert back.startswith("5 of 115 removed images are farther from the image that is kept: at most these come back")
    assert recall == "Within 8 bits, the search found 56 of 57 pairs of the sampled hashes."
    assert "1 of 115 removed images is farther" not in back


def test_the_distance_in_use_changes_nothing() -> None:
    pairs, recall = distances().effect(10)
    assert pairs == "310 of 310 found pairs are within 10 bits." and recall.startswith("Within 10 bits")


def test_a_farther_distance_is_estimated_and_says_so() -> None:
    _, more, recall = distances().effect(14)
    assert more == (
        "About 400 pairs of different hashes are 11 to 14 bits apart (estimate: 76 in the comparison of 100 sampled "
        "hashes with all 1,000)."
    )
    assert "Within 10 bits" in recall
    assert "About 100 pairs" in distances().effect(13)[1]


def test_if_all_hashes_were_compared_the_number_is_exact() -> None:
    _, more, _ = distances(sampled=2000, hashes=1000).effect(14)
    assert more == "76 pairs of different hashes are 11 to 14 bits apart (counted by comparing all hashes)."


def test_pairs_that_count_only_by_a_look_are_named() -> None:
    looked = distances(safe=6, looked=70, told_apart=9)
    assert len(looked.effect(6)) == 3 and not [text for text in looked.effect(6) if "thumbnails" in text]
    assert "Beyond 6 bits, pairs count now only if their thumbnails agree" in looked.effect(7)[2]
    assert "Of 70 pairs whose thumbnails were compared, 9 show different images" in looked.effect(14)[2]
    assert looked.effect(14)[1].startswith("About 400 pairs of different hashes are 11 to 14 bits apart")
    assert looked.effect(14)[3].startswith("Within 6 bits, the search found 19 of 19 pairs")


def test_without_a_sample_nothing_is_estimated() -> None:
    none = distances(sampled=0, sample={})
    assert none.farthest == 10 and none.effect(10) == ["310 of 310 found pairs are within 10 bits."]


def test_the_histogram_goes_from_counts_to_estimates() -> None:
    found = distances().histogram()
    assert (len(found), found[0], found[8], found[9], found[11], found[12], found[14]) == (15, 100, 200, 0, 100, 0, 300)


def test_it_survives_json() -> None:
    assert Distances.of_json(json.loads(json.dumps(distances().as_json()))) == distances()
