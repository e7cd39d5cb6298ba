"""
Look inside a CNN
=================

A convolutional network takes an image and returns a guess: this is a 7. What happens in between is not hidden, but few
people look at it. On this page we train a small network that reads handwritten digits and then look inside it in four ways:
we **record** what its layers return, **measure** how much information they have, **visualize** what a channel wants to see,
and **ablate** channels to find out what they carry.

You need some Python and a first idea of PyTorch. Every term is explained when it first appears, nothing is downloaded, and
the whole page runs in about half a minute on a laptop.
"""

# %%
# 1. A network that reads digits
# ------------------------------
#
# scikit-learn includes 1,797 images of handwritten digits. They have only 8 x 8 pixels, so we enlarge them to 16 x 16,
# which gives the network more room. PyTorch expects a batch of images as one tensor of shape ``(N, C, H, W)``: number of
# images, number of colour channels (here one, grey), height and width. We set 400 images aside for testing: what counts is
# how the network does on images that it has not seen in training.

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import featurelens as fl

torch.manual_seed(0)
torch.set_num_threads(1)  # for images this small, more threads would only slow each other down

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
# The network is a chain of layers. A **convolution** slides small patterns, its **filters**, over the image and computes at
# every position how well each filter matches. The result is one **feature map** per filter, also called a **channel**.
# **ReLU** sets negative values to zero. **Max pooling** keeps the largest of every 2 x 2 values, which halves the height and
# width of the maps. This happens twice. Then a **linear** layer combines all values into ten scores, one for each digit.

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
# To train the network, we show it some images, measure how wrong its scores are (the **loss**), and change every weight a
# little in the direction that reduces the loss. After 15 passes over the data, or **epochs**, it recognises most of the test
# images.

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
# Which layers are there? ``list_layers`` runs an image through the network and lists what each layer returns.

fl.list_layers(model, test_images[:1])

# %%
# We can view the filters of the first convolution as images, because they apply directly to the pixels. Red weights are
# positive, blue ones negative. Most filters detect edges: they respond where there is ink on the red side and none on the
# blue side.

fl.plotting.filters(model.conv1, title="The filters of conv1")

# %%
# To see where the filters respond, we record the layer. Create an ``ActivationRecorder`` with the model and the layers, then
# call it like the model. It returns a mapping from layer names to **activations**, which are the outputs of the layers, and
# leaves the model unchanged.

recorder = fl.ActivationRecorder(model, ["conv1", "relu1", "relu2"])
acts = recorder(test_images)
print(acts)
fl.plotting.input_and_feature_maps(
    test_images, acts["relu1"], image=5, title="A digit and its feature maps in relu1"
)

# %%
# Where a map is bright, the filter matches. Pick one of the edge filters above: its map is bright along strokes that have the
# same direction, with the ink on the same side. The second convolution looks at all eight maps at once. Its sixteen maps
# are coarser and harder to interpret. A hatched tile has the same value everywhere: channel 5 is zero at every position.
# We will meet it again.

acts.plot("relu2", image=5)

# %%
# A single image proves little. ``record`` runs over a whole data set. With ``reduce="mean"`` it keeps only the mean of each
# feature map, one number per channel and image, which saves memory. Which channels respond to which digits?

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
# Some digits, those with 1.2 or more, almost have a channel of their own. Where the number is close to 0, no single channel
# stands for the digit: the network recognises it by small contributions of many channels.

# %%
# 3. Measure: how much information channels have
# ----------------------------------------------
#
# That a channel responds to sevens says little if it responds to twos as well. **Mutual information** sums this up in one
# number: how much does knowing the channel's value reduce our uncertainty about the digit? The uncertainty about ten equally
# likely digits is log 10 = 2.30 **nats** (with the logarithm to base 2, the unit is the bit). A channel that separates all
# ten digits has 2.30 nats of information; a channel unrelated to the digit has 0.

information = fl.channel_information(means, test_labels)
information.plot(title="What the mean of each channel of relu2 tells about the digit")

# %%
# No single channel separates the digits. Each has part of the information, and the network combines them. Channel 5 has
# none at all.
#
# These numbers are estimates, and estimates of information are often too high. So featurelens compares each with a
# **null**: the same measurement with the labels in random order, where there is no information.

layers = fl.layer_information(
    model, ["conv1", "relu1", "relu2", "scores"], test_images, test_labels, seed=0
)
for name, result in layers.items():
    print(f"{name:7} {result.value:.2f} nats, where chance alone gives {result.null_mean:.2f}")

