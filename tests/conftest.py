"""The tool in this process, on fakes, for every test of its commands."""

import logging
import os
import signal
import sys

import chromium
import pytest
import serving
from fakes import SCORES, FakeCritic, FakeGenerator

from gcr.__main__ import main
from gcr.engine import models

# Threads of torch that wait give up their core; by default they spin, and on a busy machine tests
# of seconds take minutes. Read when torch is imported, also by the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what runs in the background; tests of Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:  # as nohup starts it; gcr would heed that
        signal.signal(number, signal.SIG_DFL)


class Ran:
    """One call of the tool: exit code, stdout, stderr."""

    def __init__(self, code, captured):
        self.code = code
        self.out = captured.out
        self.err = captured.err

    def assert_refused(self, code, message):
        """The last two lines on stderr are an error and a hint."""
        assert self.code == code
        error, hint = self.err.splitlines()[-2:]
        assert error.startswith("error: ")
        assert message in error
        assert hint.startswith("hint:  ")


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Have a `fakes.Pair` be what is loaded, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def installed(pair):
        monkeypatch.setattr(models, "load_models", pair.load)
        return pair

    return installed


@pytest.fixture
def cli(monkeypatch, tmp_path, capsys):
    """Run the tool in this process, on fakes, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    pair = {"generator": FakeGenerator(), "critic": FakeCritic(SCORES)}
    monkeypatch.setattr(models, "load_models", lambda *_, **__: (pair["generator"], pair["critic"]))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gcr", *arguments])
        code = main()
        logging.captureWarnings(capture=False)
        return Ran(code, capsys.readouterr())

    call.models = pair
    return call


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary = chromium.needed()
    assert binary is not None, f"{chromium.REQUIRED} is set, but {chromium.MISSING}"
    browser = chromium.Browser(binary, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def stage():
    """A server on loopback that answers as a test has it."""
    staged = serving.Staged()
    yield staged
    staged.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folders of tiny checkpoints, by family, each built once."""
    import tiny
    import torch

    folders = {}

    def build(family, **settings):
        key = (family, *settings.items())
        if key not in folders:
            torch.manual_seed(0)
            folders[key] = getattr(tiny, family)(tmp_path_factory.mktemp(family) / "m", **settings)
        return str(folders[key])

    return build


@pytest.fixture(scope="module", params=[True, False], ids=["repacked", "as_saved"])
def repacks(request):
    """Whether a CPU's first run lays 4-bit weights out anew, as those with AVX512-BF16 do."""
    from bitsandbytes.functional import has_avx512bf16

    if request.param and not has_avx512bf16():
        pytest.skip("this CPU has no kernel for repacked weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: request.param)
        yield request.param


@pytest.fixture
def one_core(monkeypatch):
    """Two models that each want all cores take turns at them, which takes minutes where few are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for processes that are started
    yield
    torch.set_num_threads(before)
