"""Pictures of the pages as a browser shows them, for a person to look at.

    python tests/browser/screenshots.py [--out FOLDER]

Needs a Chromium, no network. Writes PNG files of the report (of a made-up study, a large one, a sparse
one and a deletion), of the server's pages and of a certificate: wide, on a phone and in the dark; of
the report on paper too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browsers import PHONE, WIDE, browsing, chromium, visiting
from report_helpers import deletion, large, sparse, study
from server_helpers import COOKIE, Served, at_a_port, fill

from expunge.report.page import write_report

LOOKS = {"wide": (WIDE, False), "phone": (PHONE, False), "dark": (PHONE, True)}


def show_reports(browser: Browser, out: Path) -> None:
    for name, report in {
        "study": study(),
        "sparse": sparse(),
        "large": large(),
        "deletion": deletion(),
    }.items():
        write_report(report, out / name, overwrite=True)
        address = (out / name / "report.html").resolve().as_uri()
        for look, (width, dark) in LOOKS.items():
            with visiting(browser, width=width, dark=dark) as page:
                page.goto(address)
                page.screenshot(path=out / f"{name}-{look}.png", full_page=True)
        with visiting(browser) as page:
            page.goto(address)
            paper = out / f"{name}-print.pdf"
            page.pdf(path=paper, prefer_css_page_size=True, print_background=False)
        if shutil.which("pdftoppm"):
            command = ["pdftoppm", "-r", "60", "-png", str(paper), str(out / f"{name}-print")]
            subprocess.run(command, check=True)


def show_server(browser: Browser, out: Path, served: Served) -> None:
    numbers = fill(served.ledger)
    pages = {
        "login": "/login",
        "requests": "/",
        **{f"request-{what}": f"/requests/{numbers[what]}" for what in ("certified", "hostile")},
        "certificate": "/certificates/1",
        "certificate-in-words": "/certificates/1/page",
        "nothing": "/nothing",
    }
    with at_a_port(served.ledger) as home:
        for look, (width, dark) in LOOKS.items():
            for name, path in pages.items():
                with visiting(browser, home, width=width, dark=dark, but="404 (Not Found)") as page:
                    token = {"name": COOKIE, "value": served.tokens["rob"], "url": home}
                    page.context.add_cookies([token])
                    page.goto(path)
                    page.screenshot(path=out / f"{name}-{look}.png", full_page=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/screenshots"))
    out = parser.parse_args().out
    if chromium() is None:
        sys.exit("there is no Chromium; install it: apt-get install chromium")
    out.mkdir(parents=True, exist_ok=True)
    with browsing() as browser, tempfile.TemporaryDirectory() as folder:
        os.environ["EXPUNGE_KEYS"] = f"{folder}/keys"
        show_server(browser, out, Served(Path(folder)))
        show_reports(browser, out)
    print(out)


if __name__ == "__main__":
    main()
