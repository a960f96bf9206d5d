"""Model files: found on the driver, and shipped to the workers under the name of their digest."""

from models.inference.runtime import read
from udfs.inference.model_files import distribute_model

__all__ = ["read", "distribute_model"]
