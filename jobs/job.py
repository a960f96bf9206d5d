"""What every command is given: the lake, the settings and the progress display."""

from dataclasses import dataclass

from jobs.lake.lake import Lake
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
