"""The loss of the encoder: it brings two views of one image together and separates all others.

Source: Pizzi et al., "A Self-Supervised Descriptor for Image Copy Detection", CVPR 2022, section 3.
"""

import torch
from torch import Tensor

_SMALLEST_DISTANCE = 1e-4


def info_nce(first: Tensor, second: Tensor, temperature: float, repeats: Tensor | None = None) -> Tensor:
    """Returns the normalised temperature-scaled cross-entropy of finding each view's partner among all other views.

    Args:
        first: float32 of shape (n, d), unit length: one view of each image.
        second: The other view, same shape.
        temperature: Divides the cosine similarities.
        repeats: Bool of shape (n, n), true for copies of the same image, which are not treated as different. The
            diagonal is ignored.

    Returns:
        The mean over all views, a scalar.

    Source:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020, equation 1.

    Examples:
        >>> apart, same = torch.eye(4), torch.ones(4, 4) / 2
        >>> bool(info_nce(apart, apart, 0.05) < 1e-6), round(float(info_nce(same, same, 0.05)), 3)
        (True, 1.946)
    """
    count = len(first)
    views = torch.cat([first, second])
    similarity = (views @ views.T / temperature).masked_fill(_hidden(count, repeats, views.device), float("-inf"))
    partners = torch.arange(2 * count, device=views.device).roll(count)
    return torch.nn.functional.cross_entropy(similarity, partners)


def crowding(first: Tensor, second: Tensor, repeats: Tensor | None = None) -> Tensor:
    """Returns the average of minus the logarithm of the distance to the nearest other image.

    A lower value spreads the images over the sphere, so that one distance works as the threshold everywhere.

    Args:
        first: float32 of shape (n, d), unit length: one view of each image.
        second: The other view, same shape.
        repeats: As in `info_nce`.

    Returns:
        A scalar.

    Source:
        Pizzi et al. 2022, equation 5, the Kozachenko-Leonenko estimator of entropy.

    Examples:
        >>> near = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
        >>> round(float(crowding(torch.eye(2), torch.eye(2))), 3), round(float(crowding(near, near)), 3)
        (-0.347, 0.458)
    """
    count = len(first)
    views = torch.cat([first, second])
    partners = torch.arange(count, device=views.device)
    hidden = _hidden(count, repeats, views.device)
    hidden[partners, partners + count] = hidden[partners + count, partners] = True
    nearest = (views @ views.T).masked_fill(hidden, -1.0).amax(dim=1)
    return -(2 - 2 * nearest).clamp(min=_SMALLEST_DISTANCE**2).sqrt().log().mean()


def _hidden(count: int, repeats: Tensor | None, device: torch.device) -> Tensor:
    """Returns which of the (2n, 2n) pairs of views are ignored: each view with itself, and the views of repeats."""
    hidden = torch.eye(2 * count, dtype=torch.bool, device=device)
    if repeats is not None:
        others = repeats & ~torch.eye(count, dtype=torch.bool, device=device)
        hidden |= others.repeat(2, 2)
    return hidden
