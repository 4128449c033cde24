"""The run folder: what a run leaves on disk and when, and how it is read again.

    outputs/2026-08-23/143205-a-red-cat-7f3a/
      run.json        at the beginning: request, settings, versions, revisions; again when the
                      request's checklist is made; at the end with stop reason and best
      source.png      before run.json: a copy of the image to edit, where there is one
      00-0.png        round 0, first image: when the round was judged, before its line
      rounds.jsonl    one line for each finished round, appended
      best.png        at the end: a copy of the best image
      index.html      a page that shows all of it, which gcr.results.report writes
      .claim          locked by the process that is at work here

Images are PNGs, or end in jpg or webp. Each file is there whole or not at all. The line makes the
round exist: whatever a crash leaves beyond the last whole line belongs to no round, and is written
again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from datetime import datetime
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gcr.core import ranking, stopping
from gcr.core.phrases import count
from gcr.core.plaintext import slug
from gcr.core.records import (
    Attempt,
    Preference,
    Request,
    Round,
    Run,
    StopReason,
    best_name,
    image_name,
)
from gcr.errors import GcrError, UsageError
from gcr.files import imagefile, paths, structured
from gcr.files.atomic import read, sweep, sync_folder, write, write_json, writing
from gcr.files.jsonlines import DamagedLineError, JsonLines
from gcr.files.structured import adapter, valid
from gcr.inputs import source
from gcr.settings.schema import UNRECORDED, Format, lasting
from gcr.storage import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL.Image import Image

logger = logging.getLogger(__name__)

NAME = "run.json"
ROUNDS = "rounds.jsonl"
ENDINGS: tuple[str, ...] = get_args(Format)
"""How the names of images may end."""
WRITTEN_ALONE = rf"run\.json|source\.png|(best|\d+-\d+)\.({'|'.join(ENDINGS)})"
"""Names of what only the process that is at work in the folder writes."""
LISTS = ("extensions", "branches", "remarks", "edited_prompts")
"""What run.json holds of what a person decided while a run went on, or after it."""
BEGINNING = ("id", "request", "settings", *LISTS)
"""What run.json holds of the run itself."""
RESULTS = ("stop", "best", "comparison", "kept", "settled", "untrusted")
"""What run.json holds of how the run ended, which is dropped when it goes on."""
RECORDED_VERSIONS = ("gcr", "torch", "diffusers", "transformers", "bitsandbytes", "pillow")
AS_IT_WAS = "put the file back as it was, or start a new run"


class RunFolder:
    """One run on disk.

    Attributes:
        path: the folder.
        run: the run as far as it is on disk.
        story: what run.json holds besides: when the run began, and with which versions.
    """

    def __init__(self, path: Path, run: Run, story: Mapping[str, object]) -> None:
        self.path = path
        self.run = run
        self.story = dict(story)
        self._log = _log(path)

    @classmethod
    def create(
        cls,
        output: Path,
        request: Request,
        settings: Mapping[str, object],
        revisions: Mapping[str, str | None] | None = None,
        edited: Image | None = None,
    ) -> RunFolder:
        """Make a new folder for a run that has no rounds yet.

        Arguments:
            output: the folder of all runs.
            request: what to draw.
            settings: JSON values, fixed for the whole run.
            revisions: of models from the hub, by the role they play.
            edited: the image that the request's `source` names.

        Raises GcrError where nothing can be written.
        """
        now = datetime.now().astimezone()
        path = new_folder(output, request.prompt, now)
        run = Run(id=f"{now:%Y%m%d}-{path.name}", request=request, settings=dict(settings))
        return cls.begin(path, run, revisions, edited)

    @classmethod
    def begin(
        cls,
        path: Path,
        run: Run,
        revisions: Mapping[str, str | None] | None = None,
        edited: Image | None = None,
    ) -> RunFolder:
        """As `create`, in a folder that is there already."""
        story = {
            "started": datetime.now().astimezone().isoformat(),
            "versions": versions(),
            "revisions": revisions or {},
        }
        folder = cls(path, run, story)
        if edited is not None:
            write(path / run.request.source, metadata.pixels(edited))
        folder._write_run(None)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Read a run in order to go on with it, and clear up what a crash left.

        A person's choice stands, unless it was what ended the run: then it is open again.
        Raises UsageError where the folder holds no run, GcrError where run.json, a line or an
        image is damaged or missing.
        """
        run, story = read_beginning(path)
        if story.get("stop") != StopReason.CHOSEN:
            run = replace(run, kept=str(story.get("kept") or ""))
        lasting_story = {key: value for key, value in story.items() if key not in RESULTS}
        folder = cls(path, run, lasting_story)
        folder.run = replace(run, rounds=folder._read_rounds()).listed()
        folder._check_branches()
        folder._check_images()
        if line := folder._log.mend():
            logger.warning("%s, line %d, has no end: its round is drawn again", path / ROUNDS, line)
        sweep(path, WRITTEN_ALONE)
        return folder

    def check(self, request: Request, settings: Mapping[str, object]) -> None:
        """Raise UsageError for another request or other settings than the run began with."""
        # A request has no checklist yet where it comes from the command line.
        changes = differences(
            {**asdict(self.run.request), "checklist": (), **self.run.settings},
            {**asdict(request), "checklist": (), **settings},
        )
        if changes:
            raise UsageError(
                f"{self.path} was begun with other settings ({', '.join(changes)})",
                "go on with those it was begun with, or start a new run",
            )

    def save(
        self,
        run: Run,
        images: Sequence[Image],
        pixels: Callable[[Image], bytes] = metadata.pixels,
    ) -> Run:
        """Put the run's last round on disk; returns the run with the sha256 of its images.

        pixels: gives an image as PNG, without texts.
        """
        finished, run = run.rounds[-1], run.listed()

        def save(attempt: Attempt, image: Image) -> Attempt:
            return self._save_image(run, finished.index, attempt, image, pixels)

        # At once: each waits for the disk.
        with ThreadPoolExecutor(len(images)) as pool:
            both = zip(finished.attempts, images, strict=True)
            saving = [pool.submit(save, *one) for one in both]
        attempts = tuple(saved.result() for saved in saving)
        saved = replace(finished, attempts=attempts)
        if run.request != self.run.request:  # the critic has made its checklist
            self.run = replace(self.run, request=run.request)
            self._write_run(None)
        self._log.append(adapter(Round).dump_json(saved))
        rounds = (*self.run.rounds, saved)
        # What the critic preferred before says nothing of a new round.
        self.run = replace(run, rounds=rounds, settled="", comparison=None)
        return self.run

    def gallery(self, _run: Run, name: str) -> Image:
        """An image of this folder's run, by its name in the records; in RGB."""
        with imagefile.opened(self.path / name) as image:
            return image.convert("RGB")

    def decide(self, run: Run) -> None:
        """Record what a person decided: the run with another budget, branch, remark or choice.

        The settings stay as they were begun with, so that who knows nothing of extensions reads a
        run that is over.
        """
        self.run = run
        self._write_run(ranking.best_scored(run))

    def finish(
        self, stop: StopReason | None, best: Attempt | None, comparison: Preference | None = None
    ) -> None:
        """Record why the run ended and what was best; copy the best image, as best.png."""
        self.run = replace(self.run, stop=stop, comparison=comparison)
        if best is not None:
            write(self.path / best_name(best), read(self.path / best.image))
        self._write_run(best)

    def _save_image(
        self,
        run: Run,
        index: int,
        attempt: Attempt,
        image: Image,
        pixels: Callable[[Image], bytes],
    ) -> Attempt:
        hashes: Any = self.story.get("revisions")
        texts = metadata.texts(run, index, attempt, image.size, hashes)
        if run.format == "png":
            content = metadata.with_texts(pixels(image), texts)
        else:
            content = metadata.encoded(image, texts, run.format)
        write(self.path / attempt.image, content)
        return replace(attempt, sha256=hashlib.sha256(content).hexdigest())

    def _write_run(self, best: Attempt | None) -> None:
        lists = {name: [asdict(each) for each in getattr(self.run, name)] for name in LISTS}
        record = {
            "id": self.run.id,
            "request": asdict(self.run.request),
            "settings": self.run.settings,
            **{name: listed for name, listed in lists.items() if listed},
            **self.story,
            "stop": self.run.stop,
            "comparison": self.run.comparison,
            "kept": self.run.kept,
            "settled": self.run.settled,
            "untrusted": self.run.untrusted,
            "best": best and {"image": best.image, "sha256": best.sha256, "score": best.score},
        }
        write_json(self.path / NAME, record, indent=2)

    def _read_rounds(self) -> tuple[Round, ...]:
        """The rounds whose lines are whole. Raises GcrError for damage."""
        rounds: list[Round] = []
        try:
            self._log.read(lambda line, _: _take_round(line, rounds))
        except DamagedLineError as error:
            if whole := error.line - 1:
                lines = "line" if whole == 1 else f"{whole} lines"
                error.hint += f"; with its first {lines} alone this run goes on from there"
            raise
        return tuple(rounds)

    def _check_branches(self) -> None:
        """Raise GcrError for a branch from an image that had not been drawn then.

        A branch after rounds that somebody took out of the log is gone with them.
        """
        left = tuple(b for b in self.run.branches if b.after <= len(self.run.rounds))
        self.run = replace(self.run, branches=left)
        for branch in left:
            drawn = replace(self.run, rounds=self.run.rounds[: branch.after]).attempts
            if branch.image not in [attempt.image for attempt in drawn]:
                problem = ValueError(f"it goes on from {branch.image!r}, which is no image of it")
                raise damaged(self.path / NAME, problem)

    def _check_images(self) -> None:
        if self.run.request.source:
            source.check(self.path / self.run.request.source, self.run.request.source_sha256)
        for attempt in self.run.attempts:
            path = self.path / attempt.image
            try:
                content = read(path)
            except FileNotFoundError as error:
                raise GcrError(f"{path} is missing", AS_IT_WAS) from error
            except OSError as error:
                message = f"{path} cannot be read: {error.strerror or error}"
                raise GcrError(message, AS_IT_WAS) from error
            if hashlib.sha256(content).hexdigest() != attempt.sha256:
                raise GcrError(f"{path} was changed since it was written", AS_IT_WAS)


