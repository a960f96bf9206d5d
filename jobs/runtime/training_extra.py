"""Import of the training modules, which need torch (the optional extra `train`)."""

from importlib import import_module
from types import ModuleType

from models.errors import WinnowError


def module(name: str) -> ModuleType:
    """Imports a module of `models.training`.

    Raises:
        WinnowError: A package that it needs is not installed.
    """
    try:
        return import_module(f"models.training.{name}")
    except ImportError as error:
        raise WinnowError(
            f"training needs {error.name}, which is not installed: install Winnow with its extra `train`: run "
            "`pip install '.[train]'` in the folder of Winnow"
        ) from error
