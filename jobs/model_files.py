"""Model files: found on the driver, and shipped to the workers under the name of their digest."""

from models.inference.runtime import read
from udfs.shipping import ship

__all__ = ["read", "ship"]
