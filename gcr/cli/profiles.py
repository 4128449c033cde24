"""`gcr profiles`: the pairs of models there are, and what each needs."""

import json
from typing import TYPE_CHECKING

import typer

from gcr.cli import options, table

if TYPE_CHECKING:
    from gcr.profiles import Profile

HEADINGS = ("name", "models", "licences", "gated", "GPU memory", "steps", "size", "prompt")
GATED = {True: "yes", False: "no", None: "unknown"}


def profiles(*, as_json: options.Listed = False) -> None:
    """List the profiles: gcr's own, and yours in gcr/profiles/ of your config folder.

    The models are a generator and a critic. Gated: whether the hub wants terms accepted first. GPU
    memory: what has to be free, estimated from parameter counts. Prompt: how much of one is read.

    --profile takes one of these names, or the path of a YAML file with the same keys.
    """
    from gcr import profiles as known

    found, broken = known.everything()
    if as_json:
        typer.echo(json.dumps([profile.model_dump(mode="json") for profile in found]))
    else:
        table.show(HEADINGS, [_row(profile) for profile in found])
    if broken:
        raise broken[0]


def _row(profile: "Profile") -> tuple[str, ...]:
    needs = f"{profile.vram_gb:g} GiB" if profile.vram_gb else "none"
    return (
        profile.name,
        f"{profile.generator}\n{profile.critic}",
        f"{profile.generator_licence}\n{profile.critic_licence}",
        GATED[profile.gated],
        needs,
        "–" if profile.steps is None else str(profile.steps),
        f"{profile.width}×{profile.height}",
        f"{profile.prompt_limit} tokens" if profile.prompt_limit else "–",
    )
