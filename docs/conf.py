"""How Sphinx builds the site; `nox -s docs` runs it. Everything is local: no page asks the network for anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on digits, threads wait for each other more than they compute
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from figures import figure_scraper

import featurelens

project = "featurelens"
author = "The featurelens developers"
copyright = "2026, the featurelens developers"
release = version = featurelens.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "formulas",
    "live_atlas",
    "names",
]
exclude_patterns = ["_build", "_extensions", "**/GALLERY_HEADER.rst", "**/*.ipynb", "**/*.py"]
BOOK = tags.has("book")  # noqa: F821 - Sphinx defines it; make_pdf.py builds the book
root_doc = "book" if BOOK else "index"
exclude_patterns.append("index.md" if BOOK else "book.md")
templates_path = ["_templates"]
nitpicky = True
suppress_warnings = ["config.cache"]  # the scraper is a function, which Sphinx cannot pickle
if BOOK:
    suppress_warnings.append("toc.not_included")  # the book names its pages, and the site has more
nitpick_ignore_regex = [
    # Foreign names: their documentation is on the network, see FEATURELENS_INTERSPHINX below.
    (r"py:.*", r"(torch|nn|numpy|np|matplotlib|collections|os|pathlib|types|typing|contextlib)\..*"),
    (r"py:.*", r"(optional|NDArray|Path|Tensor|Axes|Figure|SubFigure|Self)"),
    # "Raises: None" says that nothing is raised.
    (r"py:exc", r"None"),
    # Made and read by featurelens alone.
    (r"py:class", r"(.*\.)?(Program|Term|Preprocessing|Responses)"),
]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autoclass_content = "both"
autosummary_generate = True
autosummary_imported_members = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
napoleon_preprocess_types = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

if os.environ.get("FEATURELENS_INTERSPHINX"):  # links to other projects' pages; needs the network
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

sphinx_gallery_conf = {
    "examples_dirs": ["../examples/tutorial", "../examples/gallery"],
    "gallery_dirs": ["tutorial", "gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "reference/backreferences",
    "doc_module": ("featurelens",),
    "reference_url": {"featurelens": None},
    "image_scrapers": (figure_scraper,),
    "ignore_repr_types": r"matplotlib\.",
    "first_notebook_cell": "%matplotlib inline",
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "plot_gallery": True,
}

html_theme = "basic" if BOOK else "furo"
html_title = "featurelens"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/lens.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {} if BOOK else {"navigation_with_keys": True, "top_of_page_buttons": []}
