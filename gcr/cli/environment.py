"""Commands on what runs need: config, profiles, pull and doctor; and what `--dry-run` shows."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcr.cli import options
from gcr.cli.options import settings_only, with_settings
from gcr.core.plaintext import shown
from gcr.errors import UsageError
from gcr.settings.schema import OPTIONS

if TYPE_CHECKING:
    from gcr.diagnose.doctor import Finding
    from gcr.engine.forecast import Estimate, Forecast
    from gcr.hub.fetching import Shipment
    from gcr.settings.profiles import Profile
    from gcr.settings.resolving import Resolved
    from gcr.settings.schema import Settings
    from gcr.ui.terminal import Terminal


# gcr config


HEADINGS = ("setting", "value", "from")
LEFT_TO_PIPELINE = ("width", "height", "steps", "guidance")


Action = Annotated[str, typer.Argument(metavar="list", help="Show settings, the default.")]


@with_settings
def config(
    action: Action = "list",
    *,
    as_json: options.Listed = False,
    quiet: options.Quiet = False,
    flags: Mapping[str, object],
) -> None:
    """Show every setting as a run would have it here: its value, and where that came from.

    With the options of gcr refine, as they would change it. No model is loaded and no server asked.
    The files that were looked for are told on stderr.
    """
    if action != "list":
        raise UsageError(f"gcr config cannot {action!r}", "gcr config list shows every setting")
    from gcr.engine.machine import ThisMachine
    from gcr.settings.resolving import config_files, resolve

    class Unconnected(ThisMachine):
        def model_at(self, server: object, *, trusted: bool) -> str:  # noqa: ARG002
            return ""

    settings, origins, _ = resolve(flags, Unconnected())
    if as_json:
        values = settings.as_json().items()
        listed = {name: {"value": value, "from": origins[name]} for name, value in values}
        typer.echo(json.dumps(listed, ensure_ascii=False))
        return
    options.table(HEADINGS, _settings_rows(settings, origins))
    if not quiet:
        for path in config_files():
            typer.echo(f"{path}{'' if path.exists() else ' is not there'}", err=True)


def _settings_rows(settings: "Settings", origins: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """A row of the table for each setting that a user or a profile can set."""
    return [
        (name, _value(name, value), origins[name])
        for name, value in settings.as_json().items()
        if name in OPTIONS or origins[name] != "default"
    ]


def _value(name: str, value: object) -> str:
    if value is None:
        return "the pipeline's own" if name in LEFT_TO_PIPELINE else "not set"
    return shown(value)


# --dry-run


def show_forecast(resolved: "Resolved", prompts: Sequence[str], *, as_json: bool) -> None:
    """Print what runs of these prompts under these settings would do."""
    from gcr.engine.forecast import forecast
    from gcr.engine.parts import with_rubric
    from gcr.settings.schema import recorded

    settings, questions = with_rubric(resolved.settings)
    found = forecast(
        resolved._replace(settings=settings), recorded(settings, questions.sha256), prompts
    )
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    options.table(HEADINGS, _settings(found))
    typer.echo()
    options.table(("plan", ""), _plan(found))


def _settings(found: "Forecast") -> list[tuple[str, str, str]]:
    """All that somebody decided, and the defaults that do something."""
    values = found.settings.as_json()
    return [
        row
        for row in _settings_rows(found.settings, found.origins)
        if row[2] != "default" or values[row[0]] not in (None, "", [], {})
    ]


def _plan(found: "Forecast") -> list[tuple[str, str]]:
    images = found.estimate.images
    about = "" if images is None else f"about {images:.1f}, "
    return [
        ("prompts", str(found.prompts)),
        *(("files", file) for file in found.files),
        ("memory", found.memory.said),
        ("images", f"{about}{found.estimate.most_images} at most"),
        ("time", _time(found.estimate)),
    ]


def _time(estimate: "Estimate") -> str:
    from gcr.core.phrases import count, duration

    if estimate.most_seconds is None:
        return "unknown: no earlier run of these models and settings is here"
    most = f"{duration(estimate.most_seconds)} at most"
    about = "" if estimate.seconds is None else f"about {duration(estimate.seconds)}, "
    by = f" (by {count(estimate.runs, 'earlier run')} here)" if estimate.runs else " (the budget)"
    return f"{about}{most}{by}, without loading the models"


# gcr profiles


PROFILE_HEADINGS = ("name", "GPU", "RAM", "download", "size", "models")

Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Show all that this profile says.")
]


def profiles(name: Name = None, *, as_json: options.Listed = False) -> None:
    """List the profiles: gcr's own, and yours in gcr/profiles/ of your config folder.

    The models are a generator and a critic. GPU: its memory that has to be free, and nf4 where the
    generator's weights have 4 bits. RAM: memory of the machine in which the models wait. download:
    of both models, which takes as much of the disk. GPU and RAM are estimated from parameter
    counts. With NAME all of that profile, as YAML: licences, steps, how much of a prompt is read,
    and whether the hub wants terms accepted first (gated).

    --profile takes one of these names, or the path of a YAML file with the same keys.
    """
    from gcr.settings import profiles as known

    if name is not None:
        _show_profile(known.load(name), as_json=as_json)
        return
    loaded, errors = known.load_all()
    if as_json:
        typer.echo(json.dumps([profile.model_dump(mode="json") for profile in loaded]))
    else:
        options.table(PROFILE_HEADINGS, [_profile_row(profile) for profile in loaded])
    if errors:
        raise errors[0]


def _show_profile(profile: "Profile", *, as_json: bool) -> None:
    """All of one profile: what a file of one's own could begin with."""
    import yaml

    values = profile.model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(values))
    else:
        del values["name"]
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        typer.echo(f"# {profile.name}\n{text}", nl=False)


