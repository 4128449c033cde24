"""Looks at what gcr stands on: libraries, GPU, 4-bit kernels, caches, configuration, endpoint.

Nothing is changed and no model is loaded. What is wrong comes with what to do about it.
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

from gcr.critic import endpoint, loading
from gcr.device.memory import SharedDevice
from gcr.engine.machine import ThisMachine
from gcr.errors import GcrError, UsageError
from gcr.files import folders
from gcr.hub import fetching, offline
from gcr.hub.checkpoints import first_line, quiet_libraries
from gcr.hub.fetching import gigabytes
from gcr.settings import address, profiles
from gcr.settings import resolving as configuration
from gcr.settings.schema import OPTIONS
from gcr.settings.sources import from_file

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "note", "broken"]

SHOWN = ("torch", "transformers", "diffusers", "bitsandbytes", "accelerate")
SAFE = {
    "torch": ("2.10", "CVE-2026-24747"),
    "transformers": ("5.3", "CVE-2026-4372"),
    "diffusers": ("0.38", "CVE-2026-44513"),
}
"""The first versions without a known hole through which a checkpoint can run code."""

DRIVER = Path("/proc/driver/nvidia/version")
MOST_ERROR = 0.2
"""Of a product with 4-bit weights against the unquantized one, relative. NF4 is about 0.1 off."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. hint: what to do; empty where there is nothing to do.

    state: `note` for what is as it should be, though it limits what can be done.
    """

    name: str
    state: State
    said: str
    hint: str = ""


def examine(flags: Mapping[str, object] | None = None) -> Iterator[Finding]:
    """Look at everything. flags: settings given by hand, as for `gcr refine`."""
    yield from libraries()
    # Where a library is broken, what does not need it is looked at all the same.
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
            said = f"could not be looked at: {first_line(error)}"
            yield Finding(name, "broken", said, "install gcr and its libraries again")


def libraries() -> Iterator[Finding]:
    """Python and the libraries, against what gcr's own metadata and known holes ask for."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    try:
        asked = [Requirement(line) for line in requires("gcr") or ()]
        python = SpecifierSet(metadata("gcr")["Requires-Python"] or "")
    except PackageNotFoundError:
        yield Finding("gcr", "note", "not installed, so the versions it needs are not known")
        asked, python = [Requirement(name) for name in SHOWN], SpecifierSet()
    here = platform.python_version()
    if python.contains(here, prereleases=True):
        yield Finding("Python", "ok", here)
    else:
        yield Finding("Python", "broken", f"{here}, and gcr needs {python}", "take a newer Python")
    for requirement in asked:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        finding = _library(requirement)
        if requirement.name in SHOWN or finding.state != "ok":
            yield finding


def _library(asked: Requirement) -> Finding:
    from packaging.version import Version

    name = asked.name
    install = f"pip install -U '{name}{asked.specifier}'"
    try:
        here = version(name)
    except PackageNotFoundError:
        return Finding(name, "broken", "is not installed", install)
    floor, hole = SAFE.get(name, ("0", ""))
    if Version(here) < Version(floor):
        return Finding(name, "broken", f"{here} has a known hole ({hole})", install)
    if not asked.specifier.contains(here, prereleases=True):
        return Finding(name, "broken", f"{here}, and gcr needs {asked.specifier}", install)
    return Finding(name, "ok", here)


def _device() -> Iterator[Finding]:
    """GPU, the profiles that fit it, and 4-bit weights on it."""
    import torch

    free = 0.0
    if torch.cuda.is_available():
        free_bytes, total = torch.cuda.mem_get_info()
        free = free_bytes / 1024**3
        said = f"{torch.cuda.get_device_name()}, {free:.1f} of {total / 1024**3:.1f} GiB free"
        yield Finding("GPU", "ok", f"{said}, CUDA {torch.version.cuda}{_driver(', driver ')}")
    else:
        yield _no_gpu(f"torch {torch.__version__}", torch.version.cuda)
    yield _four_bit("cuda" if free else "cpu")
    found, broken = profiles.load_all()
    for profile in found:
        fits = profile.vram_gb <= free
        need = f"does not fit: it needs a GPU with {profile.vram_gb:g} GiB free"
        said = f"fits: {profile.description}" if fits else need
        yield Finding(f"profile {profile.name}", "ok" if fits else "note", said)
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
    """The version of NVIDIA's driver, where Linux tells it; empty elsewhere."""
    if not DRIVER.is_file():
        return ""
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", DRIVER.read_text(encoding="utf-8"))
    return f"{before}{found[0]}" if found else ""


def _four_bit(device: str) -> Finding:
    try:
        quiet_libraries()
        off = product_error(device)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        said = f"4-bit weights do not work on {device}: {first_line(error)}"
        return Finding("4-bit", "broken", said, "pip install -U bitsandbytes")
    said = f"a product on {device} is {off:.0%} off the unquantized one"
    if off > MOST_ERROR:
        return Finding("4-bit", "broken", said, "pip install -U bitsandbytes")
    return Finding("4-bit", "ok", f"{said}, as it should be")


def product_error(device: str) -> float:
    """How far a product with NF4 weights is off the same with unquantized ones, relative."""
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
    if loading.torchvision_imports():
        yield Finding("torchvision", "ok", version("torchvision"))
    else:
        said = "does not import; only a few models need it, such as Qwen-Image-Edit"
        yield Finding("torchvision", "note", said)


def _caches() -> Iterator[Finding]:
    for name, folder in (
        ("cache of the hub", fetching.cache()),
        ("cache of gcr", folders.cache()),
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
    if offline.forbidden():
        yield Finding("connections", "note", "none are made: GCR_OFFLINE or --offline")
    elif offline.hub_forbidden():
        yield Finding("connections", "note", "none to the hub: HF_HUB_OFFLINE is set")
    else:
        yield Finding("connections", "ok", "are made where a model is not in the cache")


def _configuration(flags: Mapping[str, object]) -> Iterator[Finding]:
    """Config files, what all settings come to, and the server if the critic is one."""
    for path in (Path("gcr.yaml"), configuration.user_config(os.environ)):
        if path.exists():
            try:
                keys = ", ".join(from_file(path, OPTIONS)) or "nothing"
                yield Finding("configuration", "ok", f"{path} sets {keys}")
            except GcrError as error:
                yield Finding("configuration", "broken", error.message, error.hint)
    try:
        settings = configuration.resolve(flags, ThisMachine())
        critic = settings.critic
        said = f"{settings.generator}, judged by {critic}"
        yield Finding("settings", "ok", said)
    except GcrError as error:
        yield Finding("settings", "broken", error.message, error.hint)
        return
    if address.is_address(critic):
        yield from _endpoint(critic, trusted=settings.trusted)


def _endpoint(critic: str, *, trusted: bool) -> Iterator[Finding]:
    """Whether a server does what a critic needs, and what is doubtful about it."""
    doubts: dict[str, str] = {}  # with what to do
    connect = partial(endpoint.connect, critic, trusted=trusted, warn=doubts.__setitem__)
    try:
        try:
            connect(likely=True)
        except UsageError:
            connect()
            said = "sees images; tells no probabilities: no soft scores and no checklists"
            finding = Finding("endpoint", "note", said)
        else:
            finding = Finding("endpoint", "ok", "sees images, and tells probabilities")
    except GcrError as error:
        finding = Finding("endpoint", "broken", error.message, error.hint)
    yield from (Finding("endpoint", "note", said, hint) for said, hint in doubts.items())
    yield finding
