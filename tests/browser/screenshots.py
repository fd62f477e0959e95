"""Look at the report in a real browser: screenshots, and checks that a test of text cannot make.

    python tests/browser/screenshots.py [--out FOLDER] [--browser PATH]

Needs the package playwright and a Chromium, no network. Writes PNG files (wide, phone, print) of a
made-up study, a large one and a deletion, and ends with 1 if a check fails: no page is wider than
a phone, nothing is fetched, columns sort by click and by key, sorting 500 rows takes no time.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report_helpers import deletion, for_tables, results, study

from expunge.report.page import Report, write_report

LAG_MS = 250  # three times what it takes on one slow core
SORT = """() => {
  const buttons = [...document.querySelectorAll('.runs table.sortable thead button')];
  document.querySelectorAll('details').forEach((one) => { one.open = true; });
  document.body.offsetHeight;
  const times = buttons.slice(0, 8).map((button) => {
    const start = performance.now();
    button.click();
    document.body.offsetHeight;  // the new layout counts too
    return performance.now() - start;
  });
  const rows = document.querySelector('.runs table.sortable tbody').rows.length;
  return { rows, longest: Math.max(...times) };
}"""


def large(runs: int = 500) -> Report:
    """Many methods, on one setting with that many runs and a second one."""
    names = ["original", "retrain", "floor", *(f"method_{n:02d}" for n in range(runs // 5 - 3))]
    one = results(scenarios=["class"], methods=names, seeds=5)
    two = results(scenarios=["random:0.1"], methods=names[:30], seeds=3)
    frame = pd.concat([one, two], ignore_index=True)
    return study(title="A large study", frame=frame, table=for_tables(frame), details=[])


def sparse() -> Report:
    densities = ["dense", "50 % omp", "80 % omp", "95 % omp"]
    frame = results(densities=densities, scenarios=["class"])
    # a specification as long as they come must not widen a phone's page
    long = "cifar10:5556+patch:size=4,place=bottom-right,margin=2,colour=0,share=0.1,target=#0"
    return study(title="Sparsity", frame=frame.assign(data=long))


def check(page: Page, name: str, faults: list[str]) -> None:
    """Sort a column by click and by key, and look whether its cells stand in order."""
    head = page.locator("table.papers thead th").nth(2)
    column = """table => [...table.tBodies].at(-1).rows.length
        && [...[...table.tBodies].at(-1).rows].map((row) => Number(row.cells[2].dataset.value))"""
    tables = page.locator("table.papers")
    before = [tables.nth(n).evaluate("t => t.tBodies[0].innerText") for n in range(tables.count())]
    other = tables.nth(1).inner_text() if tables.count() > 1 else ""
    head.locator("button").click()
    rising = tables.nth(0).evaluate(column)
    if rising != sorted(rising) or head.get_attribute("aria-sort") != "ascending":
        faults.append(f"{name}: a click does not sort: {rising}")
    head.locator("button").focus()
    page.keyboard.press("Enter")
    falling = tables.nth(0).evaluate(column)
    if falling != sorted(rising, reverse=True) or head.get_attribute("aria-sort") != "descending":
        faults.append(f"{name}: the key Enter does not turn the order: {falling}")
    after = [tables.nth(n).evaluate("t => t.tBodies[0].innerText") for n in range(tables.count())]
    if before != after and tables.nth(0).locator("tbody.fixed").count():
        faults.append(f"{name}: sorting moved the yardsticks")
    if tables.count() > 1 and tables.nth(1).inner_text() != other:
        faults.append(f"{name}: sorting one table changed another")
    page.keyboard.press("Enter")


def look(browser: Browser, name: str, file: Path, out: Path) -> list[str]:
    """Screenshots and checks of one report; returns what is wrong."""
    faults: list[str] = []
    for kind, width in (("wide", 1280), ("phone", 390)):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda said: faults.append(f"{name}: console: {said.text}"))
        page.on("pageerror", lambda error: faults.append(f"{name}: script: {error}"))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith(("file:", "data:"))
                else faults.append(f"{name}: fetches {asked.url}")
            ),
        )
        page.goto(file.as_uri())
        page.screenshot(path=out / f"{name}-{kind}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            faults.append(f"{name}: the page is {wide} px wide in a window of {width}")
        if kind == "wide":
            check(page, name, faults)
            loaded = page.evaluate(
                "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
            )
            found = page.evaluate(SORT)
            print(
                f"{name}: opened in {loaded:.0f} ms; {found['rows']} rows sorted and laid out in "
                f"{found['longest']:.0f} ms at most"
            )
            if found["longest"] > LAG_MS * max(1, found["rows"] / 500):
                faults.append(f"{name}: sorting takes {found['longest']:.0f} ms")
        page.close()
    page = browser.new_page()
    page.goto(file.as_uri())
    buttons = page.locator("thead button").count()
    pdf = out / f"{name}-print.pdf"
    page.pdf(path=pdf, prefer_css_page_size=True, print_background=False)
    if page.locator("thead button").count() != buttons:
        faults.append(f"{name}: printing took the buttons away")
    page.close()
    if shutil.which("pdftoppm"):
        command = ["pdftoppm", "-r", "60", "-png", str(pdf), str(out / f"{name}-print")]
        subprocess.run(command, check=True)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/screenshots"))
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("chrome"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    reports = {"study": study(), "sparse": sparse(), "large": large(), "deletion": deletion()}
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=given.browser,
            args=["--no-sandbox"],  # none inside a container
        )
        for name, report in reports.items():
            folder = given.out / name
            write_report(report, folder, overwrite=True)
            faults += look(browser, name, (folder / "report.html").resolve(), given.out)
        browser.close()
    print("\n".join(faults) or "no faults", file=sys.stderr if faults else sys.stdout)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
