"""As many at once as memory has room for: fewer each time it runs out.

First the batch is halved, down to one. Then one thing after another is given up that costs time, as
long as there is one. What worked is kept for the rest of the process, and nothing that is done is
done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from gcr.device.shortage import is_out_of_memory
from gcr.errors import ModelError

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class Ladder:
    """size: items at once, at most. what: how messages call them.

    relieve: does one thing so that a single item needs less memory, and says what; says nothing
        when there is nothing left to do.
    hint: what to do when even one item is too much.
    """

    def __init__(
        self,
        size: int,
        what: str,
        relieve: Callable[[], str] = lambda: "",
        hint: Callable[[], str] = lambda: "",
    ) -> None:
        self.size = size
        self._what = what
        self._relieve = relieve
        self._hint = hint

    def each(
        self,
        items: Sequence[Item],
        work: Callable[[Sequence[Item]], Sequence[Result]],
        most: int | None = None,
    ) -> Iterator[Sequence[Result]]:
        """The results of each batch, in order. most: items at once, where that is fewer.

        Raises ModelError when one item alone is too much.
        """
        done = 0
        while done < len(items):
            batch = items[done : done + min(self.size, most or self.size)]
            results = self._tried(batch, work)
            if results is not None:
                done += len(batch)
                yield results

    def _tried(
        self, batch: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]
    ) -> Sequence[Result] | None:
        """None where memory ran out, which it will be less likely to next time."""
        import torch

        try:
            return work(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            said = next(iter(str(error).splitlines()), "out of memory")
        # Not before: while the error lives, so does what the work had on the device.
        torch.cuda.empty_cache()
        if len(batch) > 1:
            self.size = len(batch) // 2
            logger.warning("out of memory: %d %s at once from here on", self.size, self._what)
        elif step := self._relieve():
            logger.warning("out of memory: %s from here on", step)
        else:
            raise ModelError(f"the GPU's memory is too small: {said}", self._hint())
        return None
