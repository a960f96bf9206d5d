"""What every command gets: the lake, the settings and the progress display."""

import shlex
from dataclasses import dataclass

from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime.config import Settings
from jobs.runtime.progress import Progress

Summary = dict[str, int | float | str]
"""The result of a command by name, for the table that ends it: counts, shares and addresses."""


@dataclass(frozen=True)
class Job:
    """One run of a command.

    Attributes:
        lake: The lake whose tables the command reads and writes.
        settings: All settings.
        progress: The progress display; put `with job.progress.step("text"):` around each Spark action.
        options: The options that every command takes, as words of the command line, if it was called from there.
    """

    lake: Lake
    settings: Settings
    progress: Progress
    options: tuple[str, ...] = ()

    def command(self, *words: str) -> str:
        """Returns a command on the same lake with the same settings, as a line that can be pasted into a shell.

        Args:
            words: Its name, and its own arguments and options.
        """
        return shlex.join(["winnow", *words, *(self.options or ("--lake", self.lake.uri))])

    def up_to_date(self, made: Recipe | None) -> Summary | None:
        """Reports that there is nothing to do and returns the earlier result; None if there is work to do.

        Args:
            made: The recipe of the existing output if it matches the recipe that the command would follow now; else
                None.
        """
        if made is None:
            return None
        category = f" {made.settings['category']}" if "category" in made.settings else ""
        self.progress.note(f"{made.command}{category}: up to date")
        return dict(made.result)
