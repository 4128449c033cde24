"""Tiny checkpoints with a cache for their quantized copies, and no keys for servers."""

import pytest
import tiny
import torch


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("GCR_API_KEY", "OPENAI_API_KEY", "GCR_OFFLINE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that would have been waited."""
    taken = []
    monkeypatch.setattr("gcr.critic.server.time.sleep", taken.append)
    return taken


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Copies of this test's own."""
    monkeypatch.setenv("GCR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "critics"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folders of tiny checkpoints, by family, each built once."""
    folders = {}

    def build(family, **settings):
        key = (family, *settings.items())
        if key not in folders:
            torch.manual_seed(0)
            folders[key] = getattr(tiny, family)(tmp_path_factory.mktemp(family) / "m", **settings)
        return str(folders[key])

    return build
