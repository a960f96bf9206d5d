"""How a model that lies in the lake was made; kept in a file beside it, as a table's recipe is in its commit."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from models.inference import onnx_session


@dataclass(frozen=True)
class ModelRecipe:
    """The files of a model that a command trains.

    Attributes:
        model: The model's file below the lake.
        recipe: The file of its recipe.
        digest: What the command's result calls the model's digest.
        made_at: What the recipe's file calls the time of the training.
    """

    model: str
    recipe: str
    digest: str
    made_at: str

    def made_by(self, lake: Lake, recipe: Recipe) -> Recipe | None:
        """How the model was made, with the result, if it is there and a recipe makes the same; else None."""
        if not (lake.has_file(self.model) and lake.has_file(self.recipe)):
            return None
        made = Recipe(**json.loads(lake.read_file(self.recipe))["recipe"])
        # A model that was put there by other means is not the one that the recipe made.
        is_its_own = made.result.get(self.digest) == onnx_session.digest(lake.read_file(self.model))
        return made if is_its_own and recipe.makes_the_same(made) else None

    def keep(self, lake: Lake, recipe: Recipe) -> None:
        """Notes how the model was made, once it is written.

        Args:
            lake: Where the model lies.
            recipe: With the command's result, which has the model's digest.
        """
        kept = {"recipe": asdict(recipe), self.made_at: datetime.now(UTC).isoformat(timespec="seconds")}
        lake.write_file(self.recipe, json.dumps(kept, indent=1, sort_keys=True).encode())