def read_beginning(path: Path) -> tuple[Run, dict[str, Any]]:
    """The run of a folder as it was begun, without its rounds, and all else that run.json holds.

    Raises UsageError where there is none, GcrError where it cannot be read.
    """
    file = path / NAME
    try:
        record = structured.record(file)
        run = _run(record)
    except FileNotFoundError as error:
        hint = "gcr list shows what there is; of a batch, name one of its runs"
        raise UsageError(f"there is no run in {path}", hint) from error
    except OSError as error:
        message = f"no run in {path}: {error.strerror or error}"
        raise UsageError(message, "name a folder that `gcr refine` made") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(file, error) from error
    return run, {key: value for key, value in record.items() if key not in BEGINNING}


def load_run(folder: Path | str) -> Run:
    """The run of a folder as far as it is on disk, which may be in progress; changes nothing.

    `gcr.load_run(folder).attempts` is all that was drawn, with images named as in the folder.
    What is damaged is left out, with a warning. Raises UsageError where there is no run, GcrError
    where nothing can be read.
    """
    return load_with_story(Path(folder))[0]


def attempt(folder: Path, run: Run, image: str) -> Attempt:
    """The attempt of a run that a person means by `01-0`, `01-0.png`, `best`, or an image's path.

    Raises UsageError where the run has no such image.
    """
    if not image.strip():
        raise UsageError("the name of the image is empty", f"gcr show {folder} lists its images")
    path = paths.expanded(image)
    elsewhere = path.parent != Path() and path.parent.resolve() != folder.resolve()
    named = None if elsewhere else ranking.named(run, path.name)
    if named is None:
        shown = ", ".join(each.image for each in run.attempts[:4])
        more = f" and {len(run.attempts) - 4} more" if len(run.attempts) > 4 else ""
        listed = f": {shown}{more}" if shown else ""
        raise UsageError(
            f"{folder} has no image {image!r}",
            f"it has {count(len(run.attempts), 'image')}{listed}",
        )
    return named


