"""The modules that train, which need torch: an extra that only training asks for."""

from importlib import import_module
from types import ModuleType

from models.errors import WinnowError


def module(name: str) -> ModuleType:
    """A module of `models.training`.

    Raises:
        WinnowError: What it needs is not installed.
    """
    try:
        return import_module(f"models.training.{name}")
    except ImportError as error:
        raise WinnowError(
            f"training needs {error.name}, which is not installed: install Winnow with its extra `train`, as "
            "`pip install '.[train]'` in its folder does"
        ) from error
