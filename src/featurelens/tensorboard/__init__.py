"""What featurelens finds, in TensorBoard beside the training that it belongs to.

::

    with TensorBoardWriter("runs/cifar10") as board:
        board.graph(model, images[:1])
        for epoch in range(1, epochs + 1):
            ...  # train
            board.training(epoch, {"loss": {"train": 0.41, "test": 0.52}})
            board.add(epoch, {"conv1": result})
        board.embedding(features, labels=names, sprites=images)

Look at it with ``tensorboard --logdir runs --samples_per_plugin images=100``; without the last option
TensorBoard shows ten of the epochs of each picture. Needs the extra: ``pip install featurelens[tensorboard]``.
"""

from featurelens.tensorboard.writer import TensorBoardWriter

__all__ = ["TensorBoardWriter"]
