"""What the page of `gcr ui` shows and does: an answer to each of its requests.

What is shown of a run is what its page shows, and the work is done by `gcr.ui.studio`. Who may ask
at all is up to `gcr.ui.web`.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from urllib.parse import quote, unquote

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import AfterValidator, ValidationError, validate_call
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from gcr.core.plaintext import plain, shortened
from gcr.core.records import GoOn, Reword, Stop
from gcr.core.stopping import MOST_ROUNDS
from gcr.engine.machine import ThisMachine
from gcr.engine.requests import begin_from
from gcr.errors import GcrError, UsageError
from gcr.files import imagefile, paths
from gcr.files.structured import first_problem
from gcr.inputs.source import readable
from gcr.results import listing
from gcr.results.report import gallery, refresh, run
from gcr.results.report.page import NAME, diff, fragment, part, render
from gcr.results.report.pictures import Picture, Pictures
from gcr.settings import plugins, profiles
from gcr.settings.resolving import resolve
from gcr.settings.schema import LISTS, LOOP, MODELS, OPTIONS, TYPES, declared, label
from gcr.storage import provenance, ratings
from gcr.ui.studio import DEFECT, How

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from gcr.core.records import Decision
    from gcr.results.listing import Entry
    from gcr.ui.studio import Studio

logger = logging.getLogger(__name__)

LARGEST = 64 << 20  # bytes of a picture that is brought in
LONGEST = 1 << 20  # bytes of anything else that is sent
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
"""Files that are served, by their endings."""
MOST = 400  # characters of a line that says what went wrong
AGAIN = "load it again"
BEAT = 15.0  # seconds after which a stream without news says that it is still there
CALM = 0.05  # seconds between two states, at least
FIRST = ("profile", "images", "rounds", "seed", "strategy")
"""Settings that are seen at once; others are a click away."""
ELSEWHERE = ("output",)
"""Settings that are fixed for a session."""


def _typed(fields: Mapping[str, str]) -> dict[str, object]:
    """Settings as they were typed; what is empty is not given."""
    return {
        name: [line for line in text.splitlines() if line.strip()] if name in LISTS else text
        for name, text in fields.items()
        if name in OPTIONS and name not in ELSEWHERE and text.strip()
    }


Flags = Annotated[Mapping[str, str], AfterValidator(_typed)]
"""The fields of a form by the names of their settings."""


@dataclass(frozen=True, slots=True)
class Field:
    """A setting as a form has it.

    Attributes:
        name: of the setting.
        label: as people read it.
        help: what it does.
        kind: `choice`, `number`, `text` or `lines`.
        choices: values and their words, of a choice.
        least, most, step: of a number; empty where there is none.
        value: what holds where nothing is given.
    """

    name: str
    label: str
    help: str
    kind: Literal["choice", "number", "text", "lines"]
    choices: tuple[tuple[str, str], ...] = ()
    least: str = ""
    most: str = ""
    step: str = ""
    value: str = ""


class Served(Pictures):
    """The pictures of a page that is served. output: the folder that is."""

    def __init__(self, output: Path) -> None:
        super().__init__(output / NAME, embed=False)

    def link(self, path: Path) -> str:
        return f"/files/{super().link(path)}"


class Site:
    """What is answered to each request."""

    def __init__(self, studio: Studio, output: Path) -> None:
        self.studio = studio
        self.output = output
        self._brought = Path(tempfile.mkdtemp(prefix="gcr-ui-"))
        self._ends: set[Callable[[], None]] = set()  # what wakes each stream
        self._closed = False

    def close(self) -> None:
        """End all streams, and throw away what was brought in."""
        self._closed = True
        for end in self._ends:
            end()
        shutil.rmtree(self._brought, ignore_errors=True)

    def routes(self) -> list[Route]:
        """Each address, and what answers it."""
        read: dict[str, Callable[[Request], Any]] = {
            "/": self.page,
            "/events": self.events,
            "/files/{path:path}": self.file,
            "/brought/{name}": self.brought,
            "/run": _show(self.run),
            "/gallery": _show(self.gallery),
            "/ranking": _show(self.ranking),
        }
        act: dict[str, Callable[[Request], Any]] = {
            "/upload": self.upload,
            "/refine": _act(self.refine),
            "/resume": _act(self.resume),
            "/go-on": _act(self.go_on),
            "/critique": _act(self.critique),
            "/begin": _act(self.begin),
            "/settings": _act(self.settings),
            "/decide": _act(self.decide),
            "/stop": _act(self.stop),
            "/rate": _act(self.rate),
            "/release": _act(self.release),
        }
        return [
            Route(path, _telling(answer), methods=[method])
            for method, answers in (("GET", read), ("POST", act))
            for path, answer in answers.items()
        ]

    # What is shown

    async def page(self, _: Request) -> Response:
        resolved = resolve(self.studio.flags, ThisMachine())
        fields = {name: _field(name, getattr(resolved.settings, name)) for name in OPTIONS}
        panels: dict[str, list[Field]] = {}
        for name, option in OPTIONS.items():
            if name not in (*FIRST, *ELSEWHERE):
                panels.setdefault(option.panel.partition(" (")[0], []).append(fields[name])
        order = sorted(panels, key=lambda panel: (panel != MODELS, panel == LOOP))
        values = {
            "first": [fields[name] for name in FIRST],
            "panels": {panel: panels[panel] for panel in order},
            "output": str(self.output),
        }
        return HTMLResponse(render("studio.html", values, ["gallery.js", "studio.js"], served=True))

    async def events(self, request: Request) -> Response:
        """The state, and again whenever it has changed."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        async def stream() -> AsyncIterator[str]:
            unwatch = self.studio.watch(lambda: _call_soon(loop, changed.set))
            self._ends.add(changed.set)
            try:
                while not (self._closed or await request.is_disconnected()):
                    changed.clear()
                    yield f"data: {json.dumps(self._state())}\n\n"
                    with suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), BEAT)
                    await asyncio.sleep(CALM)
            finally:
                unwatch()
                self._ends.discard(changed.set)

        return StreamingResponse(stream(), media_type="text/event-stream")

    def _state(self) -> dict[str, Any]:
        state: Any = self.studio.state()
        for work in state["works"]:
            if work["folder"]:
                work["folder"] = self._name(Path(work["folder"]))
            work["changes"] = diff(work["title"], work["proposal"][0]) if work["proposal"] else ""
        return {**state, "busy": self.studio.busy()}

    def run(self, folder: str) -> str:
        place = self._folder(folder)
        values = run.shown(place, Served(self.output), ui=True)
        return fragment("studio_run.html", {**values, "going": self.studio.at(place)})

    def gallery(self, within: str = "") -> str:
        place = self._folder(within) if within else self.output
        entries = listing.entries(place) if place.is_dir() else []
        made = gallery.cards(entries, Served(self.output), self._link)
        return fragment("gallery_cards.html", made)

    def _link(self, entry: Entry, _: Pictures) -> str:
        view = "run" if entry.kind == "run" else "gallery"
        return f"#{view}/{quote(self._name(entry.folder))}"

    def ranking(self, number: int) -> str:
        ranking = self.studio.work(number).ranking
        if ranking is None:
            raise UsageError("there is no judgement yet", "wait until it is done")
        near = {judged.image for judged in ranking.near}
        shown = [
            (judged, self._picture(Path(judged.image)), judged.image in near)
            for judged in ranking.judgements
        ]
        return fragment("studio_ranking.html", {"ranking": ranking, "shown": shown})

    def _picture(self, path: Path) -> Picture:
        if path.parent == self._brought:
            with imagefile.opened(path) as image:
                return Picture(f"/brought/{path.name}", f"/brought/{path.name}", *image.size)
        return Served(self.output).whole(path)

    async def file(self, request: Request) -> Response:
        return self._served(self.output, request.path_params["path"])

    async def brought(self, request: Request) -> Response:
        return self._served(self._brought, request.path_params["name"])

    def _served(self, folder: Path, name: str) -> Response:
        path = _inside(folder, name)
        if path is None or not paths.is_file(path) or path.suffix.lower() not in KINDS:
            return Response("no such picture", 404)
        return FileResponse(path, media_type=KINDS[path.suffix.lower()])

    # What is done

    def refine(self, prompt: str, flags: Flags, edit: str = "", *, approve: bool = False) -> object:
        image = self._image(edit) if edit else None
        return {"number": self.studio.refine(prompt, flags, image=image, approve=approve).number}

    def resume(
        self,
        folder: str,
        rounds: Annotated[int, Ge(0), Le(MOST_ROUNDS)],
        flags: Flags,
        *,
        approve: bool = False,
    ) -> object:
        work = self.studio.resume(self._folder(folder), rounds, flags, approve=approve)
        return {"number": work.number}

    def go_on(
        self, folder: str, image: str, how: How, flags: Flags, *, approve: bool = False
    ) -> object:
        """Go on from an image of a run, have more like it, or keep it."""
        self.studio.go_on(self._folder(folder), image, how, flags, approve=approve)
        return {}

    def critique(
        self, images: Annotated[list[str], MinLen(1)], prompt: str, flags: Flags
    ) -> object:
        pictures = [self._image(name) for name in images]
        return {"number": self.studio.critique(pictures, prompt, flags).number}

    def begin(self, image: str) -> object:
        """What a form begins with that goes on from an image."""
        flags = self.studio.flags
        begun = begin_from(self._image(image), None, {}, edit=False)
        settings = resolve({**flags, **begun.flags}, ThisMachine()).settings
        taken = {name: begun.flags[name] for name in begun.taken}
        notices = [(notice.message, notice.hint) for notice in begun.warnings(settings)]
        return {"prompt": begun.prompt, "flags": taken, "notices": notices}

    def settings(self, flags: Flags) -> object:
        """All settings as they would be, and where each comes from."""
        resolved = resolve({**self.studio.flags, **flags}, ThisMachine())
        values = resolved.settings.as_json()
        origins = {
            **resolved.origins,
            **dict.fromkeys(flags, "this page"),
            "output": "this session",
        }
        rows = [(name, values[name], origins[name]) for name in OPTIONS if name in values]
        return {"html": part("settings", rows)}

    def decide(
        self,
        number: int,
        action: Literal["go", "reword", "stop"],
        prompt: str = "",
        remark: str = "",
    ) -> object:
        work = self.studio.work(number)
        decision: Decision = Stop()
        if action == "go":
            words = prompt.split()
            as_proposed = words in map(str.split, work.proposal)
            decision = GoOn("" if as_proposed else " ".join(words))
        elif action == "reword":
            if not remark.strip():
                raise UsageError("nothing was said", "write a remark first")
            decision = Reword(remark.strip())
        self.studio.decide(number, decision)
        return {}

    def stop(self, number: int) -> object:
        self.studio.stop(number)
        return {}

    def rate(self, folder: str, image: str, value: str) -> object:
        place = self._folder(folder)
        ratings.rate(place, image, ratings.value_of(value))
        refresh(place)
        return {}

    def release(self) -> object:
        self.studio.release()
        return {}

    async def upload(self, request: Request) -> Response:
        """Take a picture in; what it says of how it was made."""
        content = await _content(request, LARGEST)
        name = Path(unquote(request.headers.get("x-name", "the picture"))).name
        return JSONResponse(await run_in_threadpool(self._take_in, content, name))

    def _take_in(self, content: bytes, name: str) -> dict[str, object]:
        with readable(name), imagefile.decoded(io.BytesIO(content)) as image:
            image.load()
            size, suffix = image.size, SUFFIXES.get(image.format or "")
            if suffix is None:  # what browsers do not show
                shown = io.BytesIO()
                image.convert("RGB").save(shown, "PNG")
                content, suffix = shown.getvalue(), ".png"
        path = self._brought / f"{secrets.token_hex(8)}{suffix}"
        path.write_bytes(content)
        carried = provenance.read(path)
        prompt = carried.usable.prompt if carried.usable else None
        return {
            "id": path.name,
            "name": name,
            "src": f"/brought/{path.name}",
            "size": f"{size[0]}×{size[1]}",
            "prompt": prompt,
        }

    # Names

    def _folder(self, name: str) -> Path:
        """A folder below the output folder. Raises UsageError for anything else."""
        path = _inside(self.output, name)
        if path is None or not paths.is_folder(path):
            raise UsageError(f"there is no {name!r} in {self.output}", "look at the gallery again")
        return path

    def _image(self, name: str) -> Path:
        """A picture that was brought in, or one of a run. Raises UsageError for anything else."""
        kind, _, rest = name.lstrip("/").partition("/")
        place = {"brought": self._brought, "files": self.output}.get(kind)
        path = _inside(place, unquote(rest)) if place else None
        if path is None or not paths.is_file(path):
            raise UsageError("that picture is gone", "bring it in again")
        return path

    def _name(self, folder: Path) -> str:
        """How a folder is named in addresses."""
        return folder.resolve().relative_to(self.output.resolve()).as_posix()


