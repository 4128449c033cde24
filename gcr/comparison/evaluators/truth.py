"""truth: whether an image shows what was asked, read from its pixels; for the embedded world."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gcr.core.records import Evaluator, Sample, Task
from gcr.errors import GcrError, UsageError
from gcr.files import imagefile


class Truth(Evaluator):
    """1 for an image that shows all that was asked and nothing else, 0 for any other."""

    @classmethod
    def check(cls, argument: str, tasks: Sequence[Task]) -> None:  # noqa: ARG003 - it has none
        """Raise UsageError unless each prompt is in the language of the embedded world."""
        from gcr.pocket.language import not_understood

        troubles = [(task.prompt, why) for task in tasks if (why := not_understood(task.prompt))]
        if troubles:
            prompt, why = troubles[0]
            more = f" (and so with {len(troubles) - 1} more)" if len(troubles) > 1 else ""
            raise UsageError(
                f"truth cannot tell what {prompt!r} asks for: {why}{more}",
                "leave such prompts out, or name another --evaluator",
            )

    @classmethod
    def load(cls, argument: str) -> Truth:  # noqa: ARG003 - it has none
        return cls()

    def score(self, samples: Sequence[Sample]) -> Iterator[tuple[str, float]]:
        """Raises GcrError for an image that is no picture of the embedded world."""
        from gcr.pocket import truth
        from gcr.pocket.language import parse

        for sample in samples:
            spec = parse(sample.prompt)
            with imagefile.opened(sample.image) as image:
                try:
                    right = truth.shows(image, spec)
                except ValueError as error:
                    hint = "name another --evaluator"
                    raise GcrError(f"{sample.image}: {error}", hint) from error
            yield sample.id, float(right)
