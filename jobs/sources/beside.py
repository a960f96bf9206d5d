"""Finds the files beside an image that describe it: its caption (`.txt`, `.caption`) and its fields (`.json`)."""

import posixpath
from collections.abc import Iterable, Mapping, Sequence

# Which file an image gets if there are several: the first of these names.
_TEXTS = ("{stem}.txt", "{name}.txt", "{stem}.caption")
_JSONS = ("{stem}.json", "{name}.json")
_ENDINGS = (".txt", ".caption", ".json")


def is_side_file(name: str) -> bool:
    """Returns whether the name of a file is that of a text or JSON file.

    Examples:
        >>> is_side_file("a.jpg.TXT"), is_side_file("a.jpg")
        (True, False)
    """
    return posixpath.splitext(name)[1].lower() in _ENDINGS


def side_files(names: Iterable[str]) -> dict[str, str]:
    """Returns the text and JSON files among the files of a folder.

    Args:
        names: Names of all files of the folder.

    Returns:
        Their names, by the name with its extension in lower case. Of names that differ only in the case of the
        extension, `x.txt` counts before `x.TXT`.

    Examples:
        >>> side_files(["a.TXT", "a.jpg", "b.TXT", "b.txt"])
        {'a.txt': 'a.TXT', 'b.txt': 'b.txt'}
    """
    found = {}
    for name in sorted(filter(is_side_file, names)):  # capital letters come first
        stem, ending = posixpath.splitext(name)
        found[stem + ending.lower()] = name
    return found


def text_file(image: str, beside: Mapping[str, str]) -> str | None:
    """Returns the text file with the caption of an image: of `x.jpg`, `x.txt`, else `x.jpg.txt`, else `x.caption`.

    Upper and lower case are equal in the extension of the text file.

    Args:
        image: Name of the image.
        beside: `side_files` of its folder.

    Examples:
        >>> text_file("a.jpg", side_files(["a.jpg", "a.caption", "a.jpg.TXT"]))
        'a.jpg.TXT'
    """
    return _first(image, _TEXTS, beside)


def json_file(image: str, beside: Mapping[str, str]) -> str | None:
    """Returns the JSON file with the fields of an image: of `x.jpg`, `x.json`, else `x.jpg.json`.

    Upper and lower case are equal in the extension of the JSON file.

    Args:
        image: Name of the image.
        beside: `side_files` of its folder.

    Examples:
        >>> json_file("a.jpg", side_files(["a.jpg.json", "b.json"]))
        'a.jpg.json'
    """
    return _first(image, _JSONS, beside)


def _first(image: str, patterns: Sequence[str], beside: Mapping[str, str]) -> str | None:
    stem = posixpath.splitext(image)[0]
    names = (pattern.format(stem=stem, name=image) for pattern in patterns)
    return next((beside[name] for name in names if name in beside), None)
