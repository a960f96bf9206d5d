"""The version of Winnow, and the versions of the packages that it uses."""

from importlib import metadata

# pyproject.toml reads this line without running it. A zip for `--py-files` has no package metadata, so the version
# stands in the code.
VERSION = "0.1.0"


def version_of(package: str) -> str:
    """Returns the version of a package, or `unknown`.

    Args:
        package: Name of the distribution; `winnow` means this code, whatever else is installed.

    Returns:
        The version; `unknown` if the package is missing or has no metadata, as in a zip.

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
