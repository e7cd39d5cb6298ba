"""Run by test_torchrun.py under torchrun: every rank records its share, and one of them fails once."""

import json
import sys
import types
from pathlib import Path

import torch
from torch import distributed

if __name__ == "__main__":
    sys.modules["tests"] = types.ModuleType("tests")  # whatever other package is called so
    sys.modules["tests"].__path__ = [str(Path(__file__).parents[2])]

from featurelens.storage import layer_files
from tests.stores import loader, recorder, same


def shuffled():
    """Shuffles without a seed: the ranks would not agree on their own."""
    torch.manual_seed(distributed.get_rank())
    return loader(shuffle=True)


class FailsOnRank1:
    def __init__(self):
        self.batches = list(loader())

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            if number == 4 and distributed.get_rank() == 1:
                raise OSError("no such image")
            yield batch


def error_of(data, path, **options):
    try:
        recorder().record(data, to=path, progress=False, **options)
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return None


def main(folder):
    layer_files.SHARD_BYTES = 100
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    told = {}
    store = recorder().record(loader(), to=folder / "in order", progress=False)
    told["in order"] = same(store, recorder().record(loader(), progress=False))
    store = recorder().record(shuffled(), to=folder / "shuffled", progress=False)
    torch.manual_seed(0)
    told["shuffled"] = same(store, recorder().record(loader(shuffle=True), progress=False))
    told["again"] = error_of(loader(), folder / "in order")
    told["lengths"] = error_of(loader(23 + 4 * rank), folder / "lengths")
    told["failure"] = error_of(FailsOnRank1(), folder / "failing")
    store = recorder().record(list(loader()), to=folder / "failing", resume=True, progress=False)
    told["resumed"] = same(store, recorder().record(loader(), progress=False))
    (folder / f"{rank}.json").write_text(json.dumps(told))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
