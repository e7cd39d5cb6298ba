"""Make the tutorial a book: `python docs/make_pdf.py` puts featurelens-tutorial.pdf beside the site's pages.

Sphinx puts the pages that book.md names into one HTML page, from the same sources as the site; weasyprint sets it, and
no LaTeX is needed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
BUILT = DOCS / "_build" / "book"
PDF = DOCS / "_build" / "html" / "featurelens-tutorial.pdf"
ONLY_ON_SCREEN = (
    ".sphx-glr-download-link-note, .sphx-glr-footer, .sphx-glr-timing, .sphx-glr-thumbnails, .sphx-glr-signature, "
    ".headerlink"
)
LOOK = """
@page { size: A4; margin: 22mm 20mm; @bottom-center { content: counter(page); font: 9pt sans-serif; color: #666 } }
@page :first { @bottom-center { content: none } }
body { font: 10.5pt/1.5 "DejaVu Sans", "Helvetica", sans-serif; hyphens: auto }
h1 { font-size: 24pt; line-height: 1.2 }
h2 { font-size: 18pt; break-before: page } h3 { font-size: 16pt } section ~ section > h3 { break-before: page } h4 { font-size: 12pt }
h1, h2, h3, h4 { break-after: avoid }
pre { font: 8.2pt/1.4 "DejaVu Sans Mono", monospace; background: #f4f4f4; padding: 6pt; white-space: pre-wrap }
.sphx-glr-script-out pre { background: #fbf9e6 }
code { font: 9pt "DejaVu Sans Mono", monospace }
img { max-width: 100%; max-height: 88mm; margin: auto } img, table { break-inside: avoid }
a { color: #1f4fbf; text-decoration: none }
table { border-collapse: collapse; font-size: 9pt } td, th { border-bottom: 0.5pt solid #ccc; padding: 2pt 6pt; text-align: left }
nav ol { list-style: none; padding: 0; font-size: 9.5pt; line-height: 1.15 } nav li { margin: 1pt 0 } nav li.h2 { font-weight: bold; margin-top: 8pt }
nav li.h3 { padding-left: 5mm } nav li.h4 { padding-left: 12mm; font-size: 8.5pt } nav a { color: inherit }
nav a::after { content: leader(" . ") target-counter(attr(href), page); font-weight: normal }
"""


def main() -> None:
    """Build the page, tidy it, set it."""
    command = [sys.executable, "-m", "sphinx", "-b", "singlehtml", "-t", "book", "-q"]
    subprocess.run([*command, "-d", str(DOCS / "_build/doctrees-book"), str(DOCS), str(BUILT)], check=True)

    from weasyprint import CSS, HTML

    PDF.parent.mkdir(parents=True, exist_ok=True)
    page = tidied((BUILT / "book.html").read_text())
    HTML(string=page, base_url=str(BUILT)).write_pdf(PDF, stylesheets=[CSS(string=LOOK)])
    print(f"{PDF} ({PDF.stat().st_size / 1e6:.1f} MB)")


def tidied(html: str) -> str:
    """Return the page's body with a table of contents in front, and without what belongs on a screen."""
    from bs4 import BeautifulSoup

    body = BeautifulSoup(html, "html.parser").select_one("div.body")
    assert body is not None
    for node in body.select(ONLY_ON_SCREEN):
        node.decompose()
    places = {node["id"] for node in body.select("[id]")}
    for link in body.select("a[href]"):
        href = str(link["href"])
        if not href.startswith(("http", "#")) or (href.startswith("#") and href[1:] not in places):
            link.unwrap()  # leads to the site, out of the book
    title, *headings = body.select("h1, h2, h3, h4")
    for number, heading in enumerate(headings):
        heading["id"] = f"heading-{number}"
    entries = "".join(
        f'<li class="{heading.name}"><a href="#{heading["id"]}">{heading.get_text()}</a></li>'
        for heading in headings
    )
    cover = title.find_next_sibling("img") or title
    cover.insert_after(BeautifulSoup(f"<nav><ol>{entries}</ol></nav>", "html.parser"))
    return f'<html lang="en"><head><title>{title.get_text()}</title></head><body>{body}</body></html>'


if __name__ == "__main__":
    main()
