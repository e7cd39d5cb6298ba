"""Ranks of a real process group record what one process records."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="needs gloo"
)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_rank_returns_what_one_process_records(tmp_path, world):
    script = Path(__file__).with_name("ranks.py")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    done = subprocess.run(
        [*torchrun, script, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)]
    for rank, told in enumerate(ranks):
        assert told["in order"], rank
        assert told["shuffled"], rank
        assert told["resumed"], rank
        assert "FileExistsError" in told["again"] or "WorkerFailed" in told["again"]
    if world > 1:
        assert all("the workers' loaders have 6, 7" in told["lengths"] for told in ranks)
        assert ranks[0]["failure"] == "WorkerFailed: worker 1 failed: OSError: no such image"
        assert ranks[1]["failure"] == "OSError: no such image"
        assert "worker 1 failed (OSError: no such image) and waits to tell the others" in done.stderr
