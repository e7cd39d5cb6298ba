"""Study D: rewrite a network so that it keeps the features of selected convolutions.

    python examples/extractor_rewrite.py                          # a VGG-style network, digits as image files
    python examples/extractor_rewrite.py --images my/photos       # your own folder: my/photos/CLASS/IMAGE

Convolutions are named conv_1, conv_2, ... in order. An extractor, an identity module that keeps its input, is inserted
after conv_1, conv_2 and conv_4. A random image from the folder is drawn without axes and run through the new network;
then the features are read from the extractors.
"""

# %%
# Settings
# --------
#
# In a notebook, put what you would write on the command line in the place of ``command_line()``: ``["--images", "my/photos"]``.

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torchvision.models import vgg11
from torchvision.transforms.functional import to_pil_image

import featurelens as fl
from reference import command_line, load, seeded
from reference.pictures import save

CHOSEN = ("conv_1", "conv_2", "conv_4")

parser = argparse.ArgumentParser(description="Study D: insert extractors into a network.")
parser.add_argument(
    "--images", type=Path, help="a folder with one subfolder per class; default: digits, written as files"
)
parser.add_argument("--seed", type=int, default=0, help="selects the image and the random weights")
parser.add_argument("--output", type=Path, default=Path("outputs/extractor_rewrite"))
options = parser.parse_args(command_line())

# %%
# A random image from a labelled folder
# -------------------------------------
#
# By default scikit-learn's test digits, written as ``digits/CLASS/NUMBER.png``.

folder = options.images or options.output / "digits"
if options.images is None:
    digits = load("digits")
    for number, (digit, label) in enumerate(zip(*digits.test, strict=True)):
        place = folder / digits.classes[int(label)]
        place.mkdir(parents=True, exist_ok=True)
        to_pil_image(digit).save(place / f"{number:04}.png")

data = load(folder, seed=options.seed, training=False)
images = torch.cat([data.train_images, data.test_images])
labels = torch.cat([data.train_labels, data.test_labels])
index = int(torch.randint(len(labels), (), generator=torch.Generator().manual_seed(options.seed)))
image, label = images[index], data.classes[int(labels[index])]

drawing = Figure(figsize=(3, 3))
ax = drawing.add_axes((0, 0, 1, 1))
ax.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=1)
ax.set_axis_off()

# %%
# The network, rewritten
# ----------------------
#
# ``insert_extractors`` returns a copy. Its output is the same, and so are the names in its ``state_dict``.

model = seeded(lambda: vgg11(weights=None), seed=options.seed).eval()
batch = torch.nn.functional.interpolate(image.expand(1, 3, -1, -1), size=(64, 64), mode="bilinear")
tapped = fl.insert_extractors(model, CHOSEN)
with torch.no_grad():
    difference = (tapped(batch) - model(batch)).abs().max().item()

# %%
# The features in the extractors
# ------------------------------

figures = {"image": drawing}
for name in CHOSEN:
    extractor = tapped.extractors[name]
    title = f"{name} of vgg11, an image of {label!r}"
    figures[name] = fl.plotting.feature_maps(extractor.feature, limit=32, title=title)
    print(f"{name}: layer {extractor.layer!r}, feature {tuple(extractor.feature.shape)}")
save(figures, options.output)

same = list(tapped.state_dict()) == list(model.state_dict())
print(f"{'':36}{'study':>18}{'here':>18}")
print(f"{'extractors after':36}{'conv_1, _2, _4':>18}{', '.join(CHOSEN).replace(', conv', ', '):>18}")
print(f"{'largest difference of the output':36}{'not reported':>18}{difference:>18.1e}")
print(f"{'state_dict keys as the original':36}{'not reported':>18}{'yes' if same else 'no':>18}")
print(f"figures in {options.output}")
