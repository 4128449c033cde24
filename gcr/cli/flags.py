"""The options that are settings, given to a command by a decorator instead of one by one."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from gcr.cli import options
from gcr.hub import consent, offline

OPTIONS: Mapping[str, Any] = {
    "profile": options.Profile,
    "generator": options.Generator,
    "critic": options.Critic,
    "rubric": options.Rubric,
    "score": options.Score,
    "judges": options.Judges,
    "residency": options.Residency,
    "overlap": options.Overlap,
    "compile": options.Compile,
    "step_cache": options.StepCache,
    "seed": options.Seed,
    "width": options.Width,
    "height": options.Height,
    "steps": options.Steps,
    "guidance": options.Guidance,
    "negative": options.Negative,
    "keep": options.Keep,
    "strategy": options.Strategy,
    "strength": options.Strength,
    "rounds": options.Rounds,
    "images": options.Images,
    "target": options.Target,
    "patience": options.Patience,
    "min_gain": options.MinGain,
    "max_images": options.MaxImages,
    "max_seconds": options.MaxSeconds,
    "history": options.History,
    "compare": options.Compare,
    "output": options.Output,
}

SWITCHES: Mapping[str, Any] = {
    "trust_endpoint": options.TrustEndpoint,
    "offline": options.Offline,
    "yes": options.Yes,
}
"""What goes with settings, and is none: no file may say it."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for each setting, whose values it is called with as `flags`.

    A setting that was not given is None. --trust-endpoint comes with them as a flag, and --offline
    and --yes besides, though none of them is a setting. Typer reads the signature, so that is what
    is made here.
    """
    return settings_but()(command)


def settings_but(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `with_settings`, without the options of some settings."""
    offered = {name: option for name, option in OPTIONS.items() if name not in left_out}
    return lambda command: _taking(command, offered)


def _taking(command: Callable[..., None], offered: Mapping[str, Any]) -> Callable[..., None]:
    own = dict(inspect.signature(command, eval_str=True).parameters)
    del own["flags"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    settings = [
        inspect.Parameter(name, keyword, default=None, annotation=option)
        for name, option in offered.items()
    ]
    first = [one for one in own.values() if one.kind is not keyword]
    rest = [one for one in own.values() if one.kind is keyword]
    settings += [
        inspect.Parameter(name, keyword, default=False, annotation=option)
        for name, option in SWITCHES.items()
    ]
    signature = inspect.Signature([*first, *settings, *rest], return_annotation=None)

    @wraps(command)
    def taking(*arguments: Any, **given: Any) -> None:
        offline.set_up(forbid=given.pop("offline", False))
        consent.set_up(agreed=given.pop("yes", False), quiet=given["quiet"])
        flags = {name: given.pop(name, None) for name in (*offered, "trust_endpoint")}
        unsaid = {name: flags[name] or None for name in ("keep", "trust_endpoint")}
        command(*arguments, **given, flags={**flags, **unsaid})

    taking.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    taking.__signature__ = signature  # type: ignore[attr-defined]
    return taking
