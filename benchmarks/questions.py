"""What is saved where an image is read once for all questions? `python -m benchmarks.questions`.

The embedded critic answers six questions about each of four images, in any order of both: one by
one image, so that each is read once, and one by one question, so that it is read for each.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

import typer

from gcr.critic import critic, rubric
from gcr.device.memory import SharedDevice
from gcr.pocket import world

if TYPE_CHECKING:
    from PIL.Image import Image

QUESTIONS = (
    *("Is there a red circle?", "Is there a blue star?", "Are there two circles?"),
    *("Is there a green square?", "Is the circle left of the star?", "Is there a small square?"),
)
IMAGES, TIMES = 4, 5


def main() -> None:
    """Measure, and print JSON: seconds of this process at work, and by how much answers differ."""
    judge = critic.load("pocket:critic", rubric.load("pocket"), SharedDevice("cpu"))
    images = [world.draw(world.sample(random.Random(seed))) for seed in range(IMAGES)]
    by_image = [(image, question) for image in images for question in QUESTIONS]
    by_question = [(image, question) for question in QUESTIONS for image in images]

    def asked(pairs: list[tuple[Image, str]]) -> tuple[float, dict[tuple[int, str], float]]:
        seconds = []
        for _ in range(TIMES):
            began = time.process_time()
            answers = judge.answer([image for image, _ in pairs], [text for _, text in pairs])
            seconds.append(time.process_time() - began)
        keys = ((id(image), text) for image, text in pairs)
        return min(seconds), dict(zip(keys, answers, strict=True))

    once, answers = asked(by_image)
    each, others = asked(by_question)
    apart = max(abs(answers[key] - others[key]) for key in answers)
    figures = {"once_seconds": once, "each_seconds": each, "differ_by_at_most": apart}
    typer.echo(json.dumps(figures, indent=2))


if __name__ == "__main__":
    typer.run(main)
