"""What is known of critics' spreads: measured once by `gcr calibrate`, kept for later runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gcr.errors import GcrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def key(critic: str, rubric: str, score: str) -> str:
    """What a spread belongs to. score: where the critic's scores come from."""
    return f"{critic} {rubric} {score}"


def known(environ: Mapping[str, str], of: str) -> float | None:
    """The spread that was measured for a key; None where none was."""
    return _read(store(environ)).get(of)


def keep(environ: Mapping[str, str], of: str, spread: float) -> Path:
    """Write a spread to the user's config folder; returns the file."""
    import yaml

    path = store(environ)
    entries = {**_read(path), of: round(spread, 6)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    except OSError as error:
        raise GcrError(f"cannot write {path}: {error.strerror}", "make it writable") from error
    return path


def store(environ: Mapping[str, str]) -> Path:
    """The file of measured spreads: $XDG_CONFIG_HOME/gcr/spreads.yaml, by default in ~/.config."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "gcr" / "spreads.yaml"


def _read(path: Path) -> dict[str, float]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return {str(of): float(spread) for of, spread in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"{path} holds no spreads: {said}", "remove it and run gcr calibrate again"
        ) from error
