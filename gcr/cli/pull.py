"""`gcr pull NAME…`: fetch models ahead of a run."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gcr.cli import options
from gcr.cli.flags import settings_only
from gcr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gcr.hub.fetching import Shipment
    from gcr.ui.terminal import Terminal

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="A profile, for both of its models; or a hub id."),
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
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=quiet)
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


def _looked_at(models: "Iterable[str]", terminal: "Terminal | None") -> "Iterator[Shipment]":
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
