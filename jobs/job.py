"""What every command is given: the lake, the settings and the progress display."""

from dataclasses import dataclass

from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime.config import Settings
from jobs.runtime.progress import Progress

Summary = dict[str, int | float | str]
"""What a command did, by name, for the table that ends it: counts, shares and addresses."""


@dataclass(frozen=True)
class Job:
    """One command at work.

    Attributes:
        lake: Where tables are read and written.
        settings: All settings.
        progress: Shows long work; `with job.progress.step("text"):` around each Spark action.
    """

    lake: Lake
    settings: Settings
    progress: Progress

    def up_to_date(self, made: Recipe | None) -> Summary | None:
        """Says that there is nothing to do, and returns what the command found when it did it; None where there is.

        Args:
            made: How what the command makes was made by the recipe that it would follow now; None where it was not.
        """
        if made is None:
            return None
        of = f" {made.settings['category']}" if "category" in made.settings else ""
        self.progress.note(f"{made.command}{of}: up to date")
        return dict(made.result)
