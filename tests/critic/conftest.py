"""A cache for quantized copies, and no keys for servers."""

import pytest


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
