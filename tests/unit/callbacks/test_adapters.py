"""The observer in the training loops of the real packages; `nox -s adapters` installs them."""

import importlib
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from featurelens.callbacks import Observer, lightning_callback, trainer_callback

pytestmark = pytest.mark.filterwarnings(
    "ignore", "error:::featurelens"
)  # the packages have warnings of their own

IMAGES, LABELS = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(48) % 3


def same(one, other):
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def observer_of(model, layers, logged, **options):
    def log(values, step):
        logged.append((step, values))

    return Observer(model, layers, IMAGES, LABELS, log=log, every=2, **options)


@pytest.mark.changes_model
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_trains_the_same_and_its_steps_are_logged(package, tmp_path):
    pytest.importorskip(package, reason="lightning is not installed: pip install featurelens[lightning]")
    lightning = importlib.import_module(package)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(1, 4, 3),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Dropout(),
                nn.Flatten(),
                nn.Linear(144, 3),
            )

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    def fitted(logged=None):
        torch.manual_seed(0)
        module, callbacks = Module(), []
        if logged is not None:
            observer = observer_of(
                module.net, ["relu_1", "5"], logged, pictures="0:1", draw=lambda *_, **__: None
            )
            callbacks = [lightning_callback(observer)]
        trainer = lightning.Trainer(
            max_epochs=2,
            accumulate_grad_batches=3,  # an optimization step is not a batch
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            callbacks=callbacks,
        )
        trainer.fit(module, DataLoader(TensorDataset(IMAGES, LABELS), batch_size=16, shuffle=True))
        return module

    logged = []
    same(fitted(logged), fitted())
    assert [step for step, _ in logged] == [0, 0, 1, 1, 2, 2]
    assert {"similarity/2", "information_nats/5"} <= logged[-1][1].keys()
    assert [values["epochs_ended"] for _, values in logged if "epochs_ended" in values] == [1, 2]
    logged.clear()

    callback = lightning_callback(observer_of(nn.Conv2d(1, 2, 3), "", logged))
    kept = lightning_callback(Observer(nn.Conv2d(1, 2, 3), "", IMAGES, log=print))
    assert (
        type(pickle.loads(pickle.dumps(kept))).__name__ == "ObserverCallback"
    )  # as for processes that are spawned
    for hook in (callback.on_train_batch_end, callback.on_train_epoch_end):
        hook(SimpleNamespace(is_global_zero=False, global_step=7), None)
    assert not logged


@pytest.mark.changes_model
def test_the_trainer_of_transformers_trains_the_same_and_its_steps_are_logged(tmp_path):
    missing = "the Trainer is not installed: pip install featurelens[transformers]"
    transformers = pytest.importorskip("transformers", reason=missing)
    pytest.importorskip("accelerate", reason=missing)

    rows = [{"pixel_values": image, "labels": label} for image, label in zip(IMAGES, LABELS, strict=True)]

    def trained(logged=None):
        torch.manual_seed(0)
        model = transformers.ViTForImageClassification(
            transformers.ViTConfig(
                image_size=8,
                patch_size=4,
                num_channels=1,
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                num_labels=3,
                hidden_dropout_prob=0.2,
            )
        )
        callbacks = []
        if logged is not None:
            observer = observer_of(model, ["*.mlp.fc1", "classifier"], logged)
            callbacks = [trainer_callback(observer)]
        arguments = transformers.TrainingArguments(
            str(tmp_path),
            num_train_epochs=2,
            per_device_train_batch_size=16,
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        transformers.Trainer(model, arguments, train_dataset=rows, callbacks=callbacks).train()
        return model

    logged = []
    same(trained(logged), trained())
    assert [step for step, _ in logged] == [
        1,
        2,
        3,
        4,
        6,
        6,
    ]  # at batches 1, 2, 4 and 6, and at the ends of epochs
    assert {"similarity/classifier", "information_nats/classifier"} <= logged[-1][1].keys()
    assert [values["epochs_ended"] for _, values in logged if "epochs_ended" in values] == [1, 2]
    logged.clear()

    callback = trainer_callback(observer_of(nn.Conv2d(1, 2, 3), "", logged))
    kept = trainer_callback(Observer(nn.Conv2d(1, 2, 3), "", IMAGES, log=print))
    assert (
        type(pickle.loads(pickle.dumps(kept))).__name__ == "ObserverCallback"
    )  # as for processes that are spawned
    state = SimpleNamespace(is_world_process_zero=True, global_step=7, epoch=1.5)  # goes on from a checkpoint
    callback.on_train_begin(None, state, None)
    state.epoch = 0.2  # what a Trainer makes of data without a length
    for ended in (2, 3):
        callback.on_epoch_end(None, state, None)
        assert logged[-1] == (7, {**logged[-1][1], "epochs_ended": ended})
    logged.clear()
    for hook in (callback.on_step_end, callback.on_epoch_end):
        hook(None, SimpleNamespace(is_world_process_zero=False, global_step=7), None)
    assert not logged
