"""Each run of a wave drawn in calls of its own, so that its images do not depend on the others.

How many images a model draws at once decides how it rounds, and with it the last bit of a few
pixels. In calls of its own a run draws, byte for byte, what it would draw outside of a wave; after
a crash, too, when it is gone on with in a wave of others.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from gcr.core.records import Candidate, Drawing, Generator, Run, Strategy
    from gcr.core.stopping import StopRule


class Isolated:
    """A strategy and a generator in one: when it draws it knows which images are whose."""

    def __init__(
        self,
        strategy: Strategy,
        generator: Generator,
        rule: StopRule,
        drawn: Callable[[Sequence[Image]], None] = lambda _: None,
    ) -> None:
        """drawn: called with the images of a run as soon as there are any."""
        self._strategy = strategy
        self._generator = generator
        self._rule = rule
        self._drawn = drawn
        self._shares: list[int] = []  # images of each run, since the last drawing

    def propose(self, run: Run) -> tuple[Candidate, ...]:
        proposal = self.proposed(run)
        self._shares.append(len(proposal))
        return proposal

    def proposed(self, run: Run) -> tuple[Candidate, ...]:
        """What would be drawn next, if anything is."""
        return self._strategy.propose(run)[: self._rule.room(run)]

    def draw(
        self,
        candidates: Sequence[Candidate],
        starts: Sequence[Image | None] = (),
        sources: Sequence[Image | None] = (),
    ) -> list[Drawing]:
        nothing = [None] * len(candidates)
        wave = zip(candidates, starts or nothing, sources or nothing, strict=True)
        shares, self._shares = self._shares, []
        drawings = []
        for share in shares:
            own = list(islice(wave, share))
            images = self._generator.draw(
                [candidate for candidate, _, _ in own],
                [start for _, start, _ in own],
                [source for _, _, source in own],
            )
            self._drawn([drawing.image for drawing in images])
            drawings += images
        return drawings

    def obstacle(self, candidate: Candidate) -> str:
        return self._generator.obstacle(candidate)

    def excess(self, prompt: str) -> str:
        return self._generator.excess(prompt)
