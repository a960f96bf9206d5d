"""What a table of the lake is: its name, its columns with their types and descriptions, the command that writes it."""

from collections.abc import Iterable
from dataclasses import dataclass

from pyspark.sql import types as T

# Spark parses DDL only once a session runs, and tables are declared before.
_TYPES: dict[str, T.DataType] = {
    "string": T.StringType(),
    "binary": T.BinaryType(),
    "boolean": T.BooleanType(),
    "int": T.IntegerType(),
    "long": T.LongType(),
    "float": T.FloatType(),
    "double": T.DoubleType(),
    "timestamp": T.TimestampType(),
    "array<string>": T.ArrayType(T.StringType()),
    "array<float>": T.ArrayType(T.FloatType()),
}
# The columns by which queries choose rows. Ids are random, so that each file holds all of their range.
_ASKED_FOR = ("part", "encoder", "category", "model", "stage")


@dataclass(frozen=True)
class Table:
    """A Delta table of the lake.

    Attributes:
        name: Folder of the table below the lake.
        schema: Columns in order, with types. The metadata of each field hold its description as `comment`, which is
            where Delta keeps it. Later versions may add columns and remove none.
        maker: The command that writes it.
        meaning: What its rows are, in a few words.
        partition: Columns that its files are partitioned by.
        later: Columns that a table of 0.1.0 may lack, because they were added after its first version.
        also: Other commands that add rows.
    """

    name: str
    schema: T.StructType
    maker: str
    meaning: str
    partition: tuple[str, ...] = ()
    later: frozenset[str] = frozenset()
    also: tuple[str, ...] = ()

    def lacks(self, columns: Iterable[str]) -> list[str]:
        """Returns the required columns that are missing; none if a table with these columns can be Winnow's.

        Args:
            columns: Names of the columns that a table has, in any case: Spark ignores it.

        Examples:
            >>> schema = columns(("distance", "int", "in bits"), ("found_pairs", "long", "pairs found"))
            >>> Table("distances", schema, "dedup", "pairs by distance").lacks(["Distance", "mine"])
            ['found_pairs']
        """
        present = {name.lower() for name in columns}
        return [name for name in self.schema.names if name not in present and name not in self.later]

    @property
    def asked_for(self) -> list[str]:
        """The columns of which Delta notes the smallest and largest value of each file, so that queries skip files.

        By default it notes 32 columns: beginnings of captions, keys and other texts would make up most of the log, and
        no query asks for a range of them.

        Examples:
            >>> schema = columns(("image_id", "string", "id"), ("caption", "string", "text"), ("part", "int", "number"))
            >>> Table("images", schema, "ingest", "images", partition=("part",)).asked_for
            ['image_id']
            >>> Table("signals", schema, "score", "hashes").asked_for
            ['part']
        """
        asked = [name for name in self.schema.names if name in _ASKED_FOR and name not in self.partition]
        return asked or self.schema.names[:1]

    def description(self, column: str) -> str:
        """Returns the description of a column."""
        return str(self.schema[column].metadata["comment"])


def columns(*rows: tuple[str, str, str]) -> T.StructType:
    """Returns the schema of a table.

    Args:
        rows: Name, type and description of each column, in order.
    """
    return T.StructType([T.StructField(name, _TYPES[kind], metadata={"comment": text}) for name, kind, text in rows])
