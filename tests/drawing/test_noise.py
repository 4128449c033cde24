"""Mutated noise: on random pipelines of real families, and in numbers."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import FAMILIES

from gcr.core.records import Candidate
from gcr.device.memory import SharedDevice
from gcr.drawing import generator, noise
from gcr.drawing.generator import DiffusersGenerator, Sampling
from gcr.errors import UsageError

CPU = SharedDevice("cpu")


@pytest.fixture(scope="module")
def drawer(checkpoint):
    """Generators of tiny checkpoints, by family, each loaded once."""

    @cache
    def load(family):
        sampling = Sampling(32, 32, steps=2, guidance=3.0, call=FAMILIES[family], batch=4)
        return generator.load(checkpoint(family), sampling, CPU)

    return load


def pixels(drawing):
    return np.asarray(drawing.image).astype(int)


def apart(first, second):
    """Mean difference of two drawings, 0-255."""
    return abs(pixels(first) - pixels(second)).mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_goes_from_the_parents_to_that_of_the_mutation(drawer, family):
    parent, other = Candidate("a circle", 1), Candidate("a circle", 2)
    same, near, far = (
        Candidate("a circle", 1, mutations=(2,), strength=strength) for strength in (0.0, 0.1, 1.0)
    )
    drawn = drawer(family).draw([parent, same, near, far])
    (another,) = drawer(family).draw([other])
    assert pixels(drawn[1]).tolist() == pixels(drawn[0]).tolist()
    assert abs(pixels(drawn[3]) - pixels(another)).max() <= 1
    assert 0 < apart(drawn[2], drawn[0]) < apart(drawn[3], drawn[0]) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mutated_image_does_not_depend_on_its_batch(drawer, family):
    candidates = [
        Candidate("a red circle", 1, mutations=(5, 6, 7), strength=0.5),
        Candidate("a blue square", 2),
        Candidate("a circle", 3, mutations=(5,), strength=0.2),
    ]
    together = drawer(family).draw(candidates)
    for candidate, drawing in zip(candidates, together, strict=True):
        (alone,) = drawer(family).draw([candidate])
        assert abs(pixels(alone) - pixels(drawing)).max() <= 1


def test_mixed_latents_are_those_of_mixed_noise(drawer):
    """The pipeline's own argument for latents draws the very same image."""
    draw = drawer("stable_diffusion")
    (ours,) = draw.draw([Candidate("a circle", 1, mutations=(2, 3), strength=0.6)])
    first, second, third = (
        torch.randn((1, 4, 16, 16), generator=noise.seeded(seed)) for seed in (1, 2, 3)
    )
    mixed = 0.8 * (0.8 * first + 0.6 * second) + 0.6 * third
    theirs = draw._pipeline(
        ["a circle"],
        latents=mixed,
        generator=[noise.seeded(1)],
        output_type="np",
        **draw._arguments,
    ).images[0]
    assert abs(pixels(ours) - theirs * 255).max() <= 1


def test_mutated_noise_is_standard_normal():
    def prepare(count, generator, latents=None):
        assert latents is None
        return torch.cat([torch.randn((1, 4, 64, 64), generator=g) for g in generator]), "positions"

    pipeline = SimpleNamespace(prepare_latents=prepare)
    batch = [Candidate("", 1, mutations=tuple(range(2, 12)), strength=0.4), Candidate("", 1)]
    with noise.mutated(pipeline, batch):
        latents, positions = pipeline.prepare_latents(2, [noise.seeded(1), noise.seeded(1)])
    assert pipeline.prepare_latents is prepare
    assert positions == "positions"
    assert abs(latents[0].mean()) < 0.02
    assert abs(latents[0].std() - 1) < 0.02
    assert torch.equal(latents[1:], prepare(1, [noise.seeded(1)])[0])
    # Ten generations of 0.4 leave 0.92^10 of the first noise.
    likeness = torch.corrcoef(latents.flatten(1))[0, 1]
    assert abs(likeness - (1 - 0.4**2) ** 5) < 0.03


class Closed:
    """A pipeline that draws its noise where nobody sees it."""

    components: dict[str, object] = {}  # noqa: RUF012 - never changed

    def __call__(self, prompt=None, generator=None, output_type="pil"):
        raise AssertionError("it was called")


def test_a_pipeline_whose_noise_cannot_be_mutated_says_so():
    closed = DiffusersGenerator(Closed(), Sampling(), CPU)
    mutated = Candidate("a", 0, mutations=(1,), strength=0.5)
    assert closed.obstacle(Candidate("a", 0)) == ""
    assert closed.obstacle(mutated) == "Closed prepares no latents that could be mutated"
    with pytest.raises(UsageError, match="prepares no latents") as caught:
        closed.draw([Candidate("a", 0), mutated])
    assert caught.value.hint == "take another strategy"