def _telling(answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """An answer whose errors are told, defects of ours among them."""

    async def tell(request: Request) -> Response:
        try:
            response: Response = await answer(request)
        except GcrError as error:
            return _refusal(error.message, error.hint, 400)
        except ClientDisconnect:  # nobody hears it
            return Response(status_code=400)
        except Exception as error:
            logger.exception("%s failed", request.url.path)
            return _refusal(f"{type(error).__name__}: {error}", DEFECT, 500)
        return response

    return tell


def _refusal(message: str, hint: str, status: int) -> Response:
    """What went wrong, in a line each, however much of what was sent is repeated there."""
    lines = {"message": message, "hint": hint}
    return JSONResponse({k: shortened(plain(line), MOST) for k, line in lines.items()}, status)


def _show(show: Callable[..., str]) -> Callable[[Request], Any]:
    """The part of the page that is made, in a thread, of what an address names."""
    bind = _binder(show)

    async def answer(request: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(bind(request.query_params)))

    return answer


def _act(act: Callable[..., object]) -> Callable[[Request], Any]:
    """What is done, in a thread, with the JSON of a request: it may read files, and wait."""
    bind = _binder(act)

    async def answer(request: Request) -> Response:
        try:
            given = from_json(await _content(request, LONGEST) or b"{}", allow_inf_nan=False)
        except ValueError as error:
            raise UsageError(f"the page sent what cannot be read: {error}", AGAIN) from error
        return JSONResponse(await run_in_threadpool(bind(given)))

    return answer


def _binder(act: Callable[..., Any]) -> Callable[[object], Callable[[], Any]]:
    """What gives a call of a function with arguments of others, as its annotations have them.

    It raises UsageError for any that the function does not take.
    """

    @validate_call
    @wraps(act)
    def checked(*args: Any, **given: Any) -> Any:
        return partial(act, *args, **given)

    def bind(given: object) -> Any:
        if not isinstance(given, Mapping):
            raise UsageError("the page sent no names with values", AGAIN)
        try:
            return checked(**given)
        except ValidationError as error:
            wrong = first_problem(error)
            raise UsageError(f"the page asked for what cannot be: {wrong}", AGAIN) from error

    return bind


async def _content(request: Request, most: int) -> bytes:
    """What is sent. Raises UsageError for more than so many bytes."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise UsageError("that is too large", f"at most {most >> 20} MiB")
    return bytes(content)


def _call_soon(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the server has ended
        loop.call_soon_threadsafe(act)


def _inside(folder: Path, name: str) -> Path | None:
    """A file of a folder; None where it is not in there, links and all."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):
        return None


def _field(name: str, value: object) -> Field:
    """A setting as a form has it. value: what holds where nothing is given."""
    option, kind = OPTIONS[name], declared(name)
    words = label(name)
    shown = "" if value in (None, "", ()) else str(value)
    if isinstance(value, float):
        shown = f"{value:g}"
    common = (name, words[0].upper() + words[1:], option.help)
    if name in ("profile", "strategy"):
        names = plugins.STRATEGIES.names()
        if name == "profile":
            names = sorted((*profiles.known(), "auto"), key=lambda each: (len(each), each))
        names += [shown] if shown not in names else []
        return Field(*common, "choice", tuple((each, each) for each in names), value=shown)
    if get_origin(kind) is Literal:
        return Field(*common, "choice", tuple((c, c) for c in get_args(kind)), value=shown)
    if kind is bool:
        held = {"True": "yes", "False": "no"}.get(shown, "")
        return Field(*common, "choice", (("true", "yes"), ("false", "no")), value=held)
    if name in LISTS:
        return Field(*common, "lines")
    if kind in (int, float):
        least, most = _bound(name, (Ge, "ge"), (Gt, "gt")), _bound(name, (Le, "le"), (Lt, "lt"))
        step = "1" if kind is int else "any"
        return Field(*common, "number", (), least, most, step, shown)
    return Field(*common, "text", value=shown)


def _bound(name: str, *kinds: tuple[type, str]) -> str:
    """The bound of a number, if it has one of these kinds."""
    found = (
        getattr(bound, key)
        for bound in TYPES[name].__metadata__  # type: ignore[attr-defined]
        for kind, key in kinds
        if isinstance(bound, kind)
    )
    return str(next(found, ""))
