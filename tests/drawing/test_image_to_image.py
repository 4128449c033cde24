"""Drawing from an image: random pipelines of real families. The embedded one has its own tests."""

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import FAMILIES, PIXART

from gcr.core.records import Candidate
from gcr.device.memory import SharedDevice
from gcr.drawing import generator
from gcr.drawing.generator import DiffusersGenerator, Sampling
from gcr.errors import UsageError

CPU = SharedDevice("cpu")


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    """Pipelines with random weights, by family, each loaded once."""

    @cache
    def load(family):
        return generator.load(checkpoint(family), Sampling(), CPU)._pipeline

    return load


def drawer(pipeline, family, reported=None, **changes):
    settings = {"width": 32, "height": 32, "steps": 10, "guidance": 3.0, "batch": 4}
    sampling = Sampling(**{**settings, "call": FAMILIES[family], **changes})
    tell = None if reported is None else lambda *step: reported.append(step)
    return DiffusersGenerator(pipeline(family), sampling, CPU, tell)


def picture(seed, size=(32, 32)):
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype="uint8")
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def started(prompt, seed, strength, **more):
    return Candidate(prompt, seed, start="00-0.png", strength=strength, **more)


def pixels(drawing):
    return np.asarray(drawing.image).astype(int)


def apart(first, second):
    return abs(pixels(first) - pixels(second)).mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lower_the_strength_the_more_is_left_of_the_image(pipeline, family):
    draw = drawer(pipeline, family).draw
    # How far two images to start from lead apart, with the same noise.
    near, far = (
        apart(*draw([started("a", 1, strength)] * 2, [picture(1), picture(2)]))
        for strength in (0.1, 1.0)
    )
    assert near > 2 * far


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_does_not_depend_on_what_else_is_drawn(pipeline, family):
    drawing = drawer(pipeline, family, steps=4)
    inputs = [
        (started("a red circle", 1, 0.5), picture(1)),
        (started("a blue square", 2, 0.5), picture(2)),
        (Candidate("a circle", 3), None),
        (started("a circle", 4, 0.75), picture(1)),
        (started("a circle", 4, 0.75, negative="red"), picture(1)),
        (Candidate("a circle", 5, mutations=(6,), strength=0.5), None),
    ]
    if family == "flux":  # its guidance is distilled: a negative prompt would do nothing
        del inputs[4]
    together = drawing.draw(*zip(*inputs, strict=True))
    assert {drawn.image.size for drawn in together} == {(32, 32)}
    for (candidate, start), drawn in zip(inputs, together, strict=True):
        (alone,) = drawing.draw([candidate], [start])
        assert abs(pixels(alone) - pixels(drawn)).max() <= 1
    others = drawing.draw([candidate for candidate, _ in inputs[:1]], [picture(3)])
    assert apart(others[0], together[0]) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_last_steps_are_run_and_told(pipeline, family):
    reported = []
    drawer(pipeline, family, reported).draw([started("a", 1, 0.3)], [picture(1)])
    assert reported[0] == ("draw", 0, 3)
    assert reported[-1] == ("draw", 3, 3)


@pytest.mark.parametrize("family", ["stable_diffusion", "flux", "z_image"])
def test_an_image_to_image_pipeline_is_made_of_the_same_parts(pipeline, family):
    drawing = drawer(pipeline, family)
    assert drawing.obstacle(started("a", 1, 0.5)) == ""
    theirs = drawing._start._pipeline
    assert type(theirs).__name__.endswith("Img2ImgPipeline")
    parts = pipeline(family).components
    assert all(part is parts[name] for name, part in theirs.components.items() if name in parts)
    weights = next(p for p in parts.values() if isinstance(p, torch.nn.Module))
    assert next(weights.parameters()).dtype is torch.float32


def test_defaults_are_those_of_drawing_from_noise(pipeline):
    """In diffusers Flux has guidance 3.5 to draw from noise, and 7 to draw from an image."""
    drawing = drawer(pipeline, "flux", steps=None, guidance=None)
    drawing.obstacle(started("a", 1, 0.5))
    assert drawing._start._arguments["guidance_scale"] == 3.5
    assert drawing._start.steps == 28


def test_a_drawing_from_noise_is_what_it_was_before_one_from_an_image(pipeline):
    for family in ("pixart", "stable_diffusion"):
        drawing = drawer(pipeline, family)
        (before,) = drawing.draw([Candidate("a", 1)])
        drawing.draw([started("a", 1, 0.5)], [picture(1)])
        (after,) = drawing.draw([Candidate("a", 1)])
        assert before.image.tobytes() == after.image.tobytes()


@pytest.mark.parametrize("family", ["stable_diffusion", "pixart"])
def test_a_strength_that_runs_no_step_is_refused_before_anything_is_drawn(pipeline, family):
    reported = []
    drawing = drawer(pipeline, family, reported, steps=7)
    with pytest.raises(UsageError, match=r"strength 0\.1 of 7 steps is less than one") as caught:
        drawing.draw([Candidate("a", 1), started("a", 1, 0.1)], [None, picture(1)])
    assert "--strength 0.15 or more" in caught.value.hint
    assert reported == []
    drawing.draw([started("a", 1, 0.15)], [picture(1)])


def test_settings_that_only_drawing_from_noise_takes_are_named(pipeline):
    drawing = drawer(pipeline, "stable_diffusion", call={"guidance_rescale": 0.5})
    assert drawing.obstacle(Candidate("a", 1)) == ""
    with pytest.raises(UsageError, match="Img2ImgPipeline takes no argument 'guidance_rescale'"):
        drawing.obstacle(started("a", 1, 0.5))


def test_a_family_that_cannot_start_from_an_image_says_so(pipeline):
    class NewFamilyPipeline(type(pipeline("pixart"))):
        """Nothing that diffusers links to another pipeline."""

    parts = pipeline("pixart").components
    family = NewFamilyPipeline(**parts)
    drawing = DiffusersGenerator(family, Sampling(32, 32, call=PIXART), CPU)
    obstacle = drawing.obstacle(started("a", 1, 0.5))
    assert obstacle.startswith("NewFamilyPipeline cannot start from an image: diffusers")
    with pytest.raises(UsageError, match="cannot start from an image"):
        drawing.draw([started("a", 1, 0.5)], [picture(1)])


def test_a_start_without_its_image_is_not_drawn_from_noise(pipeline):
    draw = drawer(pipeline, "pixart").draw
    for candidate, starts in ((started("a", 1, 0.5), ()), (Candidate("a", 1), [picture(1)])):
        with pytest.raises(ValueError, match="that starts from an image needs it"):
            draw([candidate], starts)


def test_noise_is_not_mutated_under_an_image(pipeline):
    both = Candidate("a", 1, start="00-0.png", mutations=(2,), strength=0.5)
    assert "not mutated" in drawer(pipeline, "pixart").obstacle(both)
