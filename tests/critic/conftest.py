"""Tiny critics, a cache for quantized copies, and no keys for servers."""

import pytest
import tiny
import torch

from gcr.critic import loading
from gcr.device.memory import SharedDevice


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
def loaded(tmp_path_factory):
    """Tiny models and their processors by family, of two layers where openings are kept."""
    models = {}

    def load(family, quantize="none"):
        if (family, quantize) not in models:
            torch.manual_seed(0)
            more = {"layers": 2} if family == "qwen3_vl" else {}
            folder = getattr(tiny, family)(tmp_path_factory.mktemp(family) / "m", **more)
            models[family, quantize] = loading.load(str(folder), SharedDevice("cpu"), quantize)
        return models[family, quantize]

    return load
