"""Settings of a run: flag > GCR_* > ./gcr.yaml > the user's config folder > profile > default.

A model named by hand brings none of the profile's settings for the other one: steps and size
belong to the profile's generator, the rubric to its critic.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import TypeAdapter, ValidationError

from gcr import pocket
from gcr.core.phrases import nearest
from gcr.core.stopping import MOST_ROUNDS
from gcr.errors import GcrError, UsageError
from gcr.files import paths, structured
from gcr.files.structured import EMPTY, MalformedError, first_problem
from gcr.settings import address, keys, measurements, plugins, profiles, samplers
from gcr.settings.schema import (
    DEFAULTS,
    FIELDS,
    LATER,
    LISTS,
    OF_THE_MACHINE,
    OPTIONS,
    TYPES,
    UNRECORDED,
    Settings,
)

NOT_SETTINGS = frozenset({"GCR_DEBUG", "GCR_CACHE", "GCR_API_KEY", "GCR_OFFLINE", "GCR_YES"})
FOR_GENERATOR = (
    *("generator", "width", "height", "steps", "guidance", "call", "dtype", "draw_batch"),
    "quantize_generator",
)
FOR_CRITIC = ("critic", "rubric", "judge_batch")
MIX = ("images", "rounds", "patience")
"""What a budget of images is spent on, which a profile may say for its generator."""
GOOD_CHANCE = 0.95
"""The target of scores that come from probabilities, which never quite reach 1."""
GOOD_FLOAT = 0.9
"""The target of scores that are floats by training, of which 1.0 is hardly ever given."""
GOOD_MEAN = 0.95
"""The target of means of several judgements: one judge who finds fault keeps them from 1.0."""
DISTILLED: Mapping[str, int] = {"images": 2, "rounds": 6, "patience": 1}
"""For generators that are distilled to few steps: their seeds differ little, so that more rewrites
find more than more seeds. As in our profiles of such, which have the sources."""
FEW_STEPS = 8
"""Steps with which only such a generator draws."""
BUDGET_IS_LIMIT = "the budget is the limit"
"""Where the number of rounds comes from under a budget."""
FEW_IMAGES = 4
"""A budget below this would go to raw images with two in a round: one leaves room for rewriting."""
EDITING = "editing"
"""The rubric for requests that edit an image: none of the profiles' own shows the critic both."""
TRAINED = ("rationalrewards", "rational-rewards")
"""What the names of RationalRewards critics hold, and the rubric that they were trained on."""

PREFIX = "GCR_"
LIKENESS = 0.7
"""Of an unknown name to one of ours, at least, to be taken for a misspelt one."""

_VALIDATOR = TypeAdapter(Settings)


class Given(NamedTuple):
    """A value that was set, and where.

    origin: as messages name it: a flag, a variable, a key of a file.
    by_user: whether the user set it; a file in the working folder may be somebody else's.
    """

    value: object
    origin: str
    by_user: bool = False


class Resolved(NamedTuple):
    """Settings, and for each where it came from, in words for the user."""

    settings: Settings
    origins: Mapping[str, str]
    profile: profiles.Profile


class Machine(Protocol):
    """What settings may depend on beside files and the environment, which is all they read.

    It is asked only for what the settings at hand need. `gcr.engine.machine.ThisMachine` is the
    machine that gcr runs on.
    """

    def free_gib(self) -> float:
        """Free memory of the GPU in GiB; 0 where there is none. `--profile auto` goes by it."""

    def device_name(self) -> str:
        """The name that the GPU gives itself, or `cpu`; measurements are kept by it."""

    def distilled(self, generator: str) -> str:
        """Why a generator counts as distilled to few steps, in words for the user; empty where
        nothing on this machine says so.
        """

    def model_at(self, server: address.Address, *, trusted: bool) -> str:
        """The model of a server that has exactly one, where the settings name none.

        trusted: whether the server may have the user's key. Raises UsageError where there is a
        choice, ModelError where nothing answers.
        """


