"""detect: whether an image holds the objects that its prompt's row names, by a zero-shot detector.

    detect:MODEL                      an OWL-ViT, OWLv2 or Grounding DINO of transformers
    detect:MODEL,CLIP                 colours by a CLIP instead of by the rule below
    detect:MODEL,threshold=0.2,counting=0.4

What has to be seen is in the columns `tag`, `include` and `exclude` of the prompt file, in the form
of GenEval's evaluation_metadata.jsonl (Ghosh et al., 2023), which asks six kinds of questions:

    single_object  {"class": "bench", "count": 1}
    two_object     two of these
    counting       {"class": "clock", "count": 2}, and 3 of them in `exclude`
    colors         {"class": "apple", "count": 1, "color": "red"}
    position       {"class": "dog", "count": 1, "position": ["right of", 0]}, the first in the list
    color_attr     two with a color each

An image that has all that is included, and less than what is excluded, is right. A prompt without
`include` has no score.

The rules are GenEval's, with a detector of another kind in place of its Mask2Former, and boxes in
place of masks: so figures are not those of its leaderboard. Where the numbers come from:

    threshold    of a detector's score: what transformers takes for this kind of model by default,
                 0.1 for OWL-ViT and OWLv2, 0.25 for Grounding DINO
    counting     of the same, in rows tagged `counting`; GenEval has a higher one there, for its
                 own detector: by default it is `threshold`
    OVERLAP      two boxes are one object from here on, as in PASCAL VOC (Everingham et al., 2010)
    REACH, SIDE  GenEval's: how far centres have to be apart, and how much to one side
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gcr.comparison.evaluators.builtin import ClipScore, load_whole, picture
from gcr.core.records import Evaluator, Sample, Task
from gcr.device.loading import loading, working
from gcr.errors import ModelError, UsageError
from gcr.files import paths, structured
from gcr.hub.checkpoints import named_errors

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 8
FAMILIES = ("owlvit", "owlv2", "grounding-dino", "mm-grounding-dino")
COLORS = (
    *("red", "orange", "yellow", "green", "blue"),
    *("purple", "pink", "brown", "black", "white"),
)
"""Those that GenEval knows."""
RELATIONS = ("left of", "right of", "above", "below")
OVERLAP = 0.5  # intersection over union
REACH = 0.1  # of the widths, or heights, of both objects
SIDE = 0.5  # of the distance between their centres


class Box(NamedTuple):
    """Where an object is, in pixels from the upper left corner, and how sure that is, 0-1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = 1.0

    @property
    def size(self) -> tuple[float, float]:
        return self.right - self.left, self.bottom - self.top

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)


Detections = Mapping[str, Sequence[Box]]
"""The boxes of each class, the surest first."""


# What has to be seen


