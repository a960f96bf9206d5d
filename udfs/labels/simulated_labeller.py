"""A labeller who knows the truth and errs as often as is wanted: for demos, tests and benchmarks."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql.functions import pandas_udf


@dataclass(frozen=True)
class SimulatedLabeller:
    """Answers from the truth, some of them wrong.

    Which answers are wrong depends on the labeller, the category and the picture alone: asked again, the same person
    errs again, and another one (another name) errs elsewhere.

    Attributes:
        errors: Share of the answers that are wrong, whatever is true, 0 to 1.
        seed: Another seed, other errors.
        name: Who labels.
    """

    errors: float = 0.0
    seed: int = 0
    name: str = "simulated"

    def answers(self, keys: Sequence[str], truth: NDArray[np.bool_], category: str) -> NDArray[np.bool_]:
        """What is answered for some pictures.

        Args:
            keys: The n pictures' names.
            truth: Whether each is of the category, bool of shape (n,).
            category: Which category.

        Returns:
            bool of shape (n,).

        Examples:
            >>> keys, truth = [f"{number}.png" for number in range(1000)], np.zeros(1000, bool)
            >>> int(SimulatedLabeller().answers(keys, truth, "boats").sum())
            0
            >>> 70 <= int(SimulatedLabeller(errors=0.1).answers(keys, truth, "boats").sum()) <= 130
            True
        """
        purpose = hashlib.sha256(f"{self.seed} {self.name} {category}".encode()).hexdigest()[:16]
        drawn = pd.util.hash_pandas_object(pd.Series(keys, dtype=object), index=False, hash_key=purpose).to_numpy()
        return np.asarray(truth ^ (drawn / 2.0**64 < self.errors))


def simulated_answers(labeller: SimulatedLabeller, category: str) -> Callable[[Column, Column], Column]:
    """A pandas UDF from keys and the truth (boolean) to a labeller's answers (boolean)."""

    @pandas_udf("boolean")
    def answer(keys: pd.Series, truth: pd.Series) -> pd.Series:
        return pd.Series(labeller.answers(keys.tolist(), truth.to_numpy(dtype=bool), category), index=keys.index)

    return answer
