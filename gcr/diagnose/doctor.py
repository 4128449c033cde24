"""Checks what gcr needs: libraries, GPU, 4-bit kernels, caches, configuration, endpoint.

Nothing is changed and no model is loaded. Each problem comes with what to do about it.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gcr.critic import probe, rubric
from gcr.critic.critic import load
from gcr.device import memory
from gcr.device.memory import SharedDevice
from gcr.engine.machine import ThisMachine
from gcr.errors import GcrError, UsageError
from gcr.files import paths
from gcr.hub import consent, fetching, processors
from gcr.hub.checkpoints import first_line, quiet_libraries
from gcr.hub.fetching import gigabytes
from gcr.settings import address, profiles
from gcr.settings import resolving as configuration
from gcr.settings.resolving import from_file
from gcr.settings.schema import OPTIONS

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from gcr.settings.schema import Settings

State = Literal["ok", "note", "broken"]

SHOWN = ("torch", "transformers", "diffusers", "bitsandbytes", "accelerate")
SAFE = {
    "torch": ("2.10", "CVE-2026-24747"),
    "transformers": ("5.3", "CVE-2026-4372"),
    "diffusers": ("0.38", "CVE-2026-44513"),
}
"""The first versions in which no checkpoint is known to be able to run code."""

DRIVER = Path("/proc/driver/nvidia/version")
MOST_ERROR = 0.2
"""Relative error of a product with 4-bit weights, at most; that of NF4 is about 0.1."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one thing.

    Attributes:
        name: of the thing.
        state: `note` is for something in order that limits what can be done.
        said: the state, in words.
        hint: what to do; empty where there is nothing to do.
    """

    name: str
    state: State
    said: str
    hint: str = ""


def examine(flags: Mapping[str, object] | None = None) -> Iterator[Finding]:
    """Check everything. flags: settings as `gcr refine` takes them."""
    yield from libraries()
    # A broken library must not keep the rest from being checked.
    for name, look in (
        ("GPU", _device),
        ("torchvision", _torchvision),
        ("caches", _caches),
        ("connections", _connections),
        ("configuration", lambda: _configuration(flags or {})),
    ):
        try:
            yield from look()
        except (ImportError, RuntimeError, OSError) as error:
            text = f"could not be looked at: {first_line(error)}"
            yield Finding(name, "broken", text, "install gcr and its libraries again")


def libraries() -> Iterator[Finding]:
    """Python and the libraries, compared with gcr's requirements and known holes."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        requirements = [Requirement(line) for line in requires("gcr") or ()]
        python = SpecifierSet(metadata("gcr")["Requires-Python"] or "")
    except PackageNotFoundError:
        yield Finding("gcr", "note", "not installed, so the versions it needs are not known")
        requirements, python = [Requirement(name) for name in SHOWN], SpecifierSet()
    running = platform.python_version()
    if python.contains(running, prereleases=True):
        yield Finding("Python", "ok", running)
    else:
        yield Finding(
            "Python", "broken", f"{running}, and gcr needs {python}", "take a newer Python"
        )
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        finding = _library(requirement)
        if requirement.name in SHOWN or finding.state != "ok":
            yield finding


def _library(requirement: Requirement) -> Finding:
    from packaging.version import Version

    name = requirement.name
    install = f"pip install -U '{name}{requirement.specifier}'"
    try:
        installed = version(name)
    except PackageNotFoundError:
        return Finding(name, "broken", "is not installed", install)
    floor, hole = SAFE.get(name, ("0", ""))
    if Version(installed) < Version(floor):
        return Finding(name, "broken", f"{installed} has a known hole ({hole})", install)
    if not requirement.specifier.contains(installed, prereleases=True):
        return Finding(
            name, "broken", f"{installed}, and gcr needs {requirement.specifier}", install
        )
    return Finding(name, "ok", installed)


def _device() -> Iterator[Finding]:
    """GPU, the profiles that fit it, and 4-bit weights on it."""
    import torch

    free, total = memory.gpu_gib()
    if total:
        text = f"{memory.device_name()}, {free:.1f} of {total:.1f} GiB free"
        yield Finding("GPU", "ok", f"{text}, CUDA {torch.version.cuda}{_driver(', driver ')}")
    else:
        yield _no_gpu(f"torch {torch.__version__}", torch.version.cuda)
    yield _four_bit("cuda" if total else "cpu")
    valid, broken = profiles.load_all()
    for profile in valid:
        fits = profile.vram_gb <= free
        need = f"does not fit: it needs a GPU with {profile.vram_gb:g} GiB free"
        text = f"fits: {profile.description}" if fits else need
        yield Finding(f"profile {profile.name}", "ok" if fits else "note", text)
    for error in broken:
        yield Finding("profiles", "broken", error.message, error.hint)


