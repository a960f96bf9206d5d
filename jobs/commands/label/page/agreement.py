"""How well people agree who labelled the same pictures."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from sklearn.metrics import cohen_kappa_score

from jobs.commands.label.page.journal import Decision


@dataclass(frozen=True)
class Agreement:
    """What two people said of the pictures that both labelled.

    Attributes:
        people: Their names.
        pictures: Labelled by both, with yes or no.
        agreed: Of those, labelled alike.
        kappa: Cohen's kappa; None where it is not defined, as when both always say the same.
    """

    people: tuple[str, str]
    pictures: int
    agreed: int
    kappa: float | None


def agreements(decisions: Iterable[Decision]) -> list[Agreement]:
    """The agreement of each two people with pictures in common; who is unsure has not labelled.

    Args:
        decisions: One of each person and image.

    Source:
        Cohen (1960), "A coefficient of agreement for nominal scales".
    """
    by_person: dict[str, dict[str, bool]] = {}
    for decision in decisions:
        if decision.answer != "unsure":
            by_person.setdefault(decision.annotator, {})[decision.image_id] = decision.answer == "yes"
    found = []
    for a, b in itertools.combinations(sorted(by_person), 2):
        common = sorted(by_person[a].keys() & by_person[b].keys())
        if common:
            left, right = ([by_person[who][image] for image in common] for who in (a, b))
            agreed = sum(x == y for x, y in zip(left, right, strict=True))
            found.append(Agreement((a, b), len(common), agreed, _kappa(left, right)))
    return found


def _kappa(left: list[bool], right: list[bool]) -> float | None:
    if len({*left, *right}) == 1:
        return None
    return float(cohen_kappa_score(left, right))
