import subprocess
import sys

import pytest

from gcr.errors import GcrError, UsageError
from gcr.files import locks

HOLD = """
import sys, time
from pathlib import Path
from gcr.files import locks
claim = locks.take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_is_claimed_once(tmp_path):
    claim = locks.take(tmp_path)
    assert claim is not None
    assert locks.take(tmp_path) is None
    with pytest.raises(UsageError, match="in use by another process"), locks.claimed(tmp_path):
        pass
    claim.release()
    with locks.claimed(tmp_path):
        assert locks.take(tmp_path) is None
    again = locks.take(tmp_path)
    assert again is not None
    again.release()


def test_a_claim_dies_with_its_process(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert locks.take(tmp_path) is None
        process.kill()
        process.wait()
    claim = locks.take(tmp_path)
    assert claim is not None
    claim.release()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(GcrError, match="cannot write"):
        locks.take(tmp_path / "nowhere")
