"""Threads that record, and threads that run models of their own meanwhile."""

import threading

import torch
from torch import nn

import featurelens as fl


def build():
    return nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 4), nn.Linear(4, 2))


def test_tracing_in_threads_leaves_torch_and_other_models_as_they_are():
    call, attribute = nn.Module.__call__, nn.Module.__getattr__
    errors, stop, start = [], threading.Event(), threading.Barrier(4)
    x = torch.ones(2, 4)

    def record():
        start.wait()
        try:
            for _ in range(8):  # a new model each time is a new trace
                model = build()
                acts = fl.ActivationRecorder(model, "0")(x)
                torch.testing.assert_close(acts["0"], model[0](x))
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    def run():
        model = build()
        expected = model(x)
        start.wait()
        try:
            while not stop.is_set():
                torch.testing.assert_close(model(x), expected)
                assert model[1].weight.shape == (4, 4)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    recording = [threading.Thread(target=record) for _ in range(2)]
    running = [threading.Thread(target=run) for _ in range(2)]
    for thread in recording + running:
        thread.start()
    for thread in recording:
        thread.join()
    stop.set()
    for thread in running:
        thread.join()
    assert errors == []
    assert nn.Module.__call__ is call
    assert nn.Module.__getattr__ is attribute
