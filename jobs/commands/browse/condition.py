"""Conditions that a person types to filter images: parsed here, and turned into SQL whose values are all bound."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from jobs.runtime.wording import did_you_mean

NUMBERS = frozenset({
    "width", "height", "distance", "weight", "sharpness", "noise", "quality", "colour", "jpeg_quality", "unframed",
})  # fmt: skip
"""Columns that hold a number."""

TEXTS = frozenset({
    "image_id", "key", "source", "caption", "format", "state", "reasons", "kept_id", "decision", "why",
})  # fmt: skip
"""Columns that hold a text."""

META, SCORE = "meta", "score"
MOST_CHARACTERS = 500
_MOST_NESTED = 20

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|-?\.\d+)(?![\w.])|'(?P<single>(?:[^']|'')*)'|"(?P<double>[^"]*)"
    |(?P<operator><=|>=|!=|<>|==|[=<>(),])|(?P<word>[^\W\d][\w\-]*(?:\.(?:[\w\-]+|"[^"]+"))*))""",
    re.VERBOSE,
)
_OPERATORS = {"=": "=", "==": "=", "!=": "<>", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_KEYWORDS = frozenset({"and", "or", "not", "is", "null", "in", "contains", "true", "false"})
_EXAMPLE = "for example: width >= 512 and meta.punsafe < 0.1 and not caption contains 'logo'"


class ConditionError(ValueError):
    """A condition that cannot be read. Its text says why and where, on one line."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    place: int


@dataclass(frozen=True)
class _Column:
    """A column as SQL: as a number, as a text, and as it is."""

    name: str
    number: str | None
    text: str | None
    raw: str


@dataclass
class _Parser:
    """Reads a condition by recursive descent.

    Attributes:
        condition: The whole text.
        categories: Names of the categories that have scores.
        values: The values of the SQL by name, filled while it is read.
    """

    condition: str
    categories: Collection[str]
    values: dict[str, object] = field(default_factory=dict)
    place: int = 0
    nested: int = 0

    def __post_init__(self) -> None:
        self.tokens = [*_tokens(self.condition), _Token("end", "", len(self.condition))]

    def whole(self) -> str:
        sql = self._any()
        if self._now.kind != "end":
            raise self._fault("expected `and`, `or` or the end")
        return sql

    @property
    def _now(self) -> _Token:
        return self.tokens[self.place]

    def _takes(self, *words: str) -> str | None:
        token = self._now
        if token.kind in ("word", "operator") and token.text.lower() in words:
            self.place += 1
            return token.text.lower()
        return None

    def _fault(self, expected: str) -> ConditionError:
        token = self._now
        found = f"{token.text!r} at character {token.place + 1}" if token.kind != "end" else "the end"
        return ConditionError(f"the condition cannot be read: {expected}, found {found}; {_EXAMPLE}")

    def _any(self) -> str:
        parts = [self._all()]
        while self._takes("or"):
            parts.append(self._all())
        return f"({' or '.join(parts)})"

    def _all(self) -> str:
        parts = [self._one()]
        while self._takes("and"):
            parts.append(self._one())
        return f"({' and '.join(parts)})"

    def _one(self) -> str:
        negated = False
        while self._takes("not"):
            negated = not negated
        if not self._takes("("):
            sql = self._comparison()
        else:
            self.nested += 1
            if self.nested > _MOST_NESTED:
                raise ConditionError(f"the condition cannot be read: more than {_MOST_NESTED} nested parentheses")
            sql = self._any()
            self.nested -= 1
            if not self._takes(")"):
                raise self._fault("expected `)`")
        return f"(not {sql})" if negated else sql

    def _comparison(self) -> str:
        column = self._column()
        if self._takes("is"):
            negated = " not" if self._takes("not") else ""
            if not self._takes("null"):
                raise self._fault("expected `null`")
            return f"({column.raw} is{negated} null)"
        if self._takes("contains"):
            if column.text is None:
                raise ConditionError(f"{column.name} is a number: `contains` is for texts")
            if self._now.kind != "text":
                raise self._fault("expected a text in quotes")
            return f"(instr(lower({column.text}), lower({self._bound(self._value())})) > 0)"
        if self._takes("in"):
            return self._among(column)
        sign = self._takes(*_OPERATORS)
        if sign is None:
            raise self._fault("expected =, !=, <, <=, >, >=, `contains`, `in` or `is null`")
        return self._compared(column, _OPERATORS[sign], self._value())

    def _among(self, column: _Column) -> str:
        if not self._takes("("):
            raise self._fault("expected `(`")
        parts = [self._compared(column, "=", self._value())]
        while self._takes(","):
            parts.append(self._compared(column, "=", self._value()))
        if not self._takes(")"):
            raise self._fault("expected `,` or `)`")
        return f"({' or '.join(parts)})"

    def _compared(self, column: _Column, sign: str, value: object) -> str:
        side = column.text if isinstance(value, str) else column.number
        if side is None:
            has, given = ("number", "text") if isinstance(value, str) else ("text", "number")
            hint = f": put it in quotes, '{value:g}'" if isinstance(value, float) else ""
            raise ConditionError(f"{column.name} is a {has}, but {value!r} is a {given}{hint}")
        return f"({side} {sign} {self._bound(value)})"

    def _value(self) -> object:
        token = self._now
        self.place += 1
        if token.kind == "number":
            return float(token.text)
        if token.kind == "text":
            return token.text
        if token.kind == "word" and token.text.lower() in ("true", "false"):
            return float(token.text.lower() == "true")
        self.place -= 1
        hint = f" (a text needs quotes: '{token.text}')" if token.kind == "word" else ""
        raise self._fault(f"expected a number or a text in quotes{hint}")

    def _bound(self, value: object) -> str:
        name = f"c{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def _column(self) -> _Column:
        token = self._now
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            raise self._fault("expected a column")
        self.place += 1
        first, _, rest = token.text.partition(".")
        if first.lower() == META and rest:
            path = self._bound(_json_path(rest))
            raw = f"json_extract(image.meta, {path})"
            return _Column(token.text, f"as_number({raw})", f"cast({raw} as text)", raw)
        if first.lower() == SCORE and rest:
            return self._score(rest.replace('"', ""))
        name = token.text.lower()
        if name in NUMBERS:
            return _Column(name, f"image.{name}", None, f"image.{name}")
        if name in TEXTS:
            return _Column(name, None, f"image.{name}", f"image.{name}")
        known = sorted(NUMBERS | TEXTS)
        hint = did_you_mean(name, known)
        raise ConditionError(
            f"there is no column {token.text!r}{hint} (columns: {', '.join(known)}, meta.FIELD, score.CATEGORY)"
        )

    def _score(self, category: str) -> _Column:
        if category not in self.categories:
            known = ", ".join(sorted(self.categories)) or "none"
            raise ConditionError(f"there are no scores of {category!r}; categories with scores: {known}")
        name = self._bound(category)
        raw = f"(select s.score from score s where s.image_id = image.image_id and s.category = {name})"
        return _Column(f"score.{category}", raw, None, raw)


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None:
            rest = text[place:].lstrip()
            at = len(text) - len(rest) + 1
            raise ConditionError(f"the condition cannot be read from {rest[:20]!r} on (character {at}); {_EXAMPLE}")
        kind = found.lastgroup or ""
        start = found.start() + len(found[0]) - len(found[0].lstrip())
        if kind in ("single", "double"):
            yield _Token("text", found[kind].replace("''", "'") if kind == "single" else found[kind], start)
        else:
            yield _Token(kind, found[kind], start)
        place = found.end()


def _json_path(fields: str) -> str:
    """Returns the path of a field of `meta` for SQLite.

    Examples:
        >>> print(_json_path('exif."Image Model"'))
        $."exif"."Image Model"
    """
    parts = re.findall(r'"([^"]+)"|([^."]+)', fields)
    return "$" + "".join(f'."{quoted or plain}"' for quoted, plain in parts)


def sql_of(condition: str, categories: Collection[str] = ()) -> tuple[str, Mapping[str, object]]:
    """Returns a condition as an SQL expression over the tables of the index, and its values by name.

    No text of the condition becomes a part of the SQL: columns are looked up, and values, fields of `meta` and names of
    categories are bound.

    Args:
        condition: Comparisons of columns with values, with `and`, `or`, `not` and parentheses.
        categories: Names of the categories that have scores.

    Raises:
        ConditionError: The condition cannot be read, or names a column that does not exist.

    Examples:
        >>> sql_of("width >= 512 or format in ('PNG', 'WEBP')")[0]
        '(((image.width >= :c0)) or (((image.format = :c1) or (image.format = :c2))))'
        >>> sql_of("meta.punsafe < 0.1")[1]
        {'c0': '$."punsafe"', 'c1': 0.1}
    """
    if len(condition) > MOST_CHARACTERS:
        raise ConditionError(f"the condition is longer than {MOST_CHARACTERS} characters")
    parser = _Parser(condition, categories)
    return parser.whole(), parser.values


def as_number(value: object) -> float | None:
    """Returns a number, also from a text that is one; None otherwise.

    Examples:
        >>> as_number("0.25"), as_number(3), as_number("a"), as_number("nan")
        (0.25, 3.0, None, None)
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if number == number else None
