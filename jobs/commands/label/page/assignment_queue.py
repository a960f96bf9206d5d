"""Who is assigned which picture, and what they said: the state of a label page, without Spark and without the web."""

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

# A longer gap between two decisions is a pause, which the rate leaves out.
_PAUSE = timedelta(seconds=60)


@dataclass(frozen=True)
class Queued:
    """An image that waits for a label.

    Attributes:
        image_id: Which image.
        origin: The strategy that picked it, which becomes its label's origin.
        reason: Why it was picked, in words.
    """

    image_id: str
    origin: str
    reason: str


@dataclass(frozen=True)
class Rules:
    """How pictures are assigned.

    Attributes:
        category: What is labelled.
        lease_seconds: How long a picture stays with a person from whom nothing is heard.
        overlap: Share of the pictures that everybody is assigned, in [0, 1]; all others go to one person each.
        positives_needed: Random positives without which the category cannot be calibrated.
    """

    category: str
    lease_seconds: float
    overlap: float
    positives_needed: int


@dataclass(frozen=True)
class Assigned:
    """What a person is given to look at.

    Attributes:
        pictures: In the order of the queue.
        lost: Of what they still held, what is no longer theirs.
        loading: PagePictures for them that have not been read from the lake yet.
        elsewhere: PagePictures that are with other people for now.
    """

    pictures: Sequence[Queued]
    lost: Sequence[str]
    loading: int
    elsewhere: int


@dataclass(frozen=True)
class LabellingProgress:
    """How far one person and everybody are.

    Attributes:
        done: Queued pictures that this person answered.
        left: Queued pictures that this person may still be assigned.
        answers: This person's answers on the queue: yes, no, unsure.
        today: This person's answers of today, and how many they give in an hour without pauses (None: too few).
        labels: Labelled images of the category by origin: yes, no.
        random_positives: Positive random images, and how many calibration needs.
        agreement: Between each two people who saw the same pictures.
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
    """The queue of a category and everybody's answers to it; all methods may be called from any thread.

    Args:
        rules: How pictures are assigned.
        record: Writes entries where they survive a crash; called before a decision counts.
        other_labels: Labelled images that are not queued, by origin: yes, no.
        clock: Seconds that never go back.
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

    # What is there ------------------------------------------------------------------------------------------------

    def add(self, queued: Iterable[Queued], decisions: Iterable[Decision] = ()) -> int:
        """Adds queued images that are not there yet and answers that were given before; returns how many are new."""
        with self._lock:
            before = len(self._queue)
            for one in queued:
                self._queue.setdefault(one.image_id, one)
            for decision in sorted(decisions, key=lambda d: d.at):
                if decision.image_id in self._queue and self._counts(decision):
                    self._answers.setdefault(decision.image_id, {})[decision.annotator] = decision
            return len(self._queue) - before

    def give_up(self, image_ids: Iterable[str]) -> None:
        """Hands these out no more: they cannot be shown."""
        with self._lock:
            self._unshowable.update(image_ids)

    def holds(self, image_id: str) -> bool:
        """Whether the image is queued."""
        return image_id in self._queue

    def wanted(self, ahead: int) -> list[str]:
        """The images that somebody will be assigned next, at most `ahead` for each person."""
        with self._lock:
            people = self._people or {""}
            each = [itertools.islice((q.image_id for q in self._open(p)), ahead) for p in sorted(people)]
            return list(dict.fromkeys(itertools.chain.from_iterable(each)))

    # What people do -----------------------------------------------------------------------------------------------

    def assign(
        self, annotator: str, holding: Sequence[str], count: int, ready: Callable[[str], bool] = lambda _: True
    ) -> Assigned:
        """Gives a person pictures beyond those they hold, and renews their lease on these.

        Args:
            annotator: Who.
            holding: PagePictures they have been given and not answered.
            count: How many more they want.
            ready: Whether a picture can be shown at once.
        """
        with self._lock:
            self._people.add(annotator)
            until, held = self.clock() + self.rules.lease_seconds, set(holding)
            pictures: list[Queued] = []
            kept, loading = set(), 0
            for one in self._open(annotator):
                if one.image_id in held:
                    kept.add(one.image_id)
                elif len(pictures) == count:
                    continue
                elif not ready(one.image_id):
                    loading += 1
                    continue
                else:
                    pictures.append(one)
                self._leases.setdefault(one.image_id, {})[annotator] = until
            elsewhere = sum(1 for _ in self._elsewhere(annotator))
            return Assigned(pictures, [i for i in holding if i not in kept], loading, elsewhere)

    def decide(self, annotator: str, image_id: str, answer: Answer) -> bool:
        """Records an answer; the same once more changes nothing, another one takes the place of the first.

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
        """Takes back a person's answer and hands them the picture again.

        Args:
            annotator: Who.
            image_id: Which; their newest answer when not given.

        Raises:
            OSError: It could not be recorded, and the answer stands.
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
        """Gives a person's unanswered pictures back to the queue."""
        with self._lock:
            self._people.discard(annotator)
            for leases in self._leases.values():
                leases.pop(annotator, None)

    def progress(self, annotator: str) -> LabellingProgress:
        """How far a person and everybody are."""
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

    # Who may see what ---------------------------------------------------------------------------------------------

    def _open(self, annotator: str) -> Iterator[Queued]:
        """What a person may be assigned: not answered by them, nor, unless it is shared, anyone else's."""
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
        """Whether the picture is with somebody else."""
        leases = self._leases.get(image_id)
        return leases is not None and any(who != annotator and until > now for who, until in leases.items())

    @staticmethod
    def _labelled(answers: Mapping[str, Decision]) -> bool:
        # Who is unsure leaves the picture to others.
        return any(decision.answer != "unsure" for decision in answers.values())

    def _shared(self, image_id: str) -> bool:
        """Whether everybody is assigned the picture: by a hash of its id, so that nobody can choose."""
        if self.rules.overlap in (0, 1):
            return bool(self.rules.overlap)
        share = int.from_bytes(hashlib.sha256(f"overlap {image_id}".encode()).digest()[:8]) / 2**64
        return share < self.rules.overlap

    def _counts(self, decision: Decision) -> bool:
        # A random sample is labelled as such whatever else is known of an image: else it were none of all images.
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
    """Answers of today and how many come in an hour of work; None from fewer than five."""
    today = sorted(at for at in times if at.astimezone(now.tzinfo).date() == now.date())
    gaps: list[Any] = [b - a for a, b in itertools.pairwise(today) if b - a <= _PAUSE]
    if len(gaps) < 4:
        return len(today), None
    return len(today), 3600 * len(gaps) / max(sum(gaps, timedelta()).total_seconds(), 1.0)
