"""A process that is killed at any moment loses nothing that it had made safe."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="forks, and kills with SIGKILL")
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    script = Path(__file__).with_name("crashes.py")
    memory = Path("/dev/shm")  # where to sync costs nothing
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        done = subprocess.run(
            [sys.executable, script, folder, "1.5"], capture_output=True, text=True, check=False, timeout=300
        )
    assert done.returncode == 0, done.stdout + done.stderr
    everywhere, at_random, files = map(int, done.stdout.split())
    assert everywhere >= 15
    assert at_random >= 1
    assert files >= 15
