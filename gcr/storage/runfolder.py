"""The run folder: what a run leaves on disk, and how it is found again.

    outputs/2026-08-23/143205-a-red-cat-7f3a/
      run.json        request, settings, versions, revisions; stop reason and best at the end
      source.png      a copy of the image to edit, where there is one
      rounds.jsonl    one line for each finished round
      00-0.png        round 0, first image
      best.png        a copy of the best image
      index.html      a page that shows all of it, which gcr.results.report writes
      .claim          locked by the process that is at work here

Images are on disk before the line that names them: the line makes the round exist. Whatever
a crash leaves behind beyond the last whole line belongs to no round, and is written again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, replace
from datetime import datetime
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcr.core.plaintext import slug
from gcr.core.records import Attempt, Preference, Request, Run, StopReason
from gcr.errors import GcrError, UsageError
from gcr.files import imagefile
from gcr.files.atomic import read, sweep, sync_folder, write, writing
from gcr.inputs import source
from gcr.settings.recorded import UNRECORDED, lasting
from gcr.storage import metadata, roundfile, runfile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

OWN_FILES = r"run\.json|source\.png|best\.png|\d+-\d+\.png"
"""Names of what only the process that is at work in the folder writes."""
RESULTS = ("stop", "best", "comparison", "kept", "settled", "untrusted")  # not while a run goes on
RECORDED_VERSIONS = ("gcr", "torch", "diffusers", "transformers", "bitsandbytes", "pillow")


class RunFolder:
    """One run on disk.

    path: the folder.
    run: the run as far as it is on disk.
    story: what run.json holds beside the run itself: when it began, and with which versions.
    """

    def __init__(self, path: Path, run: Run, story: Mapping[str, object]) -> None:
        self.path = path
        self.run = run
        self.story = dict(story)

    @classmethod
    def create(
        cls,
        output: Path,
        request: Request,
        settings: Mapping[str, object],
        revisions: Mapping[str, str | None] | None = None,
        edited: Image | None = None,
    ) -> RunFolder:
        """Make a new folder under `output` for a run that has no rounds yet.

        revisions: of models from the hub, by the role they play.
        edited: the image that the request's `source` names.
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
            write(path / run.request.source, metadata.png(edited, {}))
        folder._write_run(None)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Find a run again, to go on with it.

        Raises GcrError where the folder holds no run, or not the images that its lines name.
        """
        run, story = begun(path)
        kept = {key: value for key, value in story.items() if key not in RESULTS}
        folder = cls(path, replace(run, rounds=roundfile.read(path)).listed(), kept)
        folder._check_images()
        roundfile.mend(path)
        sweep(path, OWN_FILES)
        return folder

    def check(self, request: Request, settings: Mapping[str, object]) -> None:
        """Refuse to go on with another request or other settings than the run began with."""
        before, now = (
            json.loads(json.dumps({**asdict(asked), "checklist": (), **UNRECORDED, **lasting(how)}))
            for asked, how in ((self.run.request, self.run.settings), (request, settings))
        )
        keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if keys:
            changes = ", ".join(f"{key}: {before.get(key)!r} → {now.get(key)!r}" for key in keys)
            raise UsageError(
                f"{self.path} was begun with other settings ({changes})",
                "go on with those it was begun with, or start a new run",
            )

    def save(self, run: Run, images: Sequence[Image]) -> Run:
        """Put the run's last round on disk; returns the run with the sha256 of its images."""
        finished, run = run.rounds[-1], run.listed()
        attempts = tuple(
            self._save_image(run, finished.index, attempt, image)
            for attempt, image in zip(finished.attempts, images, strict=True)
        )
        saved = replace(finished, attempts=attempts)
        if run.request != self.run.request:  # it was taken apart, which is to be known from now on
            self.run = replace(self.run, request=run.request)
            self._write_run(None)
        roundfile.append(self.path, saved)
        self.run = replace(run, rounds=(*self.run.rounds, saved))
        return self.run

    def gallery(self, _run: Run, name: str) -> Image:
        """An image of this folder's run, by its name in the records."""
        with imagefile.opened(self.path / name) as image:
            return image.convert("RGB")

    def keep(self, attempt: Attempt | None) -> None:
        """Have a person's choice be the best image, from here on; None: they made none."""
        self.run = replace(self.run, kept=attempt.image if attempt else "")

    def finish(
        self, stop: StopReason | None, best: Attempt | None, comparison: Preference | None = None
    ) -> None:
        """Record why the run ended and what was best; copy the best image to best.png."""
        self.run = replace(self.run, stop=stop, comparison=comparison)
        if best is not None:
            write(self.path / "best.png", read(self.path / best.image))
        self._write_run(best)

    def _save_image(self, run: Run, index: int, attempt: Attempt, image: Image) -> Attempt:
        content = metadata.png(image, metadata.texts(run, index, attempt, image.size))
        write(self.path / attempt.image, content)
        return replace(attempt, sha256=hashlib.sha256(content).hexdigest())

    def _write_run(self, best: Attempt | None) -> None:
        record = {
            "id": self.run.id,
            "request": asdict(self.run.request),
            "settings": self.run.settings,
            **self.story,
            "stop": self.run.stop,
            "comparison": self.run.comparison,
            "kept": self.run.kept,
            "settled": self.run.settled,
            "untrusted": self.run.untrusted,
            "best": best and {"image": best.image, "sha256": best.sha256, "score": best.score},
        }
        content = json.dumps(record, ensure_ascii=False, allow_nan=False, indent=2)
        write(self.path / runfile.NAME, content.encode() + b"\n")

    def _check_images(self) -> None:
        if self.run.request.source:
            source.check(self.path / self.run.request.source, self.run.request.source_sha256)
        for attempt in self.run.attempts:
            path = self.path / attempt.image
            hint = "put the file back as it was, or start a new run"
            try:
                content = read(path)
            except FileNotFoundError as error:
                raise GcrError(f"{path} is missing", hint) from error
            except OSError as error:
                message = f"{path} cannot be read: {error.strerror or error}"
                raise GcrError(message, hint) from error
            if hashlib.sha256(content).hexdigest() != attempt.sha256:
                raise GcrError(f"{path} was changed since it was written", hint)