def resolve(
    flags: Mapping[str, object],
    machine: Machine,
    *,
    edit: bool = False,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Resolved:
    """Settle every setting, and tell where each came from.

    flags: by the names of settings; None means "not given".
    machine: that they are for.
    edit: whether an image is to be edited, which takes another rubric, unless one was given.
    folder: where gcr.yaml is looked for; by default the working folder.
    environ: by default that of the process.
    Raises UsageError for an unknown key, an unknown profile, and a value out of range; GcrError as
    the machine does.
    """
    environ = os.environ if environ is None else environ
    given = _given(flags, folder or Path(), environ)
    resolved = _settled(given, flags, machine, environ, edit=edit)
    settings = resolved.settings
    if given.keys() & {"width", "height"}:
        pocket.check_size(settings.generator, settings.width, settings.height)
    measured = _measured(settings, given, machine, environ)
    changes: dict[str, Any] = {key: source.value for key, source in measured.items()}
    origins = {key: source.origin for key, source in measured.items()}
    return resolved._replace(
        settings=replace(settings, **changes), origins={**resolved.origins, **origins}
    )


def _settled(
    given: Mapping[str, Given],
    flags: Mapping[str, object],
    machine: Machine,
    environ: Mapping[str, str],
    *,
    edit: bool,
) -> Resolved:
    """Settings by what is given, the profile, and what follows from these; nothing measured."""
    given = dict(given)
    name, origin, _ = given.pop("profile", Given(profiles.EMBEDDED, "default"))
    if str(name).casefold() == profiles.AUTO:
        profile, reason = profiles.largest(machine.free_gib())
        origin = f"auto: {reason}"
    else:
        profile, reason = profiles.load(str(name), environ), ""
    of_profile = _from_profile(profile, given, by_user=not profiles.is_file(str(name)))
    critic = {**of_profile, **given}["critic"]
    of_server: dict[str, Given] = {}
    if address.is_address(str(critic.value)):  # first: its model may have a rubric of its own
        of_server = _of_server(critic, flags, machine, environ)
        critic = of_server["critic"]
    sources = {
        **{key: Given(None, "default") for key in FIELDS},
        **of_profile,
        **_of_family(given, machine),
        **_implied(given, profile, str(critic.value), edit=edit),
        **given,
        **of_server,
        "profile": Given(profile.name, origin),
        "chosen": Given(reason, origin),
    }
    values = {key: source.value for key, source in sources.items() if source.origin != "default"}
    settings = _validated({**values, "profile": profile.name}, given)
    return Resolved(settings, {key: source.origin for key, source in sources.items()}, profile)


def respelt(
    recorded: Mapping[str, object],
    machine: Machine,
    *,
    names: Collection[str] = OPTIONS.keys(),
    edit: bool = False,
) -> dict[str, object] | None:
    """The options that give the settings of a folder where nothing else is set: no file and no
    variable. Only what profile and defaults would not give is among them, and the seed.

    recorded: the settings that the folder keeps.
    machine: as for `resolve`.
    names: of the settings that matter.
    edit: whether an image is edited.
    Returns None where no options give them, as where the profile is not there any more.
    """
    later = {name: list(v) if isinstance(v := DEFAULTS[name], tuple) else v for name in LATER}
    values = {**later, **UNRECORDED, **recorded}
    options: dict[str, object] = {n: values[n] for n in ("profile", "seed") if n in values}
    while True:
        try:
            given = from_flags(options, OPTIONS)
            settings = _settled(given, options, machine, os.environ, edit=edit).settings.as_json()
        except GcrError:
            return None
        other = [
            name
            for name in OPTIONS
            if name in names and name in values and settings[name] != values[name]
        ]
        if not other:
            return options
        if options.keys() & other or any(values[name] is None for name in other):
            return None
        options |= {name: values[name] for name in other}


def output_folder(flags: Mapping[str, object]) -> Path:
    """Where runs are, as flags, the environment and files say; no machine is asked for anything.

    Raises UsageError as `resolve` does for these.
    """
    (default,) = (field.default for field in fields(Settings) if field.name == "output")
    given = _given(flags, Path(), os.environ).get("output", Given(default, "default"))
    if problem := problem_of("output", given.value):
        raise UsageError(f"{given.origin} {problem}, not {given.value!r}", "name a folder")
    return Path(str(given.value))


def problem_of(name: str, value: object) -> str:
    """Why a setting does not take a value, in words that follow its name; empty where it does."""
    try:
        TypeAdapter(TYPES[name]).validate_python(value)
    except ValidationError as error:
        return first_problem(error).reason
    return ""


def recalled(
    recorded: Mapping[str, object],
    machine: Machine,
    *,
    residency: str | None = None,
    overlap: bool | None = None,
    trust_endpoint: bool = False,
) -> Settings:
    """The settings that `recorded` gave, as a folder keeps them.

    machine: as for `resolve`.
    residency, overlap: which a folder does not keep, as they suit a machine; None: as the
        environment and the config files have them, or as gcr bench measured.
    trust_endpoint: whether the server that the folder names may have the API key.
    Raises GcrError where they are not what this version can go on with, UsageError for a residency
    that there is not, and for a server that nobody vouches for.
    """
    values = {**UNRECORDED, **recorded}
    values.pop("rubric_sha256", None)
    try:
        settings = _VALIDATOR.validate_python(values)
    except ValidationError as error:
        message = f"this version of gcr cannot read the recorded settings: {first_problem(error)}"
        raise GcrError(message, "go on with the version that began it, or start anew") from error
    given = _given({"residency": residency, "overlap": overlap}, Path(), os.environ)
    here = {name: given[name].value for name in OF_THE_MACHINE if name in given}
    here.setdefault("overlap", _overlap(settings, machine, os.environ))
    here["trusted"] = keys.trusts_record(settings.critic, given, os.environ, vouched=trust_endpoint)
    return _validated({**asdict(settings), **here}, given)


def _given(
    flags: Mapping[str, object], folder: Path, environ: Mapping[str, str]
) -> dict[str, Given]:
    """What is set by flags, the environment and files; of several, what takes precedence.

    Raises UsageError for what cannot be a setting.
    """
    here, own = config_files(folder, environ)
    given = {
        **from_file(own, OPTIONS, by_user=True),
        **from_file(here, OPTIONS),
        **from_environment(environ, OPTIONS, besides=NOT_SETTINGS, lists=LISTS),
        **from_flags({key: flags[key] for key in flags if key != keys.TRUST}, OPTIONS),
    }
    output = given.get("output")
    if output and output.value == "":  # which to Path is the working folder
        raise UsageError(f"{output.origin} {EMPTY}", "name a folder, or . for the one you are in")
    return given


def _validated(values: Mapping[str, object], given: Mapping[str, Given]) -> Settings:
    """The settings of these values. given: where somebody set one, for messages.

    Raises UsageError for a value that its setting does not take, and for an unknown strategy.
    """
    try:
        settings = _VALIDATOR.validate_python(_as_in_files(values))
    except ValidationError as error:
        raise _out_of_range(error, given) from error
    plugins.STRATEGIES.find(settings.strategy)
    if settings.score == "checklist" and settings.judges > 1:
        implied = settings.critique == "best" and "score" not in given
        by = "critique best, which scores by a checklist" if implied else "score checklist"
        raise UsageError(f"--judges does nothing with --{by}", "answers are probabilities already")
    if settings.scheduler:  # by one name, so that a run can be resumed under another spelling
        settings = replace(settings, scheduler=samplers.parse(settings.scheduler).name)
    return settings


def _as_in_files(values: Mapping[str, object]) -> dict[str, object]:
    """Values as files spell them, also where Python code or the environment does otherwise: a path
    as text, and the words to keep as a list.
    """
    plain = {
        key: str(value) if isinstance(value, os.PathLike) else value
        for key, value in values.items()
    }
    for key in LISTS:
        value = plain.get(key)
        if isinstance(value, str):
            plain[key] = [value]
        elif isinstance(value, list | tuple):
            plain[key] = [str(v) if isinstance(v, os.PathLike) else v for v in value]
    return plain


def _implied(
    given: Mapping[str, Given], profile: profiles.Profile, critic: str, *, edit: bool
) -> dict[str, Given]:
    """What follows from other settings, where it is not given itself. critic: with the model that
    a server has, where only its address is given.
    """
    implied = {}
    if "critique" in given and given["critique"].value == "best":
        implied["score"] = Given("checklist", "images are screened by it")
    if given.keys() & {"max_images", "max_seconds"}:
        implied["rounds"] = Given(MOST_ROUNDS, BUDGET_IS_LIMIT)
    budget = given.get("max_images")
    if budget and str(budget.value).isdecimal() and int(str(budget.value)) < FEW_IMAGES:
        implied["images"] = Given(1, "so few images in all")
    family, rubric = TRAINED
    trained = family in critic.casefold()
    if edit:
        name = f"{rubric}-{EDITING}" if trained else EDITING
        implied["rubric"] = Given(name, "an image is edited")
    elif trained and "critic" in given:
        implied["rubric"] = Given(rubric, "what this critic was trained on")
    of_profile = {} if "critic" in given else {"rubric": Given(profile.rubric, "")}
    profile_judges = None if "critic" in given else profile.judges
    asked = {**of_profile, **implied, **given}.get("rubric", Given("", "")).value
    score = {**implied, **given}.get("score", Given("reply", "")).value
    if score == "checklist" and profile_judges is not None:
        implied["judges"] = Given(1, "a checklist is answered once")
    judges = {**implied, **given}.get("judges", Given(profile_judges, "")).value
    if score != "reply":
        implied["target"] = Given(GOOD_CHANCE, "scores that are probabilities")
    elif target := _of_reply(str(asked), str(judges), aspect="aspect" in given):
        implied["target"] = target
    return implied


def _of_reply(rubric: str, judges: str, *, aspect: bool) -> Given | None:
    """The target of scores that are read from replies, where it is not the usual one."""
    if rubric.startswith(TRAINED[1]):
        return Given(GOOD_FLOAT, "scores of which 1.0 is hardly ever given")
    if judges not in {"1", "None"}:
        return Given(GOOD_MEAN, "means of several judgements")
    return Given(GOOD_CHANCE, "a score that probabilities are part of") if aspect else None


def _of_family(given: Mapping[str, Given], machine: Machine) -> dict[str, Given]:
    """What follows from the kind of a generator that comes without a profile."""
    if "generator" not in given or DISTILLED.keys() <= given.keys():
        return {}
    steps = str(given.get("steps", Given("", "")).value)
    why = machine.distilled(str(given["generator"].value))
    if not why and steps.isdecimal() and 0 < int(steps) <= FEW_STEPS:
        why = f"{steps} steps"
    if not why:
        return {}
    mix = {key: Given(value, f"distilled: {why}") for key, value in DISTILLED.items()}
    return {**mix, "distilled": Given(why, "")}


def _of_server(
    critic: Given, flags: Mapping[str, object], machine: Machine, environ: Mapping[str, str]
) -> dict[str, Given]:
    """What follows from an address: its model, whether it gets the key, how many requests."""
    trusted = keys.trusts_setting(critic, flags, environ)
    server = address.parse(str(critic.value))
    if not server.model:
        server = server._replace(model=machine.model_at(server, trusted=trusted))
    return {
        "critic": critic._replace(value=str(server)),
        "trusted": Given(trusted, critic.origin),
        "judge_batch": Given(address.AT_ONCE, "requests at once"),
    }


def _measured(
    settings: Settings,
    given: Mapping[str, Given],
    machine: Machine,
    environ: Mapping[str, str],
) -> dict[str, Given]:
    """What was measured on this machine, where it is not given and will not be measured anew."""
    measured = {}
    if "spread" not in given and settings.judges == 1:
        key = measurements.spread_key(settings.critic_measured, settings.rubric, settings.score)
        spread = measurements.SPREADS.read(environ).get(key)
        measured["spread"] = Given(spread, "gcr calibrate")
    speeds = measurements.SPEEDS.read(environ)
    size, device = (settings.width, settings.height), machine.device_name
    if drawing := measurements.on_device(speeds, "draw", settings.generator_measured, size, device):
        measured["draw_batch"] = Given(drawing.batch, "gcr bench")
    if judging := measurements.on_device(speeds, "judge", settings.critic_timed, size, device):
        measured["judge_batch"] = Given(judging.batch, "gcr bench")
    if settings.overlap is None:
        measured["overlap"] = Given(_overlap(settings, machine, environ), "gcr bench")
    return {key: source for key, source in measured.items() if source.value is not None}


def _overlap(settings: Settings, machine: Machine, environ: Mapping[str, str]) -> bool | None:
    """Whether overlapping was measured to be faster on this machine; None where it was not."""
    models = measurements.pair(settings.generator_measured, settings.critic_timed)
    return measurements.on_device(
        measurements.OVERLAPS.read(environ),
        "overlap",
        models,
        (settings.width, settings.height),
        machine.device_name,
    )


def config_files(
    folder: Path = Path(), environ: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """The files that settings are read from: the working folder's, which wins, and the user's."""
    environ = os.environ if environ is None else environ
    return folder / "gcr.yaml", paths.config_folder(environ) / "config.yaml"


def _from_profile(
    profile: profiles.Profile, given: Mapping[str, Given], *, by_user: bool
) -> dict[str, Given]:
    """The profile's settings for its models, where no others are given.

    by_user: whether the user chose the profile's content, too.
    """
    names = [
        *(() if "generator" in given else (*FOR_GENERATOR, *MIX)),
        *(() if "critic" in given else (*FOR_CRITIC, "judges")),
    ]
    names = [
        name for name in names if name not in {*MIX, "judges"} or getattr(profile, name) is not None
    ]
    origin = f"profile {profile.name}"
    return {name: Given(getattr(profile, name), origin, by_user) for name in names}


def _out_of_range(error: ValidationError, given: Mapping[str, Given]) -> UsageError:
    problem = first_problem(error)
    name = problem.path[0]
    origin = given[name].origin if name in given else f"{name} of the profile"
    return UsageError(problem.of(origin), "gcr refine --help lists the options")


# What users set: on the command line, in the environment, in files


def from_flags(flags: Mapping[str, object], keys: Collection[str]) -> dict[str, Given]:
    """Values of flags; None means "not given".

    keys: of what can be set. Raises UsageError for a flag that is none of them.
    """
    for key in flags:
        _check_known(key, keys, f"no setting {key!r}")
    return {
        key: Given(value, f"--{key.replace('_', '-')}", by_user=True)
        for key, value in flags.items()
        if value is not None
    }


def from_environment(
    environ: Mapping[str, str],
    keys: Collection[str],
    besides: Collection[str] = (),
    lists: Collection[str] = (),
) -> dict[str, Given]:
    """Values of GCR_*. A name that is close to none of ours is another program's.

    keys: of what can be set.
    besides: names that are ours, but no settings.
    lists: keys of several values, for which a JSON list may stand.
    Raises UsageError for a name that seems to be a misspelt one of ours, and for a list that is
    not whole.
    """
    given: dict[str, Given] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in besides or not value:
            continue
        key = name.removeprefix(PREFIX).lower()
        if key in keys:
            several = key in lists and value.lstrip().startswith('["')
            given[key] = Given(_listed(value, name) if several else value, name, by_user=True)
        elif nearest(key, keys, LIKENESS):
            _check_known(key, keys, f"unknown environment variable {name}", PREFIX)
    return given


def _listed(text: str, name: str) -> object:
    try:
        return structured.parse_json(text)
    except MalformedError as error:
        raise UsageError(
            f"{name} is no list in JSON: {error.problem}", """such as '["red", "two circles"]'"""
        ) from error


def from_file(path: Path, keys: Collection[str], *, by_user: bool = False) -> dict[str, Given]:
    """Values of a YAML file; none where there is no file.

    keys: of what can be set.
    by_user: whether the file is in the user's own config folder.
    Raises UsageError for a file that cannot be read, is no mapping, or has an unknown key.
    """
    with structured.readable(path, "mend or remove the file"):
        try:
            content = structured.parse_yaml(structured.text(path))
        except FileNotFoundError:
            return {}
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no settings", "write one `name: value` on each line")
    given = {}
    for spelling, value in content.items():
        key = str(spelling).replace("-", "_")
        _check_known(key, keys, f"unknown setting {str(spelling)!r} in {path}")
        if value is not None:
            given[key] = Given(value, f"{key} in {path}", by_user)
    return given


def _check_known(key: str, keys: Collection[str], message: str, prefix: str = "") -> None:
    if key in keys:
        return
    near = nearest(key, keys, LIKENESS)
    hint = (
        f"did you mean {prefix}{near.upper() if prefix else near}?"
        if near
        else f"known: {', '.join(sorted(keys))}"
    )
    raise UsageError(message, hint)
