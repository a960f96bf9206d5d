"""Lists of watched words: TOML files with a list for each topic, named by language (`conf/keywords`) or by path."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from jobs.runtime import settings_files
from jobs.runtime.wording import did_you_mean

OWN = "own"
"""The topic of the words in `audit.keywords`."""


def read(name: str) -> dict[str, list[str]]:
    """Returns the keywords of one list by topic.

    Args:
        name: A language of `conf/keywords`, such as `en`, or the path of a TOML file of lists of words.

    Raises:
        ValueError: The file is missing, cannot be read as TOML, or a topic is not a list of words.

    Examples:
        >>> "woman" in read("en")["gender"]
        True
    """
    folder = resources.files("conf").joinpath("keywords")
    file = Path(name) if name.endswith(".toml") else folder.joinpath(f"{name}.toml")
    try:
        topics = settings_files.read_toml(file)
    except OSError as error:
        shipped = sorted(one.name.removesuffix(".toml") for one in folder.iterdir())
        raise ValueError(
            f"there is no keyword list {name!r}: choose one of {', '.join(shipped)}, or the path of a .toml file"
            f"{did_you_mean(name, shipped)}"
        ) from error
    except ValueError as error:
        raise ValueError(f"keyword list {name}: {error}") from error
    for topic, words in topics.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f'keyword list {name}: {topic} must be a list of words such as ["woman", "old man"]')
    return topics


def topics_of(keywords: Iterable[str], lists: Iterable[str]) -> dict[str, str]:
    """Returns each keyword with its topic, in order; a repeated keyword keeps the topic of its first occurrence.

    Args:
        keywords: The user's own keywords.
        lists: Names of lists, as for `read`.

    Examples:
        >>> topics_of(["zebra"], [])
        {'zebra': 'own'}
    """
    found = dict.fromkeys(keywords, OWN)
    for name in lists:
        for topic, words in read(name).items():
            for word in words:
                found.setdefault(word, topic)
    return found
