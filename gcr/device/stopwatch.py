"""A clock that runs for as long as a `with` block does, and adds up."""

from __future__ import annotations

import time
from typing import Self


class Stopwatch:
    """seconds: of all blocks so far."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._since
