"""`gcr rate RUN IMAGE RATING`: what the user thinks of an image."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gcr.cli.flags import settings_only

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="Its folder, or a part of the folder's name.")
]
Image = Annotated[
    str, typer.Argument(metavar="IMAGE", help="Such as 02-1.png, or best.png for the best one.")
]
Value = Annotated[
    str,
    typer.Argument(
        metavar="RATING", help="1 to 5, keep or discard; none takes an earlier one back."
    ),
]


@settings_only("output", switches=())
def rate(run: Run, image: Image, value: Value, *, flags: Mapping[str, Any]) -> None:
    """Say what you think of an image: it is kept with the run, and changes no score.

    gcr list, gcr show and the pages show it, and gcr export makes preference pairs of it, before
    what the critic prefers.
    """
    from gcr.ui import logs  # it takes a while, which --help need not wait for

    logs.set_up(verbose=False, quiet=False)
    from gcr import api
    from gcr.results import listing
    from gcr.settings.resolving import output_folder
    from gcr.ui.terminal import Terminal

    folder = listing.find(run, output_folder(flags))
    rating = api.rate(folder, image, value)
    words = "no rating any more" if rating.value is None else str(rating)
    Terminal().say(f"{folder / rating.image}: {words}")