# %%
# Layers closer to the scores seem to have more information about the digit. Strictly, they cannot: everything in ``relu2``
# has passed through ``conv1``. But these values are what a **linear probe**, a linear classifier that sees only the mean of
# every map, can predict about images that it was not fitted to. What rises from layer to layer is how *easily* the digit can
# be read off.

# %%
# A popular recipe gets this wrong. It counts pairs of pixel and activation in a table of 255 x 255 cells. But a map has only
# 256 pixels, so almost every pair has a cell to itself, which looks like information. If we pair each map with *another*
# image, the number hardly changes:

maps = acts["relu1"][:50]  # as large as the images, so that places correspond
usual = fl.spatial_mutual_information(test_images[:50], maps, legacy=True, null="cross_image")
print(f"the usual figure: {usual.value:.2f} nats; with the wrong image: {usual.null_mean:.2f}")
honest = fl.spatial_mutual_information(test_images[:50], maps)
print(
    f"with 16 bins, corrected: {honest.value:.2f}; with the wrong image: {honest.null_mean:.2f}"
)

# %%
# The information that remains with the wrong image is real, but it does not concern this image: all digits have their ink in
# the middle. What the map says about its own image is the difference, ``honest.excess``.

# %%
# 4. Visualize: what a channel wants to see
# -----------------------------------------
#
# We can also turn the question around: which image makes a channel respond most strongly? We start from noise and change the
# image step by step so that the mean of the channel grows. This is called **activation maximization**. All sixteen images
# are optimized at once.

maximizer = fl.ActivationMaximizer(model, sample=train_images, steps=64)
wanted = maximizer.run("relu2")
wanted.plot(title="What the channels of relu2 want to see")

# %%
# Can you trust such an image? ``compare`` searches the data set for the real images with the strongest response. If an
# optimized image were *weaker* than a real one, the optimization would have failed. Here we also see what is wrong with
# channel 5: no image activates it, real or optimized. It is **dead**: its ReLU is zero for every image, so no gradient
# reaches its weights. Only a change in an earlier layer can activate it again.

comparison = wanted.compare(train_images.split(500))
comparison.plot(limit=6)

# %%
# We can maximize the final scores, too. What does the network consider a perfect 3?

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
# The network is almost certain about all of them; you may not be. It has learned what *distinguishes* the ten digits, not
# what a digit looks like.
#
# 5. Ablate: what a channel carries
# ---------------------------------
#
# How important is a channel? To find out, set it to zero, run the rest of the network, and see how much the loss increases.
# ``ChannelAblator`` does this for every channel. It computes the part before the layer only once.

ablator = fl.ChannelAblator(model, "relu2")
worth = ablator.importance(loader, metric="loss")
print("baseline loss:", round(float(worth.baseline), 3))
worth.plot()

# %%
# The error bars are ±2 standard errors (SE). If a bar crosses zero, 400 images are too few to show an effect. (Removing
# channel 5 changes nothing, since it is dead.) Which digits suffer? Red cells are digits that need the channel.

worth.plot_classes()

# %%
# We can also remove channels one after another, the least important first. The curve shows how many the network needs: it is
# almost as accurate without ten of its sixteen channels.

curve = ablator.curve(loader, order=list(reversed(worth.top(16))))
curve.plot()

# %%
# What does a channel carry? A **deconvolutional decoder** runs the network backwards, with the network's own weights, and
# shows which part of the image caused an activation. Keep one channel, set all others to zero, and decode:

decoder = fl.DeconvDecoder(model, "relu2")
rebuilt = fl.ChannelAblator(model, "relu2", decoder=decoder).sweep(
    test_images[5:6], mode="keep"
)
rebuilt.plot(image=0)

# %%
# Each channel reconstructs a few strokes, none the whole digit.
#
# 6. Your own network
# -------------------
#
# None of this is specific to digits or to this network. Use your own ``model`` and ``images``, look up the layer names with
# ``fl.list_layers(model, images)``, and go through the page again. Read more about:
#
# * :doc:`selecting layers, and recording data sets that do not fit in memory <../howto/recording>`;
# * :doc:`why the usual estimate of information misleads <../explanation/information_bias>`, and
#   :doc:`what information means in a network without noise <../explanation/deterministic_networks>`;
# * :doc:`what an optimized image can show, and what it cannot <../explanation/activation_maximization>`.
