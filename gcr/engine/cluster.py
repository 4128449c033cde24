"""Ray: a cluster that is started or joined, and the actors on it that are a batch's workers.

Everything that knows Ray is here. All machines must see the batch's folder under one path and have
the same gcr installed.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from gcr.engine import signals
from gcr.engine.crew import Worker, WorkerDiedError, environment
from gcr.errors import UsageError
from gcr.files import paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    from gcr.engine.crew import Done, Hand, Loaded
    from gcr.engine.plan import Plan

logger = logging.getLogger(__name__)

LOCAL = "local"
STEPS = 10_000  # Ray counts resources in so many parts of one, and rounds up and down
STORE_BYTES = 100 * 1024**2
"""Of shared memory for a local cluster: only prompts and results pass through it."""


class RayCrew:
    """Workers as actors of Ray.

    needs: what each takes of the cluster, by the names of Ray's options. order: what `Worker.load`
        is called with.
    """

    def __init__(
        self, ray: ModuleType, size: int, needs: Mapping[str, float], order: Sequence[object]
    ) -> None:
        self.size = size
        self._ray = ray
        # A second thread hears `stop` while the first works.
        self._actor = ray.remote(concurrency_groups={"ear": 1}, **needs)(Worker)
        self._order = [ray.put(one) for one in order]
        self._actors: dict[int, Any] = {}
        self._calls: dict[int, Any] = {}

    def hire(self, number: int) -> None:
        self._actors[number] = self._actor.remote()
        self._calls[number] = self._actors[number].load.remote(*self._order)

    def hand(self, number: int, path: Path, hand: Hand) -> None:
        self._calls[number] = self._actors[number].work.remote(path.absolute(), hand)

    def stop(self) -> None:
        for actor in self._actors.values():
            actor.stop.options(concurrency_group="ear").remote()

    def ended(self, seconds: float) -> list[int]:
        done, _ = self._ray.wait(list(self._calls.values()), timeout=seconds)
        return [number for number, call in self._calls.items() if call in done]

    def outcome(self, number: int) -> Loaded | Done:
        from ray.exceptions import RayError, RayTaskError

        try:
            return cast("Loaded | Done", self._ray.get(self._calls.pop(number)))
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            logger.info("worker %s died", number + 1, exc_info=error)
            raise WorkerDiedError(_reason(error)) from error

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)


@contextmanager
def crew(plan: Plan, near: Path, address: str, workers: int | None, jobs: int) -> Iterator[RayCrew]:
    """Workers for a plan, for as long as they are needed.

    near: a folder that all machines must see. address: `local` starts a cluster on this machine,
    `auto` joins the one that runs on it, HOST:PORT one that runs elsewhere. workers: how many;
    None: one for each GPU, or for every two CPUs where there is none. jobs: prompts to be done.

    Raises UsageError without Ray, and where there is no such cluster.
    """
    ray = _ray()
    with _aside(), _connected(ray, address):
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        size, needs = portions(machines, workers, jobs)
        # Passed as an argument: Ray shows what is set by its own means to everyone on the cluster.
        share = needs.get("num_gpus", 1.0)
        made = RayCrew(ray, size, needs, (_elsewhere(plan), near, environment(), share))
        try:
            yield made
        finally:
            made.close()


def portions(
    machines: Sequence[Mapping[str, float]], wanted: int | None, jobs: int
) -> tuple[int, dict[str, float]]:
    """How many workers there are, and what each takes, so that all of them find room.

    machines: what each has, as Ray counts it. wanted: how many; None: as many as suit it. jobs:
        prompts to be done; more workers than that would have nothing to do.
    More workers than GPUs share them.
    """
    gpus = [floor(machine.get("GPU", 0)) for machine in machines]
    cpus = [floor(machine.get("CPU", 0)) for machine in machines]
    if any(gpus):
        size = min(wanted or sum(gpus), jobs)
        shared_by = ceil(size / sum(gpus))
        return size, {"num_gpus": floor(STEPS / shared_by) / STEPS}
    size = min(wanted or max(1, sum(cpu // 2 for cpu in cpus)), jobs)
    every = range(max(cpus, default=0), 0, -1)
    fitting = (each for each in every if sum(cpu // each for cpu in cpus) >= size)
    return size, {"num_cpus": next(fitting, 0)}


def _ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("there is no Ray on this machine", "pip install 'gcr[ray]'") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return cast("ModuleType", ray)


@contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """Join a cluster; one that this process has joined already is left as it is."""
    if ray.is_initialized():
        yield
        return
    own: dict[str, object] = {}
    if address == LOCAL:
        own = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        _knock(address)
        with signals.kept():  # Ray would end the process at SIGTERM
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        hint = (
            "--ray local starts one for this batch; --ray auto joins one that `ray start` started"
        )
        if "ray[client]" in str(error):  # of an address that begins with ray://
            hint = "give HOST:PORT, on a machine of the cluster; or pip install 'ray[client]'"
        raise UsageError(f"no Ray cluster at {address}: {_line(str(error))}", hint) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Find out at once what Ray itself would try for minutes, or say in many lines.

    Raises OSError or ValueError where nothing listens at HOST:PORT, and UsageError where the
    cluster wants another token, which `ray health-check` tells.
    """
    if address == LOCAL or "://" in address:
        return
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
    where = [] if address == "auto" else ["--address", address]
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where]
    try:
        checked = subprocess.run(  # noqa: S603 - the address is an argument that no shell reads
            check, capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return  # Ray itself says more of it
    if "AuthenticationError" in checked.stderr:
        raise UsageError(
            f"the Ray cluster at {address} refuses this machine: its token is missing or wrong",
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) as it has them",
        )


def _elsewhere(plan: Plan) -> Plan:
    """The plan as workers understand it, whose working folder is another."""
    from dataclasses import replace

    settings = plan.settings
    models = {"generator": settings.generator, "critic": settings.critic}
    update: dict[str, Any] = {
        role: str(path.absolute())
        for role, model in models.items()
        if paths.exists(path := paths.expanded(model))
    }
    return replace(plan, settings=replace(settings, **update))


def _reason(error: Exception) -> str:
    """What Ray says of a death, without what it always says."""
    said = " ".join(str(error).split())
    detail = said.rpartition("Worker exit detail: ")[2]
    return _line(detail.partition(" Some common causes")[0])


def _line(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 200 else f"{line[:199]}…"


class _Aside:
    """A stream that takes what Ray's own threads print to the log, and lets all else through.

    Ray prints on stdout when a worker dies, and has no option for it; stdout is for the result.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if not threading.current_thread().name.startswith("ray_"):
            return self._stream.write(text)
        if text.strip():
            logger.info("%s", text.strip())
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def _aside() -> Iterator[None]:
    with redirect_stdout(cast("TextIO", _Aside(sys.stdout))):
        yield
