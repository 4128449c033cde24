"""`gcr profiles`: the pairs of models there are, and what each needs."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from gcr.cli import options, table

if TYPE_CHECKING:
    from gcr.settings.profiles import Profile

HEADINGS = ("name", "GPU", "RAM", "download", "size", "models")

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
        _show(known.load(name), as_json=as_json)
        return
    loaded, errors = known.load_all()
    if as_json:
        typer.echo(json.dumps([profile.model_dump(mode="json") for profile in loaded]))
    else:
        table.show(HEADINGS, [_row(profile) for profile in loaded])
    if errors:
        raise errors[0]


def _show(profile: "Profile", *, as_json: bool) -> None:
    """All of one profile: what a file of one's own could begin with."""
    import yaml

    values = profile.model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(values))
    else:
        del values["name"]
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        typer.echo(f"# {profile.name}\n{text}", nl=False)


def _row(profile: "Profile") -> tuple[str, ...]:
    gpu = f"{profile.vram_gb:g} GiB" if profile.vram_gb else "none"
    if profile.quantize_generator != "none":
        gpu += f"\n{profile.quantize_generator}"
    ram = "" if profile.ram_gb is None else f"{profile.ram_gb:g} GiB"
    download = "" if profile.download_gb is None else f"{profile.download_gb:g} GB"
    size = f"{profile.width}×{profile.height}"
    return (profile.name, gpu, ram, download, size, f"{profile.generator}\n{profile.critic}")