@dataclass(frozen=True, slots=True)
class Need:
    """Objects that have to be seen.

    Attributes:
        kind: their class, in words.
        count: how many, at least.
        color: of each, one of COLORS; empty for any.
        position: how each is placed to those of an earlier need, and of which, from 0.
    """

    kind: str
    count: int
    color: str = ""
    position: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What an image has to show.

    Attributes:
        needs: all of which have to be seen.
        excluded: of which fewer than their counts may be seen.
        counting: whether its row is tagged as a question of numbers.
    """

    needs: tuple[Need, ...]
    excluded: tuple[Need, ...] = ()
    counting: bool = False

    @property
    def kinds(self) -> list[str]:
        return list(dict.fromkeys(need.kind for need in (*self.needs, *self.excluded)))


def question(columns: Mapping[str, object]) -> Question | None:
    """What the columns of a row ask for; None: nothing. Raises ValueError for what nobody reads."""
    needs = _needs(columns.get("include"))
    if not needs:
        return None
    return Question(needs, _needs(columns.get("exclude")), columns.get("tag") == "counting")


def _needs(value: object) -> tuple[Need, ...]:
    if isinstance(value, str) and value.strip():  # in a table, as JSON in a cell
        value = structured.parse_json(value)
    if not value:
        return ()
    if not isinstance(value, list):
        raise ValueError("no list of objects")  # noqa: TRY004 - it is in a file
    return tuple(_need(entry, place) for place, entry in enumerate(value))


def _need(entry: object, before: int) -> Need:
    """before: how many objects stand before it in the list."""
    values = entry if isinstance(entry, dict) else {}
    kind, count = values.get("class"), values.get("count")
    if not (isinstance(kind, str) and kind.strip() and isinstance(count, int) and count > 0):
        raise ValueError("an object has a class and a count")
    color, position = values.get("color") or "", values.get("position")
    if color and color not in COLORS:
        raise ValueError(f"{color!r} is none of the colors {', '.join(COLORS)}")
    match position:
        case None:
            return Need(kind.strip(), count, color)
        case [relation, int(target)] if relation in RELATIONS and 0 <= target < before:
            return Need(kind.strip(), count, color, (str(relation), target))
    known = ", ".join(RELATIONS)
    raise ValueError(f"a position is one of {known}, and which object of the list before it")


# Whether it is seen


def is_right(
    question: Question, detections: Detections, color_of: Callable[[Box, str], str]
) -> bool:
    """Whether all that has to be seen was detected. color_of: a box that holds a class."""
    groups: list[Sequence[Box]] = []
    for need in question.needs:
        boxes = detections.get(need.kind, ())[: need.count]
        if len(boxes) < need.count:
            return False
        if need.color and any(color_of(box, need.kind) != need.color for box in boxes):
            return False
        if need.position is not None:
            relation, target = need.position
            if any(relation not in relations(b, other) for b in boxes for other in groups[target]):
                return False
        groups.append(boxes)
    return all(len(detections.get(need.kind, ())) < need.count for need in question.excluded)


def relations(box: Box, other: Box) -> set[str]:
    """How one box is placed to another: none, one or two of `RELATIONS`."""
    offsets = [a - b for a, b in zip(box.centre, other.centre, strict=True)]
    reaches = [REACH * (a + b) for a, b in zip(box.size, other.size, strict=True)]
    distance = math.hypot(*offsets)
    placed = set()
    for offset, reach, names in zip(offsets, reaches, (RELATIONS[:2], RELATIONS[2:]), strict=True):
        if abs(offset) - reach > SIDE * distance:
            placed.add(names[offset > 0])
    return placed


def apart(detections: Mapping[str, Iterable[Box]]) -> Detections:
    """The boxes without those that overlap a surer one of any class, which is the same object."""
    ordered = sorted(
        ((box, kind) for kind, boxes in detections.items() for box in boxes),
        key=lambda pair: -pair[0].score,
    )
    kept: list[tuple[Box, str]] = []
    for box, kind in ordered:
        if all(_overlap(box, other) < OVERLAP for other, _ in kept):
            kept.append((box, kind))
    return {kind: [box for box, kept_kind in kept if kept_kind == kind] for kind in detections}


def _overlap(box: Box, other: Box) -> float:
    """Intersection over union, 0-1."""
    left, top = max(box.left, other.left), max(box.top, other.top)
    right, bottom = min(box.right, other.right), min(box.bottom, other.bottom)
    shared = Box(left, top, right, bottom).area if right > left and bottom > top else 0.0
    union = box.area + other.area - shared
    return shared / union if union else 0.0


# Colours


def color_by_rule(image: Image, box: Box) -> str:
    """The most frequent colour in the middle half of a box, which is less likely background.

    By hue, saturation and value: dark is black; without saturation it is white or gray; then the
    hue decides, where dark or dull orange and red are brown, and light red and purple are pink.
    """
    import numpy as np

    pixels = np.asarray(_cropped(image, box, 0.5).convert("HSV")).reshape(-1, 3)
    colors, counts = np.unique(pixels, axis=0, return_counts=True)
    totals: dict[str, int] = {}
    for (hue, saturation, value), count in zip(colors.tolist(), counts.tolist(), strict=True):
        name = named(hue * 360 / 255, saturation / 255, value / 255)
        totals[name] = totals.get(name, 0) + count
    return max(totals, key=totals.__getitem__)


def _cropped(image: Image, box: Box, share: float = 1) -> Image:
    """The middle of a box, as far as it is in the image, and a pixel at least."""
    spans = []
    for middle, size, end in zip(box.centre, box.size, image.size, strict=True):
        low = min(max(0, math.floor(middle - share * size / 2)), end - 1)
        spans.append((low, max(low + 1, min(end, math.ceil(middle + share * size / 2)))))
    (left, right), (top, bottom) = spans
    return image.crop((left, top, right, bottom))


def named(hue: float, saturation: float, value: float) -> str:  # noqa: PLR0911 - one for each name
    """The name of a colour. hue: in degrees; the others 0-1."""
    if value < 0.2:
        return "black"
    if saturation < 0.15:
        return "white" if value > 0.75 else "gray"
    if hue < 12 or hue >= 345:
        if saturation < 0.6 and value > 0.7:
            return "pink"
        return "brown" if saturation < 0.8 and value < 0.7 else "red"
    if hue < 45:
        return "brown" if value < 0.7 or (saturation < 0.5 and value < 0.85) else "orange"
    if hue < 70:
        return "yellow"
    if hue < 165:
        return "green"
    if hue < 255:
        return "blue"
    return "purple" if value < 0.7 or hue < 295 else "pink"


def color_by_clip(clip: ClipScore, image: Image, box: Box, kind: str) -> str:
    """The colour that a CLIP finds nearest, of `COLORS` in the three phrases that GenEval has."""
    import torch

    phrases = [
        phrase
        for color in COLORS
        for phrase in (
            f"a photo of a {color} {kind}",
            f"a photo of a {color}-colored {kind}",
            f"a photo of a {color} object",
        )
    ]
    seen, read = clip.embedded([_cropped(image, box)], phrases)
    normal = torch.nn.functional.normalize(read, dim=-1)
    read = normal.view(len(COLORS), -1, normal.shape[-1]).mean(1)
    return COLORS[int(torch.cosine_similarity(seen, read).argmax())]


# The detector


class Setup(NamedTuple):
    """What stands behind `detect:`.

    Attributes:
        model: the detector.
        clip: that names colours; None: the rule does.
        threshold: of a box's score, 0-1; None: transformers' default for the detector.
        counting: of the same, where objects are counted; None: as threshold.
    """

    model: str
    clip: str | None = None
    threshold: float | None = None
    counting: float | None = None


def setup(argument: str) -> Setup:
    """Raises UsageError for what cannot be read."""
    if paths.is_folder(paths.expanded(argument)):
        return Setup(argument)
    parts = [part.strip() for part in argument.split(",")]
    models = [part for part in parts if "=" not in part]
    given: dict[str, float] = {}
    for name, sign, value in (part.partition("=") for part in parts if part not in models):
        try:
            given[name.strip()] = float(value)
        except ValueError as error:
            raise _unreadable(argument, f"{name}{sign}{value}") from error
    for name, number in given.items():
        if name not in {"threshold", "counting"} or not 0 <= number < 1:
            raise _unreadable(argument, f"{name}={number:g}")
    if not 1 <= len(models) <= 2 or not all(models):
        raise _unreadable(argument, argument)
    clip = models[1] if len(models) == 2 else None
    return Setup(models[0], clip, given.get("threshold"), given.get("counting"))


def _unreadable(argument: str, part: str) -> UsageError:
    return UsageError(
        f"--evaluator detect:{argument}: {part!r} cannot be read",
        "detect:MODEL or detect:MODEL,CLIP; and after it threshold=0.2, counting=0.4, from 0 to 1",
    )


class Detector:
    """A zero-shot detector and its processor.

    Attributes:
        threshold: of a box's score, 0-1, that transformers has by default for its family.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor
        takes = inspect.signature(processor.post_process_grounded_object_detection).parameters
        self.threshold = float(takes["threshold"].default)
        self._owl = model.config.model_type.startswith("owl")

    @classmethod
    def load(cls, model: str) -> Detector:
        """Raises ModelError."""
        loaded, folder = load_whole(model, "AutoModelForZeroShotObjectDetection")
        if loaded.config.model_type not in FAMILIES:
            raise ModelError(
                f"{model} is a {loaded.config.model_type}, which detect does not know",
                f"give one of {', '.join(FAMILIES)}",
            )
        with named_errors(model), loading():
            from transformers import AutoImageProcessor, AutoTokenizer
            from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

            # In two halves, of which the one for images does without torchvision.
            processor = PROCESSOR_MAPPING[type(loaded.config)](
                tokenizer=AutoTokenizer.from_pretrained(folder, trust_remote_code=False),
                image_processor=AutoImageProcessor.from_pretrained(
                    folder, backend="pil", trust_remote_code=False
                ),
            )
        return cls(loaded, processor)

    def boxes(self, pairs: Sequence[tuple[Image, str]], threshold: float) -> list[list[Box]]:
        """The boxes of a class in an image, for each pair of these."""
        boxes: list[list[Box]] = [[] for _ in pairs]
        for size in {image.size for image, _ in pairs}:
            # By itself: what pads a smaller image changes its scores.
            places = [place for place, (image, _) in enumerate(pairs) if image.size == size]
            for start in range(0, len(places), BATCH):
                batch = places[start : start + BATCH]
                detected = self._batch([pairs[place] for place in batch], threshold)
                for place, its_boxes in zip(batch, detected, strict=True):
                    boxes[place] = its_boxes
        return boxes

    def _batch(self, pairs: Sequence[tuple[Image, str]], threshold: float) -> list[list[Box]]:
        import torch

        # Each class in the words of its family's training, and by itself: where there are several
        # in one text, Grounding DINO labels boxes with pieces of it, and not with classes.
        form = "a photo of {} {}" if self._owl else "{} {}"
        texts = [[form.format("an" if kind[0] in "aeiou" else "a", kind)] for _, kind in pairs]
        inputs = self._processor(
            images=[image for image, _ in pairs],
            text=texts,
            return_tensors="pt",
            padding="max_length" if self._owl else True,
            truncation=True,
        ).to(self._model.device)
        with working(), torch.inference_mode():
            outputs = self._model(**inputs)
            results = self._processor.post_process_grounded_object_detection(
                outputs, threshold=threshold, target_sizes=[image.size[::-1] for image, _ in pairs]
            )
        return [_boxes(result["boxes"].tolist(), result["scores"].tolist()) for result in results]


