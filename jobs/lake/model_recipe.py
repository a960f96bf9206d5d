"""The recipe of a model in the lake. It is in a file beside the model; a table's recipe is in its commit."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe, recipe_in
from models.inference import onnx_session


@dataclass(frozen=True)
class ModelRecipe:
    """The files of a model that a command trains.

    Attributes:
        model: The model's file in the lake.
        recipe: The file of its recipe.
        digest: The key of the model's digest in the command's result.
        made_at: The key of the training time in the recipe's file.
    """

    model: str
    recipe: str
    digest: str
    made_at: str

    def made_by(self, lake: Lake, recipe: Recipe) -> Recipe | None:
        """Returns the stored recipe, with its result, if the given recipe would make the same model; else None."""
        made = self.stored(lake)
        return made if recipe.makes_the_same(made) else None

    def stored(self, lake: Lake) -> Recipe | None:
        """Returns the recipe of the stored model, with its result; None if there is no model or no recipe of it."""
        if not (lake.has_file(self.model) and lake.has_file(self.recipe)):
            return None
        # The recipe may be one of an earlier version of Winnow.
        made, _ = recipe_in(json.dumps(json.loads(lake.read_file(self.recipe))["recipe"]))
        # Someone may have replaced the model by hand. Then the recipe does not describe it.
        is_its_own = made is not None and made.result.get(self.digest) == onnx_session.digest(
            lake.read_file(self.model)
        )
        return made if is_its_own else None

    def keep(self, lake: Lake, recipe: Recipe) -> None:
        """Writes the recipe of a model that has been written.

        Args:
            lake: The lake of the model.
            recipe: The recipe with the command's result, which has the model's digest.
        """
        content = {"recipe": asdict(recipe), self.made_at: datetime.now(UTC).isoformat(timespec="seconds")}
        lake.write_file(self.recipe, json.dumps(content, indent=1, sort_keys=True).encode())
