"""pocket: the embedded pair, a small real generator and critic for a world of coloured shapes.

`world`, `language` and `truth` define the world; `pocket_training`, which is not in the wheel, made
the weights. Importing this module loads nothing of it.
"""

import json
from pathlib import Path

from gcr.errors import UsageError

WEIGHTS = Path(__file__).parent / "weights"
GENERATOR = WEIGHTS / "generator"
CRITIC = WEIGHTS / "critic"


def side() -> int:
    """Width and height in pixels of the images that the embedded generator draws, its only size."""
    transformer, vae = (
        json.loads((GENERATOR / part / "config.json").read_text(encoding="utf-8"))
        for part in ("transformer", "vae")
    )
    halvings = len(vae["block_out_channels"]) - 1
    return int(transformer["sample_size"]) << halvings


def check_size(model: str, width: int | None, height: int | None) -> None:
    """Raise UsageError for a size that this model, if it is the embedded generator, cannot draw."""
    if model != "pocket:generator" or {width, height} <= {None, side()}:
        return
    raise UsageError(
        f"{model} draws {side()}×{side()} pixels only, not {width or side()}×{height or side()}",
        "leave out width and height (-W, -H), or take another generator",
    )
