"""The page of a prediction on paper: one A4 for a usual result. WeasyPrint lays it out; nothing is fetched from anywhere."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from shared_models.core.errors import BadInput

STYLE = """
@page{size:A4;margin:8mm 9mm 10mm}
@page{@bottom-center{content:"Research use only. Page " counter(page) " of " counter(pages);font:6pt sans-serif;color:#444}}
body{font-size:1rem;line-height:1.25}
details,footer,.hidden{display:none}
.alarm{padding:.5rem 1rem;font-size:1.1rem;border-width:1.2pt}.alarm strong{font-size:1.4rem}.band{padding:.2rem 1rem;font-size:1rem}
header.wrap{padding:.5rem 0 0}h1{font-size:1.7rem;margin:0}h2{font-size:1.3rem;margin:0 0 .3rem}h3{font-size:1.1rem;margin:0 0 .2rem}
p{margin:0 0 .35rem;max-width:none}.kicker{font-size:.92rem}
section{margin:.5rem 0 0;padding-top:.4rem}section:first-of-type{margin:0;padding:.2rem 0 0}
.pair,.sheets{display:block}.pair::after,.sheets::after{content:"";display:block;clear:both}.pair>.card:first-child,.sheets>.scroll:first-child{float:left;width:59%}
.pair>.card:last-child,.sheets>.scroll:last-child{float:right;width:40%}.pair>:only-child,.sheets>:only-child{width:100%!important}
.card,.scroll,figure{padding:.45rem .7rem;margin:0 0 .45rem;border-radius:.3rem}.card .big{font-size:1.9rem}
table{font-size:.92rem}caption,figcaption{font-size:.9rem;padding-bottom:.2rem}th,td{padding:.1rem .4rem}td.soft{font-size:.85rem}
.bars{margin-bottom:.3rem}.track span{height:.9rem}
.pictures{display:flex;flex-wrap:wrap;gap:.6rem;margin-bottom:.3rem}.pictures figure{width:13rem;padding:0;margin:0}
.pictures figcaption{padding:.15rem .3rem}.pictures img{width:13rem}.chart svg{width:44rem;height:6rem;margin:0}
.findings{margin:0 0 .3rem}.findings li{padding:.15rem .6rem;margin:.1rem 0}.caution{padding:.25rem .6rem;margin:0 0 .3rem}
ul{margin:.1rem 0 .3rem;padding-left:1.2rem}
"""
"""Over the page's own: smaller, without what only a screen can open, and with floats where it has boxes that are laid out several times over."""
SIZES_PT = (7.6, 6.9, 6.2)
"""Sizes of the text, the largest first: the first with which all fits on one page, or, where none does, the largest on several."""
END = "end-of-the-page"


def require_pdf() -> Any:
    """Return the library that lays out pages.

    Raises
    ------
    BadInput
        The extra ``pdf`` is not installed, or a library of the system that it stands on is missing.
    """
    try:
        import weasyprint
    except ImportError:
        raise BadInput("a PDF needs the extra `pdf`", remedy="pip install 'fedild[pdf]', or print prediction.html") from None
    except OSError as error:  # Pango is opened while WeasyPrint is imported
        remedy = "install Pango (Debian: apt install libpango-1.0-0 libpangoft2-1.0-0), or print prediction.html"
        raise BadInput("a PDF needs the library Pango of the system", value=str(error).splitlines()[0], remedy=remedy) from None
    return weasyprint


def pdf_of(page: str) -> bytes:
    """Return the page as PDF, on one sheet where it fits; a picture that does not lie in the page itself is refused.

    Raises
    ------
    BadInput
        As `require_pdf`; or the page names something outside itself.
    """
    weasyprint = require_pdf()
    for name in ("weasyprint", "fontTools"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # CSS that it does not know is no news, and what it may not fetch is told below
    foreign: list[str] = []

    class Inside(weasyprint.URLFetcher):
        """Hands out what the page itself holds, and nothing else."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            if not url.startswith("data:"):
                foreign.append(url[:40])
                raise ValueError("nothing is fetched")
            return super().fetch(url, headers)

    def laid_out(size_pt: float) -> Any:
        # After the page's own style: a sheet given beside the page would come before it.
        head, end, body = page.partition("</head>")
        style = f"<style>html{{font-size:{size_pt}pt}}{STYLE}</style>"
        body = body.replace("</body>", f'<div id="{END}"></div></body>')
        return weasyprint.HTML(string=f"{head}{style}{end}{body}", url_fetcher=inside, media_type="print").render()

    inside = Inside()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sheets = [laid_out(SIZES_PT[0])]
        for size_pt in SIZES_PT[1:]:
            if len(sheets[-1].pages) > 1 and may_fit(pages_of(sheets[0]), size_pt / SIZES_PT[0]):
                sheets.append(laid_out(size_pt))
        pdf = (sheets[-1] if len(sheets[-1].pages) == 1 else sheets[0]).write_pdf()
    if foreign:
        raise BadInput("a page holds everything that it shows", value=foreign[0], remedy="report this: the page is at fault")
    return pdf


def pages_of(sheets: Any) -> float:
    """Return how many pages a laid out document fills: whole ones, and of the last one as far down as the text goes."""
    last = sheets.pages[-1]
    return len(sheets.pages) - 1 + last.anchors.get(END, (0.0, last.height))[1] / last.height


def may_fit(pages: float, smaller: float) -> bool:
    """Say whether a text that fills so many pages may fit on one where its size is `smaller`: its area goes with the square at best.

    Laying out takes seconds: a size that cannot do is not tried.

    Examples
    --------
    >>> may_fit(1.2, 0.9), may_fit(1.4, 0.9), may_fit(1.4, 0.8), may_fit(3.0, 0.8)
    (True, False, True, False)
    """
    return pages * smaller**2 <= 1
