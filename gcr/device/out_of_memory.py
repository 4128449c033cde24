"""What is done when a GPU's memory runs out: smaller batches, then less on the device.

The batch is halved, down to one item. Then one thing after another is given up that costs time, as
long as there is one. What worked is kept for the rest of the process, and no item is done twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from gcr.errors import ModelError

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_MESSAGES = re.compile(
    # torch's own allocator (torch.OutOfMemoryError), and what the driver says.
    r"(CUDA|HIP|XPU|MPS backend) out of memory"
    r"|(CUDA|HIP)( driver)? error: out of memory"
    r"|(cuda|hip)Error(MemoryAllocation|OutOfMemory)"
    r"|CUDA_ERROR_OUT_OF_MEMORY"
    # Libraries that take memory of their own, and first of all when a handle of theirs is made.
    r"|(CUBLAS|CUSPARSE|CUSOLVER|CUDNN|HIPBLAS|HIPSPARSE|HIPSOLVER)_STATUS_"
    r"(ALLOC_FAILED|NOT_INITIALIZED)"
    r"|CUDNN_STATUS_INTERNAL_ERROR_(DEVICE|HOST)_ALLOCATION_FAILED"
    r"|CUFFT_ALLOC_FAILED|HIPFFT_ALLOC_FAILED"
    r"|rocblas_status_memory_error|miopenStatus(AllocFailed|NotInitialized)"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory ran out, in torch's words or a library's.

    A library that could not be initialized counts: mostly there is too little memory for it, and
    if not, it fails again with a smaller batch.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _MESSAGES.search(str(error)) is not None
    )


class Ladder:
    """Works in batches as large as memory has room for.

    Arguments:
        size: items in a batch, at most.
        what: what messages call the items.
        relieve: makes a single item need less memory in one way, and says which; returns an empty
            text when there is no other way left.
        hint: what a user can do when even one item is too much.

    Attributes:
        size: items in a batch, at most, by what memory had room for so far.
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
        """The results of each batch, in order.

        Arguments:
            items: to work on.
            work: takes a batch, and returns a result for each of its items.
            most: items in a batch, at most, where that is fewer than `size`.

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
        """The results; None where memory ran out, after which the next try needs less."""
        import torch

        try:
            return work(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = next(iter(str(error).splitlines()), "out of memory")
        # Only now: while the error lives, so does what the work had on the device.
        torch.cuda.empty_cache()
        if len(batch) > 1:
            self.size = len(batch) // 2
            logger.warning("out of memory: %d %s at once from here on", self.size, self._what)
        elif step := self._relieve():
            logger.warning("out of memory: %s from here on", step)
        else:
            raise ModelError(f"the GPU's memory is too small: {reason}", self._hint())
        return None