def _no_gpu(torch: str, cuda: str | None) -> Finding:
    driver = _driver("driver ")
    if not driver or os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        return Finding("GPU", "note", "none, so the embedded pair, or a critic behind an endpoint")
    if cuda is None:
        hint = "install the torch that is built for CUDA"
        return Finding("GPU", "broken", f"{driver} is here, but {torch} is for a CPU only", hint)
    hint = f"update the driver, or install a torch for an older CUDA than {cuda}"
    return Finding("GPU", "broken", f"{driver} is here, but {torch} finds no GPU", hint)


def _driver(before: str) -> str:
    """The version of NVIDIA's driver after some words; empty where Linux does not list one."""
    if not DRIVER.is_file():
        return ""
    match = re.search(r"\b\d+\.\d+(\.\d+)?\b", DRIVER.read_text(encoding="utf-8"))
    return f"{before}{match[0]}" if match else ""


def _four_bit(device: str) -> Finding:
    try:
        quiet_libraries()
        error_share = product_error(device)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        text = f"4-bit weights do not work on {device}: {first_line(error)}"
        return Finding("4-bit", "broken", text, "pip install -U bitsandbytes")
    text = f"a product on {device} is {error_share:.0%} off the unquantized one"
    if error_share > MOST_ERROR:
        return Finding("4-bit", "broken", text, "pip install -U bitsandbytes")
    return Finding("4-bit", "ok", f"{text}, as it should be")


def product_error(device: str) -> float:
    """The relative error of a product with NF4 weights, compared with unquantized ones."""
    import bitsandbytes
    import torch

    dice = torch.Generator().manual_seed(0)
    dtype = SharedDevice(device).dtype()
    weights = torch.randn(256, 256, generator=dice).to(device, dtype)
    inputs = torch.randn(8, 256, generator=dice).to(device, dtype)
    packed, state = bitsandbytes.functional.quantize_4bit(weights, quant_type="nf4")
    product = bitsandbytes.matmul_4bit(inputs, packed.t(), quant_state=state).float()
    exact = (inputs @ weights.t()).float()
    return float((product - exact).norm() / exact.norm())


def _torchvision() -> Iterator[Finding]:
    if processors.torchvision_imports():
        yield Finding("torchvision", "ok", version("torchvision"))
    else:
        text = "does not import; only a few models need it, such as Qwen-Image-Edit"
        yield Finding("torchvision", "note", text)


def _caches() -> Iterator[Finding]:
    for name, folder in (
        ("cache of the hub", fetching.cache()),
        ("cache of gcr", paths.cache_folder()),
    ):
        free = gigabytes(fetching.free_bytes(folder))
        yield Finding(name, "ok", f"{folder}, {gigabytes(_size(folder))}; {free} free on its disk")


def _size(folder: Path) -> int:
    return sum(
        path.lstat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )


def _connections() -> Iterator[Finding]:
    if consent.is_offline():
        yield Finding("connections", "note", "none are made: GCR_OFFLINE or --offline")
    elif consent.is_hub_offline():
        yield Finding("connections", "note", "none to the hub: HF_HUB_OFFLINE is set")
    else:
        yield Finding("connections", "ok", "are made where a model is not in the cache")


def _configuration(flags: Mapping[str, object]) -> Iterator[Finding]:
    """Config files, the resolved models, and the server if the critic is on one."""
    for path in configuration.config_files():
        if path.exists():
            try:
                keys = ", ".join(from_file(path, OPTIONS)) or "nothing"
                yield Finding("configuration", "ok", f"{path} sets {keys}")
            except GcrError as error:
                yield Finding("configuration", "broken", error.message, error.hint)
    try:
        settings = configuration.resolve(flags, ThisMachine()).settings
        critic = settings.critic
        text = f"{settings.generator}, judged by {critic}"
        yield Finding("settings", "ok", text)
    except GcrError as error:
        yield Finding("settings", "broken", error.message, error.hint)
        return
    if address.is_address(critic):
        yield from _endpoint(settings)


def _endpoint(settings: Settings) -> Iterator[Finding]:
    """Whether a server does what a run with these settings asks of it, and warnings about it."""
    warnings: dict[str, str] = {}  # with their hints
    use = probe.Use(
        size=(settings.width, settings.height),
        trusted=settings.trusted,
        warn=warnings.__setitem__,
    )
    try:
        questions = rubric.load(settings.rubric)
        connect = partial(load, settings.critic, questions, SharedDevice("cpu"), use=use)
        try:
            connect(score="soft")
        except UsageError:
            connect()
            text = "sees images; tells no probabilities: no soft scores and no checklists"
            finding = Finding("endpoint", "note", text)
        else:
            finding = Finding("endpoint", "ok", "sees images, and tells probabilities")
    except GcrError as error:
        finding = Finding("endpoint", "broken", error.message, error.hint)
    yield from (Finding("endpoint", "note", text, hint) for text, hint in warnings.items())
    yield finding
