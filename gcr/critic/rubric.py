"""Rubrics: what a critic is told, and the shape of the reply it is asked for.

A rubric is a YAML file. Ours are in `prompts/`, beside this package in a checkout and inside it
in a wheel; a user's own is given by its path. `gcr.critic.reply` reads what a critic answers.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from gcr.core import syntax
from gcr.core.phrases import nearest
from gcr.critic import taste
from gcr.critic.speaker import Decoding
from gcr.critic.taste import Taste
from gcr.errors import UsageError
from gcr.files import paths, structured
from gcr.files.structured import MalformedError, first_problem
from gcr.settings.schema import is_rubric_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from gcr.core.records import Request

Message = dict[str, Any]
"""A chat message in transformers' form: `role`, and `content` as a list of typed parts."""

Line = Annotated[str, Field(min_length=1, pattern=r"^\S(.*\S)?$")]
"""Text on one line with nothing around it."""

Verdicts = Literal["clear", "leading", "clamped"]
"""Which scores are read. clear: one number from 1 to 4, with nothing beside it that could be
another; leading: the first number that a score's line begins with, whatever follows; clamped: the
same, and one beyond 1 to 4 counts as the nearest of these.
"""

PLACES = (
    ("template", "{request}"),
    ("negative", "{negative}"),
    ("limit", "{limit}"),
    ("objection", "{complaint}"),
    ("checklist", "{request}"),
    ("comparison", "{request}"),
    ("history", "{request}"),
    ("history", "{tried}"),
)
"""What must stand in which text of a rubric."""
NEEDED = ("template", "objection")
"""Texts that cannot be left out."""
IMAGES = {
    "template": ("{source}", "{image}"),
    "comparison": ("{source}", "{first}", "{second}"),
    "history": ("{best}", "{last}"),
}
"""Where a text may have its images, in this order. A text that names no place at all has the images
before it, or none.
"""
OPTIONAL = {"{source}", "{best}", "{last}"}
"""Places that may be left out where a text names others."""


class Headings(BaseModel):
    """The headings of a reply: the protocol that critics are trained to write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    analysis: Line = "User Request Analysis"
    judgement: Line = "Detailed Judgement"
    justification: Line = "Justification"
    score: Line = "Score"
    summary: Line = "Summary"
    refinement: Line = "User Request Refinement"
    comments: Line = "Refinement Comments"
    refined: Line = "Refined Request"
    avoid: Line = "Negative Prompt"


class RubricFile(BaseModel):
    """The keys of a rubric file.

    aspects: what is scored, in the order of the reply.
    optional: those of them that may not apply; only they may be answered with N/A.
    system: the system message; empty for none.
    template: the user's message; holds `{request}`, and where `{image}` stands, the image. Where a
        request edits an image, that one stands at `{source}`, or else right before the result.
        Without `{image}` the images come first.
    negative: added to it when the user said what must not be seen; holds `{negative}`. Empty for
        a critic that is not to be told.
    limit: added to the user's message where the pipeline reads only so much; holds `{limit}`.
        Empty for a critic that is not to be told.
    complaint: what a critic is told when its reply could not be read.
    objection: what it is told when its refined request cannot be used; holds `{complaint}`.
    checklist: what asks for a request as yes/no questions; holds `{request}`. Empty where the
        critic cannot be asked.
    comparison: what asks which of two images is better; holds `{request}`, and where `{first}` and
        `{second}` stand, these images, with what was edited at `{source}`. Without these places it
        comes after both. Empty, too.
    history: what asks for another refined request, with all in view that was tried; holds
        `{request}` and `{tried}`, and where `{best}` and `{last}` stand, the best image so far and
        the best one of the last round, where that is another. Empty for a critic that is not to be
        asked.
    avoid: added to it for a pipeline that takes a negative prompt; empty: write none.
    taste: the user's own aspects, as `gcr.critic.taste` has them: `mood: calm, muted:0.5`.
    verdicts: which scores are read.
    prefill: what each critique begins with, so that the critic goes on from there.
    max_pixels: of an image; larger ones are shown smaller. None: as they are.
    max_new_tokens: the longest reply, in tokens.
    temperature: of sampling; 0 always takes the likeliest token.
    top_p, top_k: of sampling: the likeliest tokens that together have this probability, and so many
        of them at most; None: as transformers or the server takes them.
    chat_template_kwargs: for the critic's chat template, on this machine and on servers alike.
    extra_body: for servers: what else is sent along with each question.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Line
    description: str
    aspects: Annotated[tuple[Line, ...], Field(min_length=1)]
    optional: tuple[Line, ...] = ()
    system: str = ""
    template: str
    negative: str = "Must not be in the image: {negative}"
    limit: str = "The refined request must not be longer than {limit} tokens."
    complaint: Annotated[str, Field(min_length=1)]
    objection: str = (
        "Your refined request cannot be used: {complaint}. "
        "Reply with a better refined request alone, and nothing before or after it."
    )
    checklist: str = ""
    comparison: str = ""
    history: str = ""
    avoid: str = ""
    taste: tuple[Line, ...] = ()
    headings: Headings = Headings()
    verdicts: Verdicts = "clear"
    prefill: str = ""
    max_pixels: Annotated[int, Field(ge=1024)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] = 2048
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [aspect.casefold() for aspect in self.aspects]
        names += [str(heading).casefold() for _, heading in self.headings]
        if len(set(names)) < len(names):
            raise ValueError("two aspects or headings have one name")
        for aspect in self.optional:
            if aspect not in self.aspects:
                raise ValueError(f"optional names {aspect!r}, which is not one of the aspects")
        for key, place in PLACES:
            text = getattr(self, key)
            if place not in text and (text or key in NEEDED):
                raise ValueError(f"the text of {key} does not hold {place}")
        for key, places in IMAGES.items():
            text = getattr(self, key)
            here = sorted((place for place in places if place in text), key=text.index)
            if here and (any(text.count(p) > 1 for p in here) or {*places} - {*here} - OPTIONAL):
                raise ValueError(f"the text of {key} needs each of {', '.join(places)} once")
            if here != [place for place in places if place in here]:
                raise ValueError(f"the text of {key} has {here[0]} before {here[-1]}")
        return self


class Rubric(RubricFile):
    """A rubric as loaded. sha256: of its file's bytes, and of the rubric that it is based on, so
    that a run can say what judged it.
    """

    sha256: str = ""

    def decoding(self, *, critique: bool = False) -> Decoding:
        """How replies are written. critique: whether one that `prefill` may begin."""
        return Decoding(
            self.max_new_tokens,
            self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            prefill=self.prefill if critique else "",
        )

    def messages(self, request: Request, limit: int | None = None) -> list[Message]:
        """The chat that asks for a critique of one image. The critic puts that in, and the one that
        was edited, if there is one, in the order of their places.

        limit: tokens that the pipeline reads of a prompt.
        The user's words go in untouched: braces and all, whatever they look like.
        """
        text = self._noted(self.template, request, limit)
        words = _words(request, limit)
        if "{image}" in text:
            if "{source}" not in text:
                text = text.replace("{image}", "{source}{image}")
            content = _content(text, IMAGES["template"], words, _absent(request))
        else:
            images = [{"type": "image"} for _ in range(2 if request.source else 1)]
            content = [*images, _text(_filled(text, words).strip())]
        user = {"role": "user", "content": content}
        system = {"role": "system", "content": [_text(self.system.strip())]}
        return [system, user] if self.system.strip() else [user]

    def again(self, messages: list[Message], reply: str) -> list[Message]:
        """The chat that asks once more, after a reply that could not be read."""
        return [
            *messages,
            {"role": "assistant", "content": [_text(reply)]},
            _user(self.complaint.strip()),
        ]

    def object(self, messages: list[Message], reply: str, complaint: str) -> list[Message]:
        """The chat that asks for another refined request, after one that cannot be used."""
        text = self.objection.strip().replace("{complaint}", complaint)
        return [
            *messages,
            {"role": "assistant", "content": [_text(reply)]},
            _user(text),
        ]

    def reword(
        self,
        request: Request,
        tried: str,
        limit: int | None = None,
        *,
        avoid: bool = False,
        images: Collection[str] = (),
    ) -> list[Message]:
        """The chat that asks for another refined request.

        tried: all that was tried, in words. avoid: whether to ask for a negative prompt, too.
        images: places that the critic puts an image in; others stay empty.
        """
        text = f"{self.history.rstrip()}\n{self.avoid}" if avoid else self.history
        text = self._noted(text, request, limit)
        words = {**_words(request, limit), "{tried}": tried}
        if not any(place in text for place in IMAGES["history"]):
            return [_user(_filled(text, words).strip())]
        absent = {*IMAGES["history"]} - {*images}
        return [{"role": "user", "content": _content(text, IMAGES["history"], words, absent)}]

    def _noted(self, text: str, request: Request, limit: int | None) -> str:
        """A text with what the request and the pipeline add to it."""
        if request.negative and self.negative:
            text = f"{text.rstrip()}\n{self.negative}"
        if limit is not None and self.limit:
            text = f"{text.rstrip()}\n{self.limit}"
        return text.strip()

    def take_apart(self, request: Request) -> list[Message]:
        """The chat that asks for a request as a checklist. No image is in it."""
        return [_user(self.checklist.strip().replace("{request}", syntax.words(request.prompt)))]

    def tastes(self, more: Sequence[str] = ()) -> tuple[Taste, ...]:
        """The user's own aspects, the rubric's and more. Raises UsageError as `taste.parse`."""
        return taste.parse((*self.taste, *more), self.aspects)

    @property
    def compares_edits(self) -> bool:
        """Whether two edits can be compared: only beside the image that was edited."""
        return "{source}" in self.comparison

    def compare(self, request: Request) -> list[Message]:
        """The chat that asks which of two images is better. The critic puts them in."""
        text = self.comparison.strip()
        if "{first}" not in text:
            text = f"First:{{first}}Second:{{second}}{text}"
        words = {"{request}": syntax.words(request.prompt)}
        content = _content(text, IMAGES["comparison"], words, _absent(request))
        return [{"role": "user", "content": content}]