def load_with_story(path: Path) -> tuple[Run, dict[str, Any]]:
    """As `load_run`, and all else that run.json holds."""
    rounds = _readable_rounds(path)
    try:
        run, story = read_beginning(path)
    except UsageError:
        raise
    except GcrError as error:
        run, story = _run_from_images(path, rounds, error)
    return with_end(replace(run, rounds=rounds), story, path).listed(), story


def first_damage(path: Path) -> str:
    """What is damaged or missing first of a run, in words; empty where nothing is.

    Images are not read, so that many runs can be looked at.
    """
    rounds: list[Round] = []
    try:
        read_beginning(path)
        _log(path).read(lambda line, _: _take_round(line, rounds))
    except GcrError as error:
        return error.message
    images = (path / attempt.image for finished in rounds for attempt in finished.attempts)
    missing = next((image for image in images if not image.exists()), None)
    return f"{missing} is missing" if missing else ""


# run.json


def _run_from_images(
    folder: Path, rounds: tuple[Round, ...], error: GcrError
) -> tuple[Run, dict[str, Any]]:
    """As `read_beginning`, from the text inside an image, where run.json itself is damaged.

    error: what is raised where no image holds such a text.
    """
    for attempt in (attempt for finished in rounds for attempt in finished.attempts):
        try:
            text = metadata.read(folder / attempt.image)["gcr"]
            record = structured.parse_record(text.encode())
            run = _run({**record, "id": folder.absolute().name})
        except (OSError, KeyError, TypeError, AttributeError, *imagefile.DAMAGE):
            continue  # the next image may have it
        logger.warning("%s; request and settings are those in %s", error.message, attempt.image)
        return run, {"stop": None, "comparison": None}
    raise error


