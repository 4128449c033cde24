"""What breaks: attempts to make the tool lose work, crash, hang or lie, counted.

`python -m benchmarks.reliability` runs all pieces and writes docs/reliability.json and the page
beside it. A piece makes its attempts from a seed, so that any of them can be made again.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
Case = TypeVar("Case")
Result = tuple[str, str, str]
"""Kind, outcome and failure, as `Tally.note` takes them."""


@dataclass
class Tally:
    """What a piece tried, and what came of it.

    outcomes: attempts by (kind, outcome). failures: attempts that broke a promise, each in words
    that let it be made again. figures: other numbers that the piece measured. absent: what could
    not be tried on this machine, and why. until: when to begin no more attempts, by
    `time.monotonic`.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    until: float = float("inf")

    def share(self, parts: int) -> float:
        """When the next of so many parts that are left is to begin no more attempts."""
        now = time.monotonic()
        return now + max(0.0, self.until - now) / parts

    def note(self, kind: str, outcome: str, failure: str = "") -> None:
        """Count one attempt. failure: how it broke a promise; empty where all promises held."""
        self.outcomes[kind, "FAILED" if failure else outcome] += 1
        if failure:
            self.failures.append(f"{kind}: {failure}")
            sys.stderr.write(f"  {kind}: {failure}\n")

    @property
    def attempts(self) -> int:
        return self.outcomes.total()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one attempt may take: seconds of processor, seconds by the clock, bytes of memory beyond
    what its process has before.
    """

    processor: int = 20
    clock: int = 120
    memory: int = 2 * 1024**3


def in_children(
    cases: Sequence[Case],
    attempt: Callable[[Case], Sequence[Result]],
    tally: Tally,
    limits: Limits,
) -> None:
    """Make each attempt in a forked process, which goes on with the next; where one kills its
    process, hangs it or takes too much memory, that is counted and another process takes over.

    attempt: returns what came of it, once or more.
    """
    start = 0
    while start < len(cases) and time.monotonic() < tally.until:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work(cases[start:], attempt, writer, limits, tally.until)
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                for result in json.loads(line):
                    tally.note(*result)
                start += 1
        _, status = os.waitpid(child, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            tally.note(str(cases[start])[:200], "", f"its process ended by {name}")
            start += 1


def _work(
    cases: Sequence[Case],
    attempt: Callable[[Case], Sequence[Result]],
    writer: int,
    limits: Limits,
    until: float,
) -> None:
    """In the child: make attempts until one ends it. Does not return."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + limits.memory, now + limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(writer, "w") as out:
        for case in cases:
            if time.monotonic() > until:
                os._exit(0)
            used = resource.getrusage(resource.RUSAGE_SELF)
            most = int(used.ru_utime + used.ru_stime) + limits.processor
            resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
            signal.alarm(limits.clock)
            try:
                results = attempt(case)
            except Exception:  # noqa: BLE001 - which is what is looked for
                results = [(str(case)[:200], "", traceback.format_exc(limit=-3))]
            out.write(f"{json.dumps(results)}\n")
            out.flush()
    os._exit(0)
