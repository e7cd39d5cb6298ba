"""
Look inside a CNN
=================

A convolutional network takes an image, and out comes a guess: this is a 7. What happens in between is not
hidden, only seldom looked at. On this page we train a small network that reads handwritten digits, and then look at it in
four ways: we **record** what its layers return, **measure** what they know, **visualize** what a channel wants to see, and
**ablate** channels to find out what they carry.

You need some Python and have heard of PyTorch. Nothing else: every word is explained where it comes up first, nothing is
downloaded, and all of it runs in about half a minute on a laptop.
"""

# %%
# 1. A network that reads digits
# ------------------------------
#
# scikit-learn brings 1,797 images of handwritten digits. They are tiny, 8 x 8 pixels, so we enlarge them to
# 16 x 16, which leaves a network some room. PyTorch wants a batch of images as one tensor of shape ``(N, C, H, W)``:
# how many images, how many colours (here one, grey), height, width. We put 400 of them aside: what the network does
# with images that it has not seen in training is what counts.

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

torch.manual_seed(0)
torch.set_num_threads(1)  # for images this small, more threads only wait for each other

digits = load_digits()
small = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
images = nn.functional.interpolate(small, size=16, mode="bilinear")
labels = torch.tensor(digits.target)
order = torch.randperm(len(images))
test_images, test_labels = images[order[:400]], labels[order[:400]]
train_images, train_labels = images[order[400:]], labels[order[400:]]

fl.plotting.image_grid(
    test_images[:20], columns=10, labels=test_labels[:20].tolist(), title="Some of the digits"
)

# %%
# The network is a chain. A **convolution** slides small patterns, its **filters**, over the image and writes down how well
# each fits at every place; what it writes is one **feature map**, or **channel**, for each filter. **ReLU** sets
# what is negative to zero. **Max pooling** keeps the largest of every 2 x 2 values, and halves the maps so. That is
# done twice, and a last **linear** layer weighs all that is left into ten scores, one for each digit.

model = nn.Sequential(
    OrderedDict(
        conv1=nn.Conv2d(1, 8, 5, padding=2),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(8, 16, 3, padding=1),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        scores=nn.Linear(16 * 4 * 4, 10),
    )
)

# %%
# Training means: show it some images, measure by how much the scores are wrong (the **loss**), and change every weight a little
# in the direction that lessens it. After 15 rounds, or **epochs**, it reads most of the images that it has never seen.

optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(15):
    for batch in torch.randperm(len(train_images)).split(32):
        loss = nn.functional.cross_entropy(model(train_images[batch]), train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
model.eval()
accuracy = (model(test_images).argmax(1) == test_labels).float().mean()
print(f"{accuracy:.1%} of the test images are read correctly")

# %%
# 2. Record: what the layers return
# ---------------------------------
#
# Which layers are there? ``list_layers`` sends an image through the network and notes what each of them returns.

fl.list_layers(model, test_images[:1])

# %%
# The filters of the first convolution can be looked at as they are, for they are laid over the image itself. Blue
# stands for negative weights, red for positive ones. Most are edges: red on one side, where they want ink, and blue on
# the other, where they want none.

fl.plotting.filters(model.conv1, title="The filters of conv1")

# %%
# To see what the filters make of an image, we record the layer. An ``ActivationRecorder`` is told the model and the layers, and
# is then called like the model. It gives back a mapping from the names of the layers to their **activations**, and
# leaves the model as it found it.

recorder = fl.ActivationRecorder(model, ["conv1", "relu1", "relu2"])
acts = recorder(test_images)
print(acts)
fl.plotting.input_and_feature_maps(
    test_images, acts["relu1"], image=5, title="A digit, and what relu1 returns"
)

# %%
# Where a map is bright, the filter fits. Follow one of the edges from the picture of the filters: it lights up along those strokes that
# run its way and have the ink on its side. The second convolution looks at all eight of these maps at once, and
# its sixteen maps are coarser and harder to name. A hatched tile has one value everywhere: channel 5 returns zero at every place.
# Keep an eye on it.

acts.plot("relu2", image=5)

# %%
# One image is an anecdote. ``record`` runs over a whole data set; with ``reduce="mean"`` it keeps one number for each
# channel and image, its mean over the map, so that nothing large is stored. Which channels like which digits?

loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(test_images, test_labels), batch_size=100
)
means = fl.ActivationRecorder(model, "relu2", reduce="mean").record(loader)["relu2"]
standing = (means - means.mean(0)) / means.std(0).clamp(
    min=1e-6
)  # in standard deviations from the mean
by_digit = torch.stack([standing[test_labels == digit].mean(0) for digit in range(10)])
for digit in range(10):
    channel = int(by_digit[digit].argmax())
    print(
        f"a {digit} excites channel {channel:2} most: "
        f"{by_digit[digit, channel]:.1f} standard deviations above its mean"
    )

# %%
# Some digits have a channel of their own, nearly, such as those with 1.2 and more; a digit with a figure near 0 has none, and is told
# by what many channels say a little of.

# %%
# 3. Measure: what the channels know
# ----------------------------------
#
# That a channel likes sevens says little if it likes twos as well. **Mutual information** says it in one number: by how much
# does knowing the channel's value lessen our doubt about the digit? Doubt about ten equally likely digits is log 10
# = 2.30 **nats**; a channel that told them all apart would reach that, and a channel that tells nothing has 0.

