"""Write results to TensorBoard, next to the training curves.

::

    with TensorBoardWriter("runs/cifar10") as board:
        board.graph(model, images[:1])
        for epoch in range(1, epochs + 1):
            ...  # train
            board.training(epoch, {"loss": {"train": 0.41, "test": 0.52}})
            board.add(epoch, {"conv1": result})
        board.embedding(features, labels=names, sprites=images)

View it with ``tensorboard --logdir runs --samples_per_plugin images=100``; without the last option TensorBoard shows
only ten epochs of each picture. Requires an extra: ``pip install "featurelens[tensorboard]"``.
"""

from featurelens.tensorboard.writer import TensorBoardWriter

__all__ = ["TensorBoardWriter"]
