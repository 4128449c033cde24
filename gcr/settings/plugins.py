"""Classes that other distributions add by entry points, beside gcr's own.

gcr.strategies    what a round draws: subclasses of `gcr.core.strategies.BaseStrategy`
gcr.evaluators    what measures a comparison: see `gcr.comparison.evaluators`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gcr.core import strategies
from gcr.core.phrases import nearest
from gcr.core.strategies import BaseStrategy
from gcr.errors import GcrError, UsageError

PLAIN = re.compile(r"\w[\w.-]*")
"""What a name may be: it is a folder's, too, and a colon would end it."""


class Group:
    """Classes of one purpose: gcr's own, and those of a group of entry points.

    Attributes:
        name: of the group of entry points.
        noun: for one of them, in messages.
        built_in: gcr's own, by name.
    """

    def __init__(self, name: str, noun: str, built_in: Mapping[str, str]) -> None:
        """built_in: where each is, as `module:class`."""
        self.name = name
        self.noun = noun
        self.built_in = {key: EntryPoint(key, place, name) for key, place in built_in.items()}

    def names(self) -> list[str]:
        """All that there are: gcr's own first."""
        others = filter(PLAIN.fullmatch, sorted(entry_points(group=self.name).names))
        return list(dict.fromkeys([*self.built_in, *others]))

    def find(self, name: str, choices: Callable[[], str] | None = None) -> EntryPoint:
        """Where the class of this name is. Nothing of it is imported.

        choices: what there is to choose from, for a person; by default the names.
        Raises UsageError where there is none, and where several claim the name.
        """
        points = [self.built_in[name]] if name in self.built_in else []
        points += entry_points(group=self.name, name=name) if PLAIN.fullmatch(name) else ()
        if not points:
            near = nearest(name, self.names())
            hint = f"did you mean {near}? " if near else ""
            listed = choices() if choices else ", ".join(self.names())
            raise UsageError(f"no {self.noun} named {name!r}", f"{hint}there are {listed}")
        if len(points) > 1:
            where = ", ".join(point.value for point in points)
            kinds = self.name.removeprefix("gcr.")
            raise UsageError(
                f"{len(points)} {kinds} are called {name}", f"uninstall one of {where}"
            )
        return points[0]

    def load(self, name: str, choices: Callable[[], str] | None = None) -> Any:
        """The class of this name. Raises as `find`, and GcrError where it cannot be imported."""
        point = self.find(name, choices)
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            message = f"the {self.noun} {name} cannot be loaded: {error}"
            raise GcrError(message, f"install what has {point.value} again") from error


STRATEGIES = Group(
    "gcr.strategies",
    "strategy",
    {name: f"{kind.__module__}:{kind.__name__}" for name, kind in strategies.STRATEGIES.items()},
)


def strategy(name: str) -> type[BaseStrategy]:
    """The class of a strategy. Raises UsageError where there is none, GcrError for a broken one."""
    kind = STRATEGIES.load(name)
    if isinstance(kind, type) and issubclass(kind, BaseStrategy):
        return kind
    message = f"the strategy {name} is no subclass of gcr.core.strategies.BaseStrategy"
    raise GcrError(message, "tell whoever wrote it")