information = fl.channel_information(means, test_labels)
information.plot(title="What the mean of each channel of relu2 tells about the digit").figure

# %%
# No single channel tells the digits apart: each knows a part, and the digit is in how they combine. And channel 5 knows
# nothing at all.
#
# Such a number is an estimate, and estimates of information are easily too high. So featurelens compares it with a
# **null**: the same measurement with the labels in random order, where there is nothing to know.

layers = fl.layer_information(
    model, ["conv1", "relu1", "relu2", "scores"], test_images, test_labels, seed=0
)
for name, result in layers.items():
    print(f"{name:7} {result.value:.2f} nats, where chance alone gives {result.null_mean:.2f}")

# %%
# The layers closer to the scores seem to know more of the digit. Strictly, they cannot: whatever ``relu2`` knows has come
# through ``conv1``. These figures are for activations with a little noise added, which stands for how finely one looks; what
# rises is how *plainly* the digit is written in them.

# %%
# A famous way to measure gets this wrong. It counts pairs of pixel and activation in a table of 255 x 255 cells; but a map has
# only 256 pixels, so that almost every pair lies in a cell of its own, and looks like information. Pair each map with
# *another* image, and the number is nearly the same:

maps = acts["relu1"][:50]  # as large as the images, so that places correspond
usual = fl.spatial_mutual_information(test_images[:50], maps, legacy=True, null="cross_image")
print(f"the usual figure: {usual.value:.2f} nats; with the wrong image: {usual.null_mean:.2f}")
honest = fl.spatial_mutual_information(test_images[:50], maps)
print(
    f"with 16 bins, corrected: {honest.value:.2f}; with the wrong image: {honest.null_mean:.2f}"
)

# %%
# What is left with the wrong image is real, but it is not about this image: all digits have their ink in the middle. What
# the map knows of its own image is the difference, ``honest.excess``.

# %%
# 4. Visualize: what a channel wants to see
# -----------------------------------------
#
# We can turn the question round. Not: what does the channel do with this image? But: which image does the channel answer most
# strongly? We start from noise and change the image, step by step, so that the channel's mean grows. This is called **activation
# maximization**. All sixteen images are made at once.

maximizer = fl.ActivationMaximizer(model, sample=train_images, steps=64)
wanted = maximizer.run("relu2")
wanted.plot(title="What the channels of relu2 want to see")

# %%
# Is such a picture to be believed? Hold it against real images: the ``comparison`` looks through the data set for those that
# excite the channel most. An optimized image that excites it *less* than a real one would be a failure. And here is
# what is the matter with channel 5: no image excites it, real or optimized. It is **dead**: its ReLU is off whatever
# comes, so that no gradient reaches its weights. Only if the layer before it changes can it wake again.

comparison = wanted.compare(train_images.split(500))
comparison.plot(limit=6)

# %%
# The scores at the end are channels, too: what does the network take for a perfect 3?

ideal = maximizer.run([fl.objectives.logit(digit) for digit in range(10)])
chances, guesses = model(ideal.images).softmax(1).max(1)
print(f"the least certain of them is read with a probability of {chances.min():.3f}")
fl.plotting.image_grid(
    ideal.images,
    columns=5,
    labels=[f"{d} (read as {g})" for d, g in enumerate(guesses.tolist())],
    title="Ideal digits",
)

# %%
# The network has hardly a doubt about any of them, and you might. It has learnt what tells the ten digits
# *apart*, and was never asked what a digit looks like.
#
# 5. Ablate: what a channel carries
# ---------------------------------
#
# Last, surgery. What is a channel worth? Set it to zero, let the rest of the network run, and see what is lost. The
# ``ChannelAblator`` does so for every channel; what comes before the layer is computed only once.

ablator = fl.ChannelAblator(model, "relu2")
worth = ablator.importance(loader, metric="loss")
print("baseline loss:", round(float(worth.baseline), 3))
worth.plot().figure

# %%
# The strokes are two standard errors: where one crosses zero, 400 images cannot tell the loss from none. (Channel 5
# can go: it was never there.) And which digits suffer? The red cells are digits that cannot do without the channel.

worth.plot_classes().figure

# %%
# Channels can be removed one after another, the least important first. The curve tells how many the network needs: it reads
# almost as well without ten of its sixteen.

curve = ablator.curve(loader, order=list(reversed(worth.top(16))))
curve.plot().figure

# %%
# What is in a channel can be made visible. A **deconvolutional decoder** runs the network backwards, with its own
# weights, to where in the image the activation came from. Keep one channel, set all others to zero, and decode:

decoder = fl.DeconvDecoder(model, "relu2")
rebuilt = fl.ChannelAblator(model, "relu2", decoder=decoder).sweep(
    test_images[5:6], mode="keep"
)
rebuilt.plot(image=0)

# %%
# Each channel puts back a few strokes, and no channel the whole digit.
#
# 6. Your own network
# -------------------
#
# Nothing here was made for digits or for this network. Put in your own ``model`` and ``images``, ask
# ``fl.list_layers(model, images)`` for the names, and go through the page again. Where to read on:
#
# * how to choose layers, and how to record data sets that do not fit in memory: the how-to pages on recording;
# * why the usual estimate of information misleads, and what information means in a network without noise: the explanations;
# * what an optimized image can show, and what it cannot: the explanation of activation maximization.
