"""Assignments and answers of a label page, without Spark and without the web server."""

import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.commands.label.page.agreement import Agreement, agreements
from jobs.commands.label.page.journal import ANSWERS, Answer, Decision, JournalEntry

RANDOM = "random"

# A longer gap between two decisions is a pause, and does not count in the rate.
_PAUSE = timedelta(seconds=60)


@dataclass(frozen=True)
class Queued:
    """An image that waits for a label.

    Attributes:
        image_id: Id of the image.
        origin: The strategy that picked it; it becomes the origin of its label.
        reason: Why it was picked, in words.
    """

    image_id: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Rules:
    """Rules by which images are assigned.

    Attributes:
        category: The category to label.
        lease_seconds: Seconds after which an image of a silent person goes to another person.
        overlap: Share of the images that everybody is assigned, in [0, 1]; each other image goes to one person.
        positives_needed: Random positives that `calibrate` needs for the category; 0 if its threshold is set.
    """

    category: str
    lease_seconds: float
    overlap: float
    positives_needed: int


@dataclass(frozen=True)
class Assigned:
    """Images that a person is assigned.

    Attributes:
        images: New images, in the order of the queue.
        lost: Ids of images they held that are no longer assigned to them.
        loading: Number of images for them that are not yet read from the lake.
        elsewhere: Number of images that are assigned to other people at the moment.
    """

    images: Sequence[Queued]
    lost: Sequence[str]
    loading: int
    elsewhere: int


@dataclass(frozen=True)
class LabellingProgress:
    """Progress of one person and of everybody.

    Attributes:
        done: Queued images that this person answered.
        left: Queued images that this person may still be assigned.
        answers: Number of this person's answers in the queue: yes, no, unsure.
        today: Number of this person's answers today, and their answers per hour without pauses (None: too few).
        labels: Number of labelled images of the category by origin: yes, no.
        random_positives: Number of positive random images, and how many `calibrate` needs.
        agreement: Agreement of each pair of people who labelled the same images.
    """

    done: int
    left: int
    answers: Mapping[str, int]
    today: tuple[int, float | None]
    labels: Mapping[str, tuple[int, int]]
    random_positives: tuple[int, int]
    agreement: Sequence[Agreement]


