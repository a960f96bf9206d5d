"""The version of Winnow, in the one place that names it, and the versions of the packages that it runs on."""

from importlib import metadata

# pyproject.toml reads this line without running it. A zip for `--py-files` has no metadata of a package, so the code
# itself says which version it is.
VERSION = "0.1.0"


def version_of(package: str) -> str:
    """The version of a package, or `unknown`.

    Args:
        package: Name of the distribution; `winnow` is this code, whatever else is installed.

    Returns:
        The version; `unknown` where the package came without metadata, as in a zip, or is not there.

    Examples:
        >>> version_of("winnow") == VERSION
        True
        >>> version_of("no-such-package")
        'unknown'
    """
    if package == "winnow":
        return VERSION
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
