"""A simulated labeller that knows the truth and makes errors at a given rate, for demos, tests and benchmarks."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql.functions import pandas_udf


@dataclass(frozen=True)
class SimulatedLabeller:
    """A labeller that answers from the truth, with some errors.

    The errors depend only on the labeller, the category and the image. So the same labeller always makes the same
    errors, and a labeller with another name makes different ones.

    Attributes:
        errors: Share of wrong answers, 0 to 1; the same for positive and negative images.
        seed: Seed of the errors.
        name: Name of the labeller.
    """

    errors: float = 0.0
    seed: int = 0
    name: str = "simulated"

    def answers(self, keys: Sequence[str], truth: NDArray[np.bool_], category: str) -> NDArray[np.bool_]:
        """Returns the answers for some images.

        Args:
            keys: Keys of the n images.
            truth: Whether each image is of the category, bool of shape (n,).
            category: Name of the category.

        Returns:
            bool of shape (n,).

        Examples:
            >>> keys, truth = [f"{number}.png" for number in range(1000)], np.zeros(1000, bool)
            >>> int(SimulatedLabeller().answers(keys, truth, "boats").sum())
            0
            >>> 70 <= int(SimulatedLabeller(errors=0.1).answers(keys, truth, "boats").sum()) <= 130
            True
        """
        import pandas as pd

        purpose = hashlib.sha256(f"{self.seed} {self.name} {category}".encode()).hexdigest()[:16]
        drawn = pd.util.hash_pandas_object(pd.Series(keys, dtype=object), index=False, hash_key=purpose).to_numpy()
        return np.asarray(truth ^ (drawn / 2.0**64 < self.errors))


def simulated_answers(labeller: SimulatedLabeller, category: str) -> Callable[[Column, Column], Column]:
    """Returns a pandas UDF from keys and the truth (boolean) to a labeller's answers (boolean)."""
    import pandas as pd

    @pandas_udf("boolean")
    def answer(keys: pd.Series, truth: pd.Series) -> pd.Series:
        return pd.Series(labeller.answers(keys.tolist(), truth.to_numpy(dtype=bool), category), index=keys.index)

    return answer
