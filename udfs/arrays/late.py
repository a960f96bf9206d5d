"""Makes pandas UDFs when they are first used: pandas takes a second to import, and most code needs only the kernels."""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any

from pyspark.sql import Column


class late:  # noqa: N801 - a decorator
    """A pandas UDF that a function makes at the first use; then the same as that UDF.

    Args:
        make: Imports pandas and returns the UDF. Its docstring is that of the UDF.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        update_wrapper(self, make)

    @cached_property
    def _made(self) -> Any:
        return self._make()

    def __call__(self, *columns: Column | str) -> Column:
        """Returns the column of the results."""
        made: Column = self._made(*columns)
        return made

    def __getattr__(self, name: str) -> Any:
        if name in ("_make", "_made") or name.startswith("__"):  # while it is copied, it has no attributes yet
            raise AttributeError(name)
        return getattr(self._made, name)