@dataclass
class AssignmentQueue:
    """The queue of a category with everybody's answers; all methods are thread-safe.

    Args:
        rules: Rules by which images are assigned.
        record: Writes entries where they survive a crash; called before a decision counts.
        other_labels: Number of labelled images that are not queued, by origin: yes, no.
        clock: A monotonic clock in seconds.
    """

    rules: Rules
    record: Callable[[Sequence[JournalEntry]], None]
    other_labels: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._queue: dict[str, Queued] = {}
        self._answers: dict[str, dict[str, Decision]] = {}
        self._leases: dict[str, dict[str, float]] = {}
        self._people: set[str] = set()
        self._unshowable: set[str] = set()

    # Contents -----------------------------------------------------------------------------------------------------

    def add(self, queued: Iterable[Queued], decisions: Iterable[Decision] = ()) -> int:
        """Adds images to the queue, and earlier answers to them; returns the number of new images."""
        with self._lock:
            # Only to new images: to the others, people may have given or taken back answers that are not written yet.
            new = {one.image_id: one for one in queued if one.image_id not in self._queue}
            self._queue |= new
            for decision in sorted(decisions, key=lambda d: d.at):
                if decision.image_id in new and self._counts(decision):
                    self._answers.setdefault(decision.image_id, {})[decision.annotator] = decision
            return len(new)

    def give_up(self, image_ids: Iterable[str]) -> None:
        """Stops assigning these images, because they cannot be shown."""
        with self._lock:
            self._unshowable.update(image_ids)

    def upcoming(self, ahead: int) -> list[str]:
        """Returns the ids of the images that will be assigned next, at most `ahead` for each person."""
        with self._lock:
            people = self._people or {""}
            each = [itertools.islice((q.image_id for q in self._open(p)), ahead) for p in sorted(people)]
            return list(dict.fromkeys(itertools.chain.from_iterable(each)))

    # Answers -----------------------------------------------------------------------------------------------------

    def assign(
        self, annotator: str, holding: Sequence[str], count: int, ready: Callable[[str], bool] = lambda _: True
    ) -> Assigned:
        """Assigns more images to a person, and renews their lease on those they hold.

        Args:
            annotator: Name of the person.
            holding: Ids of images that they were assigned and have not answered.
            count: Number of new images.
            ready: Returns whether an image can be shown at once.
        """
        with self._lock:
            self._people.add(annotator)
            until, held = self.clock() + self.rules.lease_seconds, set(holding)
            images: list[Queued] = []
            kept, loading = set(), 0
            for one in self._open(annotator):
                if one.image_id in held:
                    kept.add(one.image_id)
                elif len(images) == count:
                    continue
                elif not ready(one.image_id):
                    loading += 1
                    continue
                else:
                    images.append(one)
                self._leases.setdefault(one.image_id, {})[annotator] = until
            elsewhere = sum(1 for _ in self._elsewhere(annotator))
            return Assigned(images, [i for i in holding if i not in kept], loading, elsewhere)

    def decide(self, annotator: str, image_id: str, answer: Answer) -> bool:
        """Records an answer. Repeating it changes nothing; a different answer replaces the first.

        Returns:
            Whether the image is queued at all.

        Raises:
            OSError: The answer could not be recorded, and does not count.
        """
        with self._lock:
            queued = self._queue.get(image_id)
            if queued is None:
                return False
            before = self._answers.get(image_id, {}).get(annotator)
            if before is None or before.answer != answer:
                made = Decision(image_id, self.rules.category, answer, queued.origin, annotator, datetime.now(UTC))
                self.record([*([JournalEntry(before, undone=True)] if before else []), JournalEntry(made)])
                self._answers.setdefault(image_id, {})[annotator] = made
            self._leases.get(image_id, {}).pop(annotator, None)
            self._people.add(annotator)
            return True

    def undo(self, annotator: str, image_id: str | None = None) -> Queued | None:
        """Undoes an answer of a person and assigns them the image again.

        Args:
            annotator: Name of the person.
            image_id: Image of the answer; None means the person's newest answer.

        Returns:
            The image; None if there is no such answer.

        Raises:
            OSError: The undo could not be recorded, and the answer still counts.
        """
        with self._lock:
            own = [d for by in self._answers.values() for d in by.values() if d.annotator == annotator]
            named = [d for d in own if image_id in (None, d.image_id)]
            if not named:
                return None
            last = max(named, key=lambda d: d.at)
            self.record([JournalEntry(last, undone=True)])
            del self._answers[last.image_id][annotator]
            self._leases.setdefault(last.image_id, {})[annotator] = self.clock() + self.rules.lease_seconds
            return self._queue[last.image_id]

    def leave(self, annotator: str) -> None:
        """Returns the unanswered images of a person to the queue."""
        with self._lock:
            self._people.discard(annotator)
            for leases in self._leases.values():
                leases.pop(annotator, None)

    def progress(self, annotator: str) -> LabellingProgress:
        """Returns the progress of a person and of everybody."""
        with self._lock:
            own = [by[annotator] for by in self._answers.values() if annotator in by]
            counts = Counter(d.answer for d in own)
            labels = self._labels()
            return LabellingProgress(
                done=len(own),
                left=sum(1 for _ in self._open(annotator)),
                answers={answer: counts[answer] for answer in ANSWERS},
                today=_rate([d.at for d in own], datetime.now().astimezone()),
                labels=labels,
                random_positives=(labels.get(RANDOM, (0, 0))[0], self.rules.positives_needed),
                agreement=agreements(d for by in self._answers.values() for d in by.values()),
            )

    # Rules --------------------------------------------------------------------------------------------------------

    def _open(self, annotator: str) -> Iterator[Queued]:
        """Yields the images that may be assigned to a person: unanswered by them and, unless shared, free of others."""
        now = self.clock()
        for image_id, one in self._queue.items():
            answers = self._answers.get(image_id, {})
            if image_id in self._unshowable or annotator in answers:
                continue
            if self._shared(image_id) or not (self._labelled(answers) or self._leased(image_id, annotator, now)):
                yield one

    def _elsewhere(self, annotator: str) -> Iterator[str]:
        now = self.clock()
        for image_id in self._leases:
            answers = self._answers.get(image_id, {})
            unanswered = annotator not in answers and not self._labelled(answers)
            if unanswered and not self._shared(image_id) and self._leased(image_id, annotator, now):
                yield image_id

    def _leased(self, image_id: str, annotator: str, now: float) -> bool:
        """Returns whether the image is assigned to somebody else."""
        leases = self._leases.get(image_id)
        return leases is not None and any(person != annotator and until > now for person, until in leases.items())

    @staticmethod
    def _labelled(answers: Mapping[str, Decision]) -> bool:
        # After the answer unsure, others may still label the image.
        return any(decision.answer != "unsure" for decision in answers.values())

    def _shared(self, image_id: str) -> bool:
        """Returns whether everybody is assigned the image; decided by a hash of its id."""
        if self.rules.overlap in (0, 1):
            return bool(self.rules.overlap)
        share = int.from_bytes(hashlib.sha256(f"overlap {image_id}".encode()).digest()[:8]) / 2**64
        return share < self.rules.overlap

    def _counts(self, decision: Decision) -> bool:
        # An image of the random sample needs a random label even if it has another one: the sample covers all images.
        return self._queue[decision.image_id].origin != RANDOM or decision.origin == RANDOM

    def _labels(self) -> dict[str, tuple[int, int]]:
        totals: dict[str, list[int]] = {origin: list(counts) for origin, counts in self.other_labels.items()}
        for by in self._answers.values():
            firm = [d for d in by.values() if d.answer != "unsure"]
            if firm:
                newest = max(firm, key=lambda d: d.at)
                totals.setdefault(newest.origin, [0, 0])[newest.answer == "no"] += 1
        return {origin: (yes, no) for origin, (yes, no) in totals.items()}


def _rate(times: Iterable[datetime], now: datetime) -> tuple[int, float | None]:
    """Returns the number of answers today and the answers per hour of work; None if there are fewer than five."""
    today = sorted(at for at in times if at.astimezone(now.tzinfo).date() == now.date())
    gaps: list[Any] = [b - a for a, b in itertools.pairwise(today) if b - a <= _PAUSE]
    if len(gaps) < 4:
        return len(today), None
    return len(today), 3600 * len(gaps) / max(sum(gaps, timedelta()).total_seconds(), 1.0)
