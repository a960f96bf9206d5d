"""Agreement of people who labelled the same images."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from jobs.commands.label.page.journal import Decision


@dataclass(frozen=True)
class Agreement:
    """Agreement of two people on the images that both labelled.

    Attributes:
        people: Their names.
        images: Images that both labelled yes or no.
        agreed: Images among these that have the same label from both.
        kappa: Cohen's kappa; None where it is undefined, for example if both always give the same answer.
    """

    people: tuple[str, str]
    images: int
    agreed: int
    kappa: float | None


def agreements(decisions: Iterable[Decision]) -> list[Agreement]:
    """Returns the agreement of each pair of people with labelled images in common; *unsure* is not a label.

    Args:
        decisions: At most one for each person and image.

    Source:
        Cohen (1960), "A coefficient of agreement for nominal scales".
    """
    by_person: dict[str, dict[str, bool]] = {}
    for decision in decisions:
        if decision.answer != "unsure":
            by_person.setdefault(decision.annotator, {})[decision.image_id] = decision.answer == "yes"
    result = []
    for a, b in itertools.combinations(sorted(by_person), 2):
        common = sorted(by_person[a].keys() & by_person[b].keys())
        if common:
            left, right = ([by_person[person][image] for image in common] for person in (a, b))
            agreed = sum(x == y for x, y in zip(left, right, strict=True))
            result.append(Agreement((a, b), len(common), agreed, _kappa(left, right)))
    return result


def _kappa(left: list[bool], right: list[bool]) -> float | None:
    from sklearn.metrics import cohen_kappa_score  # takes a second to import

    if len({*left, *right}) == 1:
        return None
    return float(cohen_kappa_score(left, right))
