"""Gives commands the options of settings, as `gcr.settings.schema` declares them."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from gcr.cli import options
from gcr.hub import consent
from gcr.settings.schema import LISTS, OPTIONS, declared

SWITCHES: Mapping[str, Any] = {
    "trust_endpoint": options.TrustEndpoint,
    "offline": options.Offline,
    "yes": options.Yes,
}
"""What goes with settings, and is none: no file may say it."""


def settings_only(
    *names: str, switches: Collection[str] = tuple(SWITCHES)
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of these settings, and the switches that go with them.

    The command is called with their values as `flags`, in which None is for what was not given;
    --trust-endpoint is among them. --offline and --yes are heeded before it is called.
    """
    return lambda command: _with_options(command, names, switches)


def settings_but(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `settings_only`, for all settings but these."""
    return settings_only(*(name for name in OPTIONS if name not in names))


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """As `settings_only`, for all settings."""
    return settings_but()(command)


def _with_options(
    command: Callable[..., None], names: Collection[str], switches: Collection[str]
) -> Callable[..., None]:
    """The command with more options: Typer reads a signature, so that is what is made here."""
    parameters = dict(inspect.signature(command, eval_str=True).parameters)
    del parameters["flags"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    arguments = [each for each in parameters.values() if each.kind is not keyword]
    others = [each for each in parameters.values() if each.kind is keyword]
    settings = [
        inspect.Parameter(name, keyword, default=None, annotation=_annotation(name))
        for name in OPTIONS
        if name in names
    ]
    settings += [
        inspect.Parameter(name, keyword, default=False, annotation=annotation)
        for name, annotation in SWITCHES.items()
        if name in switches
    ]
    signature = inspect.Signature([*arguments, *settings, *others], return_annotation=None)

    @wraps(command)
    def call(*arguments: Any, **values: Any) -> None:
        flags = {name: values.pop(name, None) for name in (*names, *switches)}
        if "offline" in flags:
            consent.go_offline(forbid=flags.pop("offline"))
        if "yes" in flags:
            consent.set_up(agreed=flags.pop("yes"), quiet=values["quiet"])
        for name in (*LISTS, "trust_endpoint"):  # which Typer gives, though empty
            if name in flags:
                flags[name] = flags[name] or None
        command(*arguments, **values, flags=flags)

    call.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _annotation(name: str) -> Any:
    """A setting's option for Typer. None is for what is not given."""
    option = OPTIONS[name]
    kind, choices = declared(name), option.choices
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        kind = str  # of a wrong name, settings say more
    elif name in LISTS:
        kind = list[str]
    made = typer.Option(
        *option.flags,
        metavar=option.metavar,
        help=option.help,
        rich_help_panel=option.panel,
        autocompletion=_offered(choices) if choices else None,
    )
    return Annotated[kind | None, made]


def _offered(choices: Collection[str]) -> Callable[[str], list[str]]:
    """What a shell is to offer for a name that is begun."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete
