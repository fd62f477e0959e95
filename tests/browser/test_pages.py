"""The pages as a browser shows them: those of a ledger's server, of a certificate, and of a report.

One Chromium for all; where none is installed, all are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsers import PHONE, WIDE, browsing, check_keys, check_look, chromium, visiting
from lacking import lacks
from playwright.sync_api import Browser, Locator, Page
from report_helpers import write_page
from server_helpers import COOKIE, HOSTILE, SECRET, Served, at_a_port, fill

from expunge.requests.certifying import files_of

FAILED = "Failed to load resource: the server responded with a status of {}"
"""What the console tells, and should."""
LAG_MS = 1000
"""Ten times what sorting takes on one slow core."""
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
  return [document.querySelector('.runs table.sortable tbody').rows.length, Math.max(...times)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        lacks("Chromium (Debian's package chromium)")
    with browsing() as opened:
        yield opened


# --- the server of a ledger


class Site:
    """A ledger with a request in every state (`numbers`), served at `home`."""

    def __init__(self, browser: Browser, served: Served, home: str) -> None:
        self.browser, self.served, self.home = browser, served, home
        self.numbers = fill(served.ledger)

    def enter(self, page: Page, who: str) -> None:
        """As somebody who has logged in."""
        page.context.add_cookies(
            [{"name": COOKIE, "value": self.served.tokens[who], "url": self.home}]
        )


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("site")
        patch.setenv("EXPUNGE_KEYS", str(folder / "keys"))
        served = Served(folder)
        with at_a_port(served.ledger) as home:
            yield Site(browser, served, home)


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    """As the reader rob sees it."""
    with visiting(site.browser, site.home) as opened:
        site.enter(opened, "rob")
        yield opened


def test_whoever_has_a_token_logs_in_and_out(site: Site) -> None:
    refused = FAILED.format("401 (Unauthorized)")
    with visiting(site.browser, site.home, but=refused) as page:
        page.goto("/requests/1")
        assert page.title() == "Log in – expunge" and page.url == f"{site.home}/login"
        page.keyboard.type("no token")  # the field has the focus from the start
        page.keyboard.press("Enter")
        assert page.get_by_role("alert").inner_text().startswith("No token is like this one")
        page.get_by_label("Token").fill(site.served.tokens["rob"])
        page.get_by_role("button", name="Log in").click()
        assert page.url == f"{site.home}/" and "rob, reader" in page.inner_text("header")
        assert page.evaluate("document.cookie") == "", "no script reads the token"
        assert site.served.tokens["rob"] not in page.content()
        page.get_by_role("button", name="Log out").click()
        page.goto("/")
        assert page.url == f"{site.home}/login"


def test_the_list_says_what_is_due_and_how_far_each_request_is(site: Site, page: Page) -> None:
    page.goto("/")
    rows = {row.locator("td").first.inner_text(): row for row in page.locator("tbody tr").all()}
    named = {what: rows[str(number)] for what, number in site.numbers.items()}
    assert len(rows) == len(named)

    def tells(what: str, column: str) -> Locator:
        return named[what].locator(f"td[data-name='{column}']")

    states = {what: tells(what, "State").inner_text() for what in named}
    assert states == {
        **dict.fromkeys(("new", "soon", "overdue"), "received"),
        **dict.fromkeys(("held", "hostile"), "received (held)"),
        **{one: one for one in ("struck", "refused", "withdrawn", "certified")},
    }
    due = {what: tells(what, "Due").inner_text().partition("Europe/Berlin ")[2] for what in named}
    assert due["overdue"].startswith("overdue by 4") and due["soon"].startswith("in ")
    answered = {"refused", "withdrawn", "certified"}
    assert {what for what, told in due.items() if not told} == answered
    order = list(rows)
    assert order[:2] == [str(site.numbers["overdue"]), str(site.numbers["soon"])]
    assert {*order[-3:]} == {str(site.numbers[one]) for one in answered}
    looks = {}
    for what in ("overdue", "soon", "new"):
        style = "one => [getComputedStyle(one).color, getComputedStyle(one).fontWeight]"
        looks[what] = tuple(tells(what, "Due").locator("span").last.evaluate(style))
    assert len({*looks.values()}) == 3, "each stands out more than what has time"
    assert tells("certified", "Certificate").inner_text() == "of batch 1"
    assert tells("overdue", "Samples").inner_text() == "1,234"


def test_one_gets_from_the_list_to_the_certificate_as_it_was_signed(site: Site, page: Page) -> None:
    number = site.numbers["certified"]
    page.goto("/")
    page.get_by_role("link", name=str(number), exact=True).click()
    assert page.inner_text("h1") == f"Request {number}: certified"
    events = page.locator("td[data-name='What']").all_inner_texts()
    assert events == [
        *(f"request {done}" for done in ("received", "verified", "approved", "struck")),
        "batch opened",
    ]
    page.get_by_role("link", name="of batch 1").click()
    assert '"predicateType": "urn:expunge:forgetting:v1"' in page.inner_text("pre")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download the signed file").click()
    assert saved.value.suggested_filename == "batch-0001.dsse.json"
    signed = files_of(site.served.ledger, 1).certificate
    assert saved.value.path().read_bytes() == signed.read_bytes()
    page.get_by_role("link", name="What it says, in words").click()
    assert page.inner_text("h1") == "What was forgotten in batch 1"


def test_a_text_from_elsewhere_stays_text(site: Site, page: Page) -> None:
    for path, times in (("/", 1), (f"/requests/{site.numbers['hostile']}", 3)):
        page.goto(path)
        assert page.inner_text("main").count(HOSTILE) == times
        assert page.locator("img, script").count() == 0
        assert SECRET not in page.content()


def test_a_submitter_is_offered_no_certificate_and_no_other_requests(site: Site) -> None:
    number = site.served.submit("ann", "own").json()["request"]
    with visiting(site.browser, site.home) as page:
        site.enter(page, "ann")
        page.goto("/")
        assert page.locator("tbody tr").count() == 1
        page.get_by_role("link", name=str(number), exact=True).click()
        assert page.inner_text("h1") == f"Request {number}: received"
        assert "ertificate" not in page.inner_text("main")


@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (WIDE, True), (PHONE, True)])
def test_every_page_fits_and_can_be_read_and_done_by_key(
    site: Site, width: int, dark: bool
) -> None:
    certified, hostile = (site.numbers[one] for one in ("certified", "hostile"))
    missing = FAILED.format("404 (Not Found)")
    with visiting(site.browser, site.home, width=width, dark=dark, but=missing) as page:
        paper = set()
        for path in (
            "/login",
            "/",
            f"/requests/{certified}",
            f"/requests/{hostile}",
            "/certificates/1",
            "/certificates/1/page",
            "/nothing",
        ):
            page.goto(path)
            check_look(page)
            check_keys(page)
            paper.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            site.enter(page, "rob")
        assert paper == {"rgb(23, 25, 28)" if dark else "rgb(255, 255, 255)"}


# --- the report


@pytest.fixture(scope="module")
def report(shared: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The page of a study with figures, galleries and claims."""
    return shared("report", write_page) / "report.html"


