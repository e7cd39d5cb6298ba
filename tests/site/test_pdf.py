"""The tutorial as a book."""

import pytest

from tests.site.pages import SITE, Page

PDF = SITE / "featurelens-tutorial.pdf"
PAGES = ["tutorial/1_getting_started.html", "tutorial/2_look_inside_a_cnn.html"]


@pytest.mark.skipif(not PDF.exists(), reason="the book is not made: `nox -s docs` does that")
def test_the_book_opens_with_its_contents_and_has_the_pictures_of_its_pages():
    pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")
    book = pypdf.PdfReader(PDF)
    first, *rest = book.pages
    assert first.extract_text().startswith("Looking inside networks")
    contents = {note.get_object()["/Dest"] for note in first["/Annots"]}
    assert len(contents) > 30
    assert contents <= set(book.named_destinations)
    sources = {source for page in PAGES for source in Page(SITE / page).sources}
    pictures = [source for source in sources if "sphx_glr_" in source and source.endswith(".png")]
    drawn = [page.get_contents().get_data().count(b" Do") for page in (first, *rest)]
    assert drawn[0] == 1
    assert sum(drawn[1:]) == len(pictures) > 10
