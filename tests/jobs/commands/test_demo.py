import pandas as pd

from jobs.commands import demo
from udfs.labels.simulated_labeller import SimulatedLabeller


def truth(count: int) -> pd.DataFrame:
    categories = [["slime"] if number % 10 == 0 else [] for number in range(count)]
    return pd.DataFrame({"key": [f"p{number}" for number in range(count)], "categories": categories})


def test_a_part_of_the_pictures_has_no_label():
    labels = demo.labels_of(truth(2000), ["slime", "fireworks"], SimulatedLabeller(0.0, 0, "truth"))

    slime = labels[labels["category"] == "slime"].set_index("key")
    assert list(slime.index) == list(labels[labels["category"] == "fireworks"]["key"])
    shares = slime["origin"].value_counts() / 2000
    assert abs(shares["random"] - demo.RANDOM_SHARE) < 0.05 and abs(shares["seed"] - demo.TRAINING_SHARE) < 0.05
    assert slime["label"].equals(truth(2000).set_index("key").loc[slime.index]["categories"].map(bool).rename("label"))


def test_the_proof_counts_unlabelled_pictures_only_and_names_siblings():
    columns = ("image_id", "categories", "group", "sibling_group", "fate", "keeper", "labelled")
    rows = [
        ("a", ["slime"], 0, None, "filtered", None, True),
        ("b", ["slime"], 1, None, "filtered", None, False),
        ("c", ["slime"], 2, None, "kept", None, False),
        ("d", [], 3, 7, "kept", None, False),
        ("e", [], 3, 7, "duplicate", "d", False),
        ("f", [], 4, 7, "duplicate", "d", False),
        ("g", [], 5, None, "duplicate", "d", False),
        ("h", [], 6, None, "filtered", None, False),
        ("i", [], 7, None, "filtered", None, True),
    ]
    found = demo.Fates(pd.DataFrame(rows, columns=columns))

    assert found.caught() == (1, 2)
    assert found.mistaken() == (1, 5)
    assert found.true_removals() == (1, 1, 1)
    assert found.pairs_resolved() == (1, 1)