def begun(path: Path) -> tuple[Run, dict[str, Any]]:
    """The run of a folder as it was begun, without its rounds, and all else that run.json holds.

    Raises UsageError where there is none, GcrError where it cannot be read.
    """
    return runfile.read(path)


def load_run(folder: Path | str) -> Run:
    """The run of a folder as far as it is on disk, which may be in progress; changes nothing.

    `gcr.load_run(folder).attempts` is all that was drawn, with images named as in the folder.
    What is damaged is left out, with a warning. Raises UsageError where there is no run, GcrError
    where nothing can be read.
    """
    return look(Path(folder))[0]


def look(path: Path) -> tuple[Run, dict[str, Any]]:
    """As `load_run`, and all else that run.json holds."""
    rounds = roundfile.readable(path)
    try:
        run, story = runfile.read(path)
    except UsageError:
        raise
    except GcrError as error:
        run, story = runfile.recovered(path, rounds, error)
    try:
        stop, comparison = story["stop"], story["comparison"]
        run = replace(
            run,
            rounds=rounds,
            stop=stop and StopReason(stop),
            comparison=comparison and Preference(comparison),
            kept=str(story.get("kept") or ""),
            settled=str(story.get("settled") or ""),
        ).listed()
    except (KeyError, ValueError) as error:
        raise runfile.damaged(path / runfile.NAME, error) from error
    return run, story


def check_writable(output: Path) -> None:
    """Raise UsageError where no run folder can be made; cheap, so done before models load."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        message = f"cannot write to {output}: {error.strerror or error}"
        raise UsageError(message, "name another folder with --output") from error


def versions() -> dict[str, str]:
    """The versions that decide what a run draws; read from package metadata, nothing imported."""
    found = {}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:  # run from a bare checkout, or an optional one
            continue
    return found


def new_folder(output: Path, prompt: str, now: datetime) -> Path:
    """Make the folder `output`/date/time-prompt-hash, which was not there before."""
    day = output / f"{now:%Y-%m-%d}"
    for count in range(1 << 16):
        digest = hashlib.sha256(f"{prompt}\0{count}".encode()).hexdigest()[:4]
        path = day / "-".join(filter(None, (f"{now:%H%M%S}", slug(prompt), digest)))
        with writing(path):
            try:
                path.mkdir(parents=True)
            except FileExistsError:  # the same prompt in the same second
                continue
        sync_folder(day)
        return path
    raise GcrError(f"{day} is full of runs of this second", "name another folder with --output")
