"""pocket: the embedded pair, a small real generator and critic for a world of coloured shapes.

`world`, `language` and `truth` define the world; `train` made the weights. Importing this module
loads none of them.
"""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
GENERATOR = WEIGHTS / "generator"
CRITIC = WEIGHTS / "critic"


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the embedded pair was never taught, in order, each once."""
    from gcr.pocket import language

    return language.unknown_words(prompt)


def not_understood(prompt: str) -> str:
    """Where a prompt leaves the language of the embedded pair; empty for one that it can read."""
    from gcr.pocket import language

    try:
        language.parse(prompt)
    except language.OutsideLanguageError as error:
        return str(error)
    return ""


__all__ = ["CRITIC", "GENERATOR", "WEIGHTS", "not_understood", "unknown_words"]
