"""The real command on the embedded pair, killed, asked to end, and without room on its disk.

Each command is first run undisturbed. Then the same command is disturbed and gone on with by `gcr
resume`, until it comes to its end, which must have the same images, byte for byte. In between,
after every disturbance: each round that was finished is still there as it was, each image that a
round names is whole, and `gcr show` and `gcr report` read the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.refinement import requests
from benchmarks.reliability import ROOT, Tally
from benchmarks.reliability.prompts import tool

KILLS = {"refine": 60, "batch": 60, "compare": 50, "Ray worker": 30}
SIGNALS = 36
FULL_DISKS = 24
PROMPTS = 3
MOST_SECONDS = 600  # of one command; on an idle machine it takes five
COMMON = ("--images", "1", "--patience", "9", "--target", "1")
REQUEST = requests(1, "reliability", held_out=False)[0]
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "refine": ("refine", REQUEST, "-s", "7", "--rounds", "8", "--patience", "9", "--target", "1"),
    "batch": ("batch", "p.txt", "--into", "it", "--wave", "2", "--rounds", "3", *COMMON),
    "compare": (
        *("compare", "p.txt", "--into", "it", "--wave", "2", "--max-images", "3"),
        *("--evaluator", "truth"),
    ),
}
Files = dict[str, bytes]


@dataclass
class Command:
    """One of the commands, in a folder of its own.

    place: the folder. whole: the images of an undisturbed run. seconds: that it took.
    """

    name: str
    place: Path
    whole: Files = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def into(self) -> Path | None:
        """What it has made so far; None: nothing that it could go on with."""
        if self.name == "refine":
            return next((path.parent for path in self.place.glob("outputs/*/*/run.json")), None)
        file = "arms.json" if self.name == "compare" else "batch.json"
        return self.place / "it" if (self.place / "it" / file).exists() else None

    @property
    def has_rounds(self) -> bool:
        return any(path.stat().st_size for path in self.place.rglob("rounds.jsonl"))

    def arguments(self) -> tuple[str, ...]:
        """What begins it, or goes on with it."""
        if self.into is None:
            return COMMANDS[self.name]
        again = ("--evaluator", "truth") if self.name == "compare" else ()
        return ("resume", str(self.into.relative_to(self.place)), *again)

    def start(self, *arguments: str, **options: Callable[[], object]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "gcr", *(arguments or self.arguments())],
            cwd=self.place,
            env=environment(self.place),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )

    def clear(self) -> None:
        for name in ("outputs", "it"):
            shutil.rmtree(self.place / name, ignore_errors=True)

    def undisturbed(self) -> None:
        """Run it once, from beginning to end."""
        self.clear()
        begun = time.monotonic()
        ended(self.start())
        self.seconds = time.monotonic() - begun
        self.whole = self.images()
        self.clear()

    def images(self) -> Files:
        return {
            str(path.relative_to(self.into or self.place)): path.read_bytes()
            for path in sorted((self.into or self.place).rglob("*.png"))
        }

    def finished(self) -> tuple[Files, Files]:
        """The lines of rounds that are finished, by file, and the images that they name.

        Raises ValueError where an image is not what its round says.
        """
        lines, pictures = {}, {}
        for path in self.place.rglob("rounds.jsonl"):
            content = path.read_bytes()
            name = str(path.relative_to(self.place))
            lines[name] = content[: content.rfind(b"\n") + 1]
            for line in lines[name].splitlines():
                for attempt in json.loads(line)["attempts"]:
                    image = path.with_name(attempt["image"])
                    pictures[str(image)] = image.read_bytes()
                    if hashlib.sha256(pictures[str(image)]).hexdigest() != attempt["sha256"]:
                        raise ValueError(f"{image.name} is not what its round says")
        return lines, pictures

    def lost(self, before: tuple[Files, Files]) -> str:
        """What was finished before and is not there, or not what it was; empty: nothing."""
        try:
            lines, pictures = self.finished()
        except (OSError, ValueError, KeyError) as error:
            return f"damaged: {error}"
        rounds = [
            name for name, text in before[0].items() if not lines.get(name, b"").startswith(text)
        ]
        images = [name for name, content in before[1].items() if pictures.get(name) != content]
        return f"lost: {rounds + images}" if rounds or images else ""

    def unreadable(self) -> str:
        """Why the folder cannot be looked at; empty: it can."""
        if self.into is None:
            return ""
        folder = str(self.into.relative_to(self.place))
        looks = [("list", "-o", "outputs" if self.name == "refine" else "it"), ("report", folder)]
        looks += [("show", folder)] if self.name == "refine" else []
        before = Path.cwd()
        os.chdir(self.place)
        try:
            for arguments in looks:
                code, out, err = tool(*arguments)
                # A comparison that has not come to its figures has no page of them yet.
                if code and not (self.name == "compare" and "resume" in err):
                    return f"gcr {' '.join(arguments)} ended with {code}: {err[:300]} {out[:100]}"
        finally:
            os.chdir(before)
        return ""

    def differs(self) -> str:
        """How the images differ from those of the undisturbed run; empty: not at all."""
        images = self.images()
        if images == self.whole:
            left = [
                path.name for path in self.place.rglob(".*.tmp") if "index.html" not in path.name
            ]
            return f"temporary files stayed: {left}" if left else ""
        names = sorted(
            name for name in {*images, *self.whole} if images.get(name) != self.whole.get(name)
        )
        return f"images differ from those of an undisturbed run: {names}"


def environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(place / "config"),
        "GCR_CACHE": str(place / "cache"),
        "OMP_WAIT_POLICY": "PASSIVE",
        # How many threads add up decides how sums are rounded.
        "OMP_NUM_THREADS": "1",
        "RAY_worker_niceness": "0",
    }


def _ended(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """stdout, stderr and exit code of a process; one that hangs is killed, and said to hang."""
    try:
        out, err = process.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err = f"Traceback: none, it hung for {MOST_SECONDS} seconds\n{err}"
    return out, err, process.returncode


def ended(process: subprocess.Popen[str]) -> str:
    out, err, code = _ended(process)
    if code:
        raise RuntimeError(f"an undisturbed command ended with {code}: {err}")
    return out


def commands(place: Path) -> list[Command]:
    made = []
    for name in COMMANDS:
        folder = place / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = requests(PROMPTS, "reliability", held_out=False)
        (folder / "p.txt").write_text("\n".join(lines) + "\n")
        made.append(Command(name, folder))
    return made


def _wait(command: Command, process: subprocess.Popen[str], rng: random.Random) -> None:
    """Until a random moment: of its whole time, or soon after its folder changed."""
    if rng.random() < 0.5:
        moment = rng.uniform(0.1, command.seconds * 1.05)
        limit = time.monotonic() + moment
        while process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
        return
    before, changes = _state(command.place), rng.randrange(1, 5)
    while process.poll() is None and changes:
        time.sleep(0.002)
        now = _state(command.place)
        changes -= now != before
        before = now
    time.sleep(rng.uniform(0, 0.05))


def _state(folder: Path) -> list[tuple[str, int]]:
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                found.append((name, os.stat(f"{place}/{name}").st_size))  # noqa: PTH116 - quick
            except OSError:
                continue
    return sorted(found)


def _disturbed(  # noqa: PLR0913, PLR0917 - each for itself
    command: Command,
    count: int,
    disturb: Callable[[subprocess.Popen[str], random.Random], str],
    rng: random.Random,
    tally: Tally,
    until: float,
) -> None:
    """Disturb a command so often, going on with it in between, from the beginning again when it
    comes to its end.

    disturb: does it; returns what it was, for the tally.
    """
    command.undisturbed()
    while count > 0 and time.monotonic() < until:
        command.clear()
        alive = True
        while alive and count > 0 and time.monotonic() < until:
            before = command.finished()
            process = command.start()
            _wait(command, process, rng)
            alive = process.poll() is None
            what = disturb(process, rng) if alive else ""
            _, err, code = _ended(process)
            alive = alive and code != 0
            if not what:
                continue
            count -= 1
            failure = command.lost(before) or command.unreadable()
            failure = failure or _complaint(process, what, err)
            there = "rounds were saved" if command.has_rounds else "nothing was saved yet"
            outcome = f"{there}; gone on with" if code else "it had come to its end"
            tally.note(f"{command.name}, {what}", outcome, failure)
        _, err, code = _ended(command.start())
        failure = f"gcr resume ended with {code}: {err[:300]}" if code else command.differs()
        tally.note(f"{command.name}, gone on with to its end", "every image equal", failure)


def _complaint(process: subprocess.Popen[str], what: str, err: str) -> str:
    """What is wrong with how a process ended; empty: nothing."""
    if "Traceback" in err or "defect of gcr" in err:
        return f"{what}: {err[-400:]}"
    number = next(
        (n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if n.name in what), None
    )
    # Before Python runs any code of ours, a signal ends it by itself.
    if number and process.returncode not in (0, 128 + number, -number):
        return f"exit code {process.returncode} after {number.name}: {err[-300:]}"
    return ""


def kills(place: Path, seed: int, scale: float, tally: Tally) -> None:
    def kill(process: subprocess.Popen[str], _: random.Random) -> str:
        process.kill()
        return "killed"

    for number, command in enumerate(commands(place)):
        rng = random.Random(f"{seed} kill {command.name}")
        count = max(1, round(KILLS[command.name] * scale))
        _disturbed(command, count, kill, rng, tally, tally.share(len(KILLS) - number))
    if find_spec("ray") is None:
        tally.absent.append("workers on Ray: it is not installed here")
        return
    ray_workers(place / "ray", seed, max(1, round(KILLS["Ray worker"] * scale)), tally)


def ray_workers(place: Path, seed: int, count: int, tally: Tally) -> None:
    """Workers of `gcr batch --ray local`, killed while the batch goes on with others."""
    import psutil

    place.mkdir()
    rng = random.Random(f"{seed} kill Ray")
    (place / "p.txt").write_text("\n".join(requests(8, "reliability ray", held_out=False)) + "\n")
    command = Command("batch", place)
    options = ("--rounds", "3", *COMMON)
    ended(command.start("batch", "p.txt", "--into", "it", *options))
    command.whole = command.images()
    while count > 0 and time.monotonic() < tally.until:
        command.clear()
        process = command.start(
            "batch", "p.txt", "--into", "it", *options, "--ray", "local", "--workers", "2"
        )
        before: tuple[Files, Files] = ({}, {})
        killed = 0
        while process.poll() is None and killed < min(count, 4):
            time.sleep(rng.uniform(0.05, 1.0))
            workers = []
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    if "".join(child.cmdline()[:1]).startswith("ray::Worker"):
                        workers.append(child)
                except psutil.Error:
                    continue
            if not workers or not (place / "it" / "runs").exists():
                continue
            before = command.finished()
            rng.choice(workers).kill()
            killed += 1
            time.sleep(rng.uniform(1, 5))
            tally.note("Ray worker, killed", "the batch went on", command.lost(before))
        _, err, code = _ended(process)
        count -= max(1, killed)
        if code:  # too many deaths end a batch, which can be gone on with
            wrong = "" if code in (1, 3) else f"the batch ended with {code}: {err[-500:]}"
            tally.note("Ray batch, given up after several deaths", "gone on with", wrong)
            _ended(command.start("resume", "it", "--ray", "local", "--workers", "2"))
        tally.note("Ray batch, come to its end", "every image equal", command.differs())


def signals(place: Path, seed: int, scale: float, tally: Tally) -> None:
    """SIGINT, SIGTERM and SIGHUP, once and twice."""

    def send(process: subprocess.Popen[str], rng: random.Random) -> str:
        number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        process.send_signal(number)
        if rng.random() < 0.5:
            return number.name
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(number)
        return f"{number.name} twice"

    for number, command in enumerate(commands(place)):
        rng = random.Random(f"{seed} signal {command.name}")
        count = max(2, round(SIGNALS * scale / len(COMMANDS)))
        _disturbed(command, count, send, rng, tally, tally.share(len(COMMANDS) - number))


def disk_full(place: Path, seed: int, scale: float, tally: Tally) -> None:
    """A limit on the size of files, a file system of a few kilobytes, and a stdout that is full."""
    count = max(1, round(FULL_DISKS * scale / len(COMMANDS) / 2))
    for number, command in enumerate(commands(place)):
        rng = random.Random(f"{seed} disk {command.name}")
        until = tally.share(len(COMMANDS) - number)
        command.undisturbed()
        for _ in range(count):
            if time.monotonic() > until:
                break
            most = rng.choice([0, 100, 1000, rng.randrange(200, 40_000)])
            _without_room(command, f"no file over {most} bytes", partial(_limit, most), tally)
        _small_file_system(command, rng, count, tally, until)
        command.clear()
        if not Path("/dev/full").exists():
            tally.absent.append("a full stdout: this system has no /dev/full")
            continue
        with Path("/dev/full").open("w") as full:
            process = subprocess.run(
                [sys.executable, "-m", "gcr", *command.arguments()],
                cwd=command.place,
                env=environment(command.place),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        said = process.returncode == 1 and "stdout did not take the result" in process.stderr
        failure = "" if said else f"exit code {process.returncode}: {process.stderr[-300:]}"
        failure = failure or command.differs()
        tally.note(f"{command.name}, stdout full", "said in a line; every image saved", failure)


def _limit(most: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _without_room(command: Command, what: str, limit: Callable[[], object], tally: Tally) -> None:
    command.clear()
    _, err, code = _ended(command.start(preexec_fn=limit))
    kind = f"{command.name}, no file over a limit"
    tally.note(kind, *_judged(command, code, err, what))


def _judged(command: Command, code: int, err: str, what: str) -> tuple[str, str]:
    """What came of a command without room, and of going on when there is room again."""
    lines = [line for line in err.splitlines() if line.startswith(("error: ", "hint: "))]
    if "Traceback" in err or "defect of gcr" in err or code < 0:
        return "", f"{what}: exit code {code}: {err[-500:]}"
    if code and len(lines) < 2:
        return "", f"{what}: exit code {code} without error and hint: {err[-500:]}"
    failure = command.lost(({}, {})) or command.unreadable()
    if failure:
        return "", f"{what}: {failure}"
    _, again, code_again = _ended(command.start())
    if code_again:
        return "", f"{what}: with room again, it ended with {code_again}: {again[-300:]}"
    failure = command.differs()
    outcome = (
        "one clear error; gone on with, every image equal" if code else "there was room enough"
    )
    return outcome, f"{what}: {failure}" if failure else ""


def _small_file_system(
    command: Command, rng: random.Random, count: int, tally: Tally, until: float
) -> None:
    """Runs on a file system of its own, in memory, that is nearly full."""
    size = 16 << 20
    folder = command.place
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "gcr-reliability", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        tally.absent.append(
            f"a full file system for {command.name}: mounting one is not allowed here"
        )
        return
    try:
        lines = requests(PROMPTS, "reliability", held_out=False)
        (folder / "p.txt").write_text("\n".join(lines) + "\n")
        for _ in range(count):
            if time.monotonic() > until:
                break
            command.clear()
            free = rng.choice([0, 4096, rng.randrange(8192, 200_000)])
            ballast = folder / "ballast"
            room = os.statvfs(folder)
            ballast.write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - free)))
            _, err, code = _ended(command.start())
            ballast.unlink()
            what = f"{free} bytes free"
            tally.note(f"{command.name}, file system full", *_judged(command, code, err, what))
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=False, capture_output=True)