def _profile_row(profile: "Profile") -> tuple[str, ...]:
    gpu = f"{profile.vram_gb:g} GiB" if profile.vram_gb else "none"
    if profile.quantize_generator != "none":
        gpu += f"\n{profile.quantize_generator}"
    ram = "" if profile.ram_gb is None else f"{profile.ram_gb:g} GiB"
    download = "" if profile.download_gb is None else f"{profile.download_gb:g} GB"
    size = f"{profile.width}×{profile.height}"
    return (profile.name, gpu, ram, download, size, f"{profile.generator}\n{profile.critic}")


# gcr pull


Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="A profile, for both of its models; or a hub id."),
]


@settings_only("generator", "critic", switches=())
def pull(
    names: Names = None,
    *,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    flags: Mapping[str, Any],
) -> None:
    """Fetch the models of a profile, or models by their hub ids, into the hub's cache.

    Of each only the files that are loaded. Afterwards --offline runs with them. For a checkpoint in
    one file, what it is loaded with.

    Prints the folder of each model; models that are on this machine anyway have no line.
    """
    from gcr.hub import consent, fetching
    from gcr.ui.terminal import Terminal

    models = [*(names or ()), *filter(None, flags.values())]
    if not models:
        raise UsageError("nothing to fetch", "name a profile, such as: gcr pull 24gb")
    consent.obey()
    shipments = list(_looked_at(fetching.models_of(models), None if quiet else Terminal()))
    fetching.check_room(shipments)
    folders = {shipment.model: str(fetching.fetch(shipment)) for shipment in shipments}
    if as_json:
        typer.echo(json.dumps(folders))
    else:
        for folder in folders.values():
            typer.echo(folder)


def _looked_at(models: Iterable[str], terminal: "Terminal | None") -> "Iterator[Shipment]":
    """What there is to fetch of each model; also told, model by model."""
    from gcr.hub import fetching, weightfiles

    for model in models:
        shipment: Shipment | None = None
        if weightfiles.is_file(model):
            file = weightfiles.single_file(model)
            shipment = fetching.shipment_of(file.config, file.keys)
        elif not fetching.needs_no_fetching(model):
            shipment = fetching.shipment_of(model)
        if terminal:
            told = fetching.described(shipment) if shipment else f"{model}: nothing to fetch"
            terminal.say(told)
        if shipment:
            yield shipment


# gcr doctor


STYLES = {"ok": "green", "note": "yellow", "broken": "bold red"}

Json = Annotated[bool, options.switch("--json", "Print a JSON list instead of the table.")]


@settings_only("profile", "generator", "critic", "rubric", switches=("trust_endpoint", "offline"))
def doctor(*, as_json: Json = False, flags: Mapping[str, object]) -> None:
    """Look at libraries, GPU, caches and configuration, and say what to do about what is wrong.

    Exit code 1 says that something is broken.
    """
    from gcr.diagnose.doctor import examine
    from gcr.ui import logs

    logs.set_up(verbose=False, quiet=True)  # what is found is told once, in the table

    findings = list(examine(flags))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _show(findings: "Iterable[Finding]") -> None:
    """The table, on stdout: it is the result."""
    from rich.table import Table
    from rich.text import Text

    from gcr.core.plaintext import plain

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        said = Text(plain(finding.said))
        if finding.hint:
            said.append(f"\n{plain(finding.hint)}", "dim")
        table.add_row(Text(finding.state, STYLES[finding.state]), finding.name, said)
    options.console(1000).print(table)  # one line each, for whatever reads it
