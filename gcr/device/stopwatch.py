"""How long models were at work."""

from __future__ import annotations

import time
from typing import Self


class Stopwatch:
    """A clock that runs inside `with` blocks.

    Attributes:
        seconds: of all blocks so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._since
