"""Recipes of earlier versions of Winnow."""

import json

from jobs.commands.dedup.threshold.choice import LOOKED_AT, UNSEEN
from jobs.lake.recipe import recipe_in


def test_results_have_the_names_of_today() -> None:
    result = {
        "largest distance, unseen": 41,
        "largest distance, looked at": 66,
        "boats: random positives": "3, 1 missed",
    }
    stored = {"command": "dedup", "inputs": {"images": 3}, "settings": {}, "result": result}
    recipe, _ = recipe_in(json.dumps(stored))
    assert recipe is not None
    assert recipe.result == {UNSEEN: 41, LOOKED_AT: 66, "boats: positives of the random sample": "3, 1 missed"}
    assert recipe_in(json.dumps({"command": "dedup", "inputs": {}, "settings": {}}))[0].result == {}  # type: ignore[union-attr]