def _boxes(corners: Sequence[Sequence[float]], scores: Sequence[float]) -> list[Box]:
    return [Box._make((*four, score)) for four, score in zip(corners, scores, strict=True)]


class Detect(Evaluator):
    """1 for an image that shows all that its row asks for, 0 for any other."""

    takes = "MODEL"
    columns = ("tag", "include", "exclude")

    def __init__(self, setup: Setup, detector: Detector, clip: ClipScore | None = None) -> None:
        self._detector = detector
        self._clip = clip
        usual = detector.threshold if setup.threshold is None else setup.threshold
        self._thresholds = usual, usual if setup.counting is None else setup.counting

    @classmethod
    def models(cls, argument: str) -> Sequence[str]:
        given = setup(argument)
        return [given.model, given.clip] if given.clip else [given.model]

    @classmethod
    def check(cls, argument: str, tasks: Sequence[Task]) -> None:
        """Raise UsageError for columns that nobody can read, or where no row asks for anything."""
        setup(argument)
        questions = []
        for task in tasks:
            try:
                questions.append(question(task.columns))
            except ValueError as error:
                raise UsageError(
                    f"detect cannot read what has to be seen for {task.prompt!r}: {error}",
                    "write the columns include and exclude as GenEval's evaluation_metadata.jsonl",
                ) from error
        if not any(questions):
            raise UsageError(
                "no prompt has a column include, which says what detect has to look for",
                "take a prompt file such as GenEval's evaluation_metadata.jsonl",
            )

    @classmethod
    def load(cls, argument: str) -> Detect:
        """Raises UsageError and ModelError."""
        given = setup(argument)
        clip = ClipScore.load(given.clip) if given.clip else None
        return cls(given, Detector.load(given.model), clip)

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float | None]]:
        questions = [(sample, question(sample.columns)) for sample in samples]
        yield from ((sample.id, None) for sample, wanted in questions if wanted is None)
        answerable = [(sample, wanted) for sample, wanted in questions if wanted is not None]
        for start in range(0, len(answerable), BATCH):
            yield from self._batch(answerable[start : start + BATCH])

    def _batch(self, batch: Sequence[tuple[Sample, Question]]) -> Iterator[tuple[str, float]]:
        images = [picture(sample) for sample, _ in batch]
        pairs = [(i, kind) for i, (_, question) in enumerate(batch) for kind in question.kinds]
        boxes = self._detector.boxes(
            [(images[i], kind) for i, kind in pairs], min(self._thresholds)
        )
        for i, (sample, question) in enumerate(batch):
            threshold = self._thresholds[question.counting]
            sure = {
                kind: [box for box in its_boxes if box.score > threshold]
                for (place, kind), its_boxes in zip(pairs, boxes, strict=True)
                if place == i
            }
            right = is_right(question, apart(sure), partial(self._color, images[i]))
            yield sample.id, float(right)

    def _color(self, image: Image, box: Box, kind: str) -> str:
        if self._clip is None:
            return color_by_rule(image, box)
        return color_by_clip(self._clip, image, box, kind)
