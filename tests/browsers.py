"""A headless Chromium, for the tests of pages and for screenshots, and what every page must keep to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PHONE, WIDE = 390, 1280
CONTRAST = 4.5
"""Of a text to what lies behind it: WCAG 2.2, 1.4.3."""
LOOK = (Path(__file__).parent / "browser" / "look.js").read_text(encoding="utf-8")


def chromium() -> str | None:
    """Where a Chromium is installed; None where none is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing() -> Iterator[Browser]:
    """A Chromium of the system's. It has no sandbox, for that needs rights that a container has not."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visiting(
    browser: Browser,
    home: str = "",
    *,
    width: int = WIDE,
    dark: bool = False,
    but: str = "",
) -> Iterator[Page]:
    """A page without cookies. Until the end nothing may be said in the console, and nothing asked of
    another host than `home`. but: what the console may say.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        base_url=home or None,
    )
    page, faults = context.new_page(), list[str]()
    page.on(
        "console", lambda said: (but and but in said.text) or faults.append(f"console: {said.text}")
    )
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
    page.on("request", lambda asked: faults.extend(_foreign(asked.url, home)))
    try:
        yield page
    finally:
        context.close()
    assert not faults, faults


def _foreign(url: str, home: str) -> list[str]:
    ours = url.startswith(("file:", "data:")) or urlsplit(url).netloc == urlsplit(home).netloc
    return [] if ours else [f"asks {url}"]


def check_look(page: Page) -> None:
    """It is no wider than its window, and its texts stand out."""
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window, f"{page.url} is {wide} px wide in a window of {window}"
    faint = page.evaluate(f"() => {{ {LOOK}; return faint({CONTRAST}); }}")
    assert not faint, f"{page.url}: {faint}"


def check_keys(page: Page) -> None:
    """The key Tab goes through all that can be done, in the order of the page, and one sees where."""
    wanted = page.evaluate(f"() => {{ {LOOK}; watch(); return doable(); }}")
    for _ in wanted:
        page.keyboard.press("Tab")
    reached = page.evaluate("reached")
    assert [name for name, _ in reached] == wanted, f"{page.url}: {reached} of {wanted}"
    unseen = [name for name, seen in reached if not seen]
    assert not unseen, f"{page.url}: nothing shows that these have the focus: {unseen}"