def _run(record: Any) -> Run:
    """Raises AttributeError, KeyError, TypeError and ValueError for what is no run."""
    values = dict(record["request"])
    if unknown := values.keys() - {field.name for field in fields(Request)}:
        raise ValueError(f"this version of gcr knows no {min(unknown)!r} of a request")
    check_objects(record)
    lists = {name: record[name] for name in LISTS if name in record}
    beginning = {"id": str(record["id"]), "request": values, "settings": record["settings"]}
    run: Run = valid(Run, {**beginning, **lists})
    if run.request.source not in ("", source.NAME):
        raise ValueError(f"the image to edit is called {run.request.source!r}")
    # Each raises TypeError or ValueError for what is no budget.
    stopping.rule(run.settings)
    for extension in run.extensions:
        stopping.rule({}, [extension])
    return run


def with_end(run: Run, story: Mapping[str, Any], path: Path) -> Run:
    """A run with how it ended, by what run.json in a folder holds besides. Raises GcrError."""
    try:
        stop, comparison = story["stop"], story["comparison"]
        return replace(
            run,
            stop=None if stop is None else StopReason(stop),
            comparison=None if comparison is None else Preference(comparison),
            kept=str(story.get("kept") or ""),
            settled=str(story.get("settled") or ""),
        )
    except (KeyError, ValueError) as error:
        raise damaged(path / NAME, error) from error


def check_objects(record: Mapping[str, object]) -> None:
    """Raise TypeError where what is an object in a run.json or a batch.json is none."""
    for name in ("settings", "versions", "revisions"):
        if not isinstance(record.get(name, {}), dict):
            raise TypeError(f"its {name} are no object")