def _words(request: Request, limit: int | None) -> dict[str, str]:
    """What stands in the places of words."""
    return {
        "{request}": syntax.words(request.prompt),
        "{negative}": request.negative,
        "{limit}": str(limit),
    }


def _filled(text: str, words: Mapping[str, str]) -> str:
    """A text with its places filled."""
    # One pass over the rubric's own text, so that nothing inside the user's words is replaced.
    places = "|".join(map(re.escape, words))
    return re.sub(places, lambda place: words[place[0]], text)


def _absent(request: Request) -> Collection[str]:
    """Places that stay empty, as there is no such image."""
    return () if request.source else ("{source}",)


def _content(
    text: str, images: Sequence[str], words: Mapping[str, str], absent: Collection[str]
) -> list[Message]:
    """A text as parts of a message, with images in their places, unless they are absent."""
    content = []
    for piece in re.split(f"({'|'.join(map(re.escape, images))})", text):
        if piece in images:
            content += [] if piece in absent else [{"type": "image"}]
        elif piece:
            content.append(_text(_filled(piece, words)))
    return content


def _user(text: str) -> Message:
    return {"role": "user", "content": [_text(text)]}


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def known() -> list[str]:
    """The names of the rubrics that come with gcr."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load(name_or_path: str | Path) -> Rubric:
    """Load one of our rubrics by its name, or any rubric by the path of its file.

    Raises UsageError when there is none such, or when it is not a rubric.
    """
    path = _find(name_or_path)
    try:
        content = structured.content(path, structured.CONFIG_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the rubric {path}: {error.strerror}", _choices()) from error
    except MalformedError as error:
        raise UsageError(f"{path}: {error.problem}", _choices()) from error
    return _parse(content, path)


def _folder() -> Path:
    """Where our rubrics are: inside the package in a wheel, beside it in a checkout."""
    inside = Path(__file__).parents[1] / "prompts"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "prompts"


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or is_rubric_path(text):
        path = paths.expanded(name_or_path)
        if not paths.is_file(path):
            raise UsageError(f"no rubric file {path}", _choices())
        return path
    if text not in known():
        raise UsageError(f"no rubric named {text!r}", _did_you_mean(text, known()) + _choices())
    return _folder() / f"{text}.yaml"


def _parse(content: bytes, path: Path) -> Rubric:
    try:
        loaded = structured.parse_yaml(structured.checked(structured.decoded(content)))
    except MalformedError as error:
        hint = "quote texts that hold `: ` or start with a mark"
        raise UsageError(f"{error.place(path)}: {error.problem}", hint) from error
    if not isinstance(loaded, dict):
        raise UsageError(f"{path}: not a rubric", f"it needs the keys {', '.join(_needed())}")
    given = {str(key): value for key, value in loaded.items()}
    digest, before = hashlib.sha256(content), {}
    if "base" in given:
        base = load(_base(given.pop("base"), path))
        before = base.model_dump(exclude={"name", "description", "sha256"})
        digest.update(base.sha256.encode())
    try:
        file = RubricFile.model_validate({**before, **given})
    except ValidationError as error:
        raise _explain(error, path) from error
    return Rubric(**dict(file), sha256=digest.hexdigest())


def _base(name: object, path: Path) -> str:
    """The name of the rubric that a file is based on. Raises UsageError where it is not ours."""
    if name in known() and name != path.stem:
        return str(name)
    raise UsageError(f"{path}: base {name!r} is not one of gcr's rubrics", _choices())


def _explain(error: ValidationError, path: Path) -> UsageError:
    """The first thing that is wrong with a rubric file, and what to do about it."""
    problem = first_problem(error)
    if problem.kind == "unknown":
        keys = Headings.model_fields if problem.path[0] == "headings" else RubricFile.model_fields
        hint = f"{_did_you_mean(problem.path[-1], keys)}known keys: {', '.join(keys)}"
        return UsageError(f"{path}: unknown key {problem.key!r}", hint)
    if problem.kind == "missing":
        return UsageError(
            f"{path}: the key {problem.key!r} is missing", f"needed: {', '.join(_needed())}"
        )
    where = f"{problem.key}: " if problem.path else ""
    return UsageError(
        f"{path}: {where}{problem.reason}", "our own rubrics in prompts/ show the form"
    )


def _needed() -> list[str]:
    return [name for name, field in RubricFile.model_fields.items() if field.is_required()]


def _choices() -> str:
    return f"known rubrics: {', '.join(known())}; or give the path of a YAML file"


def _did_you_mean(word: str, words: Iterable[str]) -> str:
    near = nearest(word, words)
    return f"did you mean {near!r}? " if near else ""