@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (PHONE, True)])
def test_a_report_fits_and_can_be_read_and_done_by_key(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    with visiting(browser, width=width, dark=dark) as page:
        page.goto(report.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        check_look(page)
        check_keys(page)


def test_a_column_is_sorted_by_click_and_by_key_and_no_other_table_moves(
    browser: Browser, report: Path
) -> None:
    cells = """table => [...[...table.tBodies].at(-1).rows]
        .map((row) => Number(row.cells[2].dataset.value))"""
    with visiting(browser) as page:
        page.goto(report.as_uri())
        first, second = page.locator("table.papers").nth(0), page.locator("table.papers").nth(1)
        head, fixed = first.locator("thead th").nth(2), first.locator("tbody").nth(0).inner_text()
        before, other = first.evaluate(cells), second.inner_text()
        head.locator("button").click()
        assert first.evaluate(cells) == sorted(before) != before
        assert head.get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Enter")
        assert first.evaluate(cells) == sorted(before, reverse=True)
        assert head.get_attribute("aria-sort") == "descending"
        page.keyboard.press("Enter")
        assert first.evaluate(cells) == before
        assert first.locator("tbody").nth(0).inner_text() == fixed, "yardsticks stay"
        assert second.inner_text() == other


def test_printing_leaves_the_page_as_it_was(browser: Browser, report: Path, tmp_path: Path) -> None:
    with visiting(browser) as page:
        page.goto(report.as_uri())
        buttons = page.locator("thead button").count()
        page.pdf(path=tmp_path / "report.pdf")
        assert page.locator("thead button").count() == buttons > 0


def test_five_hundred_rows_are_sorted_at_once(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    before, mark, after = report.read_text(encoding="utf-8").partition('<details class="runs"')
    rows = re.findall("(?s)<tbody>(.*?)</tbody>", after)[0]
    many = rows * -(-500 // rows.count("<tr"))
    file = tmp_path / "report.html"
    file.write_text(before + mark + after.replace(rows, many, 1), encoding="utf-8")
    with visiting(browser) as page:
        page.goto(file.as_uri())
        count, longest = page.evaluate(SORT)
        assert count >= 500 and longest < LAG_MS