def damaged(path: Path, error: Exception) -> GcrError:
    """The error for a JSON file of a run, a batch or a comparison that cannot be read."""
    hint = "put the file back as it was, or start anew"
    if path.name == NAME:
        hint += f"; gcr report {path.parent} shows what was drawn"
    return GcrError(structured.damage(path, error), hint)


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """How settings differ from those that a folder was begun with, as in `steps: 4 → 5`."""
    old, new = (
        json.loads(json.dumps({**UNRECORDED, **lasting(settings)})) for settings in (before, now)
    )
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return [f"{key}: {old.get(key)!r} → {new.get(key)!r}" for key in keys]


# rounds.jsonl


def _log(folder: Path) -> JsonLines:
    return JsonLines(folder / ROUNDS, AS_IT_WAS)


def _readable_rounds(folder: Path) -> tuple[Round, ...]:
    """The rounds that can be read; damage is a warning. Raises GcrError where no round can be."""
    rounds: list[Round] = []
    errors = _log(folder).read(lambda line, _: _take_round(line, rounds), tolerant=True)
    if errors and not rounds:
        raise errors[0]
    for error in errors:
        logger.warning("%s", error.message)
    return tuple(rounds)


def _take_round(line: bytes, rounds: list[Round]) -> None:
    """Add the round of a line to those before it. Raises ValueError for damage.

    A round beyond a gap is added, too, unless the gap is at the beginning: it can be looked at.
    """
    finished: Round = valid(Round, line)
    for problem in _problems(finished, rounds):
        raise ValueError(problem)
    expected = rounds[-1].index + 1 if rounds else 0
    if finished.index == expected or (rounds and finished.index > expected):
        rounds.append(finished)
    if finished.index != expected:
        raise ValueError(f"it holds round {finished.index}, where round {expected} belongs")


def _problems(finished: Round, before: list[Round]) -> Iterator[str]:
    """What is wrong with a round in itself, or cannot follow from the rounds before it."""
    if not finished.attempts:
        yield "its round has no images"
    images = {attempt.image for earlier in before for attempt in earlier.attempts}
    for position, attempt in enumerate(finished.attempts):
        ending = Path(attempt.image).suffix.removeprefix(".")
        name = image_name(finished.index, position, ending if ending in ENDINGS else ENDINGS[0])
        if attempt.image != name:
            yield f"it names the image {attempt.image!r}, which has to be {name}"
        if not re.fullmatch("[0-9a-f]{64}", attempt.sha256):
            yield f"it has no sha256 of {name}"
        for used in filter(None, (attempt.candidate.start, attempt.candidate.edits)):
            if used not in images:
                yield f"{name} starts from {used!r}, which is no earlier image"
        every = attempt.critique.requirements
        if any(not 0 <= needed < len(every) for r in every for needed in r.needs):
            yield f"{name} has a requirement that needs one that is not there"


# Folders


def check_writable(output: Path, option: str = "--output") -> None:
    """Raise UsageError where no run folder can be made; cheap, so done before models load.

    option: that names the folder.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        message = f"cannot write to {output}: {error.strerror or error}"
        raise UsageError(message, f"name another folder with {option}") from error


def versions() -> dict[str, str]:
    """The versions that decide what a run draws; read from package metadata, nothing imported."""
    installed = {}
    for name in RECORDED_VERSIONS:
        try:
            installed[name] = packages.version(name)
        except packages.PackageNotFoundError:  # run from a bare checkout, or an optional one
            continue
    return installed


def new_folder(output: Path, prompt: str, now: datetime) -> Path:
    """Make the folder `output`/date/time-prompt-hash, which was not there before."""
    day = output / f"{now:%Y-%m-%d}"
    for place in range(1 << 16):
        digest = hashlib.sha256(f"{prompt}\0{place}".encode()).hexdigest()[:4]
        path = day / "-".join(filter(None, (f"{now:%H%M%S}", slug(prompt), digest)))
        with writing(path):
            try:
                path.mkdir(parents=True)
            except FileExistsError:  # the same prompt in the same second
                continue
        sync_folder(day)
        return path
    raise GcrError(f"{day} is full of runs of this second", "name another folder with --output")
