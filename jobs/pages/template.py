"""The template environment, the style sheet and the text filters of all pages."""

import re
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup, escape

PICTURE_BYTES = 8_000_000
_KEY_CHARACTERS = 160
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def template(name: str) -> Template:
    """Returns the template of a page; it escapes every value, and an undefined name raises an error.

    Args:
        name: A file in jobs/pages/templates.
    """
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = clean
    environment.filters["key"] = shown_key
    environment.filters["prose"] = prose
    return environment.get_template(name)


def style() -> Markup:
    """Returns the style sheet of all pages."""
    return Markup(_template("report.css"))


def clean(text: object) -> str:
    r"""Returns text on one line, without the control characters that HTML does not allow.

    Examples:
        >>> clean("a\x00b\n c")
        'a b c'
        >>> clean(None)
        ''
    """
    return "" if text is None else re.sub(r"\s+", " ", _CONTROLS.sub(" ", str(text))).strip()


def shown_key(key: object) -> str:
    """Returns the start of a key: a key column may hold whole images as `data:` URLs.

    Examples:
        >>> shown_key("000001")
        '000001'
        >>> shown_key("data:image/png;base64," + "A" * 1_000_000)[-3:], len(shown_key("k" * 161))
        ('AA…', 160)
    """
    whole = "" if key is None else str(key)
    return clean(whole) if len(whole) <= _KEY_CHARACTERS else clean(whole[: _KEY_CHARACTERS - 1]) + "…"


def prose(text: str) -> Markup:
    r"""Returns one of our own sentences as HTML: text in backquotes becomes code, and a space before % does not break.

    Examples:
        >>> str(prose("`winnow filter` drops <b> 3 %"))
        '<code>winnow filter</code> drops &lt;b&gt; 3\xa0%'
    """
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(marked.replace(" %", "\u00a0%"))


def _template(name: str) -> str:
    return resources.files("jobs.pages").joinpath("templates", name).read_text("utf-8")
