"""Due dates, by hand and against a slow walk over the calendar."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from expunge.errors import ConfigError
from expunge.requests.clocks import LawClocks
from expunge.requests.deadlines import due_dates, extended_due, is_working_day, window_end
from expunge.requests.policy import Policies, read_policies

BERLIN = ZoneInfo("Europe/Berlin")
CALIFORNIA = ZoneInfo("America/Los_Angeles")


@pytest.mark.parametrize(
    ("window", "at", "end"),
    [
        ("day", "2026-05-04", "2026-05-04"),
        ("week", "2026-05-04", "2026-05-10"),  # from Monday to Sunday
        ("week", "2026-05-10", "2026-05-10"),
        ("month", "2028-02-03", "2028-02-29"),
        ("month", "2026-12-31", "2026-12-31"),
    ],
)
def test_windows_end_with_their_day_week_or_month(
    window: str, at: str, end: str, own: Callable[[str], Policies]
) -> None:
    policy = own(f"gdpr: {{window: {window}}}")["gdpr"]
    found = window_end(datetime.fromisoformat(f"{at}T00:30").replace(tzinfo=BERLIN), policy)
    assert found is not None and found.isoformat()[:19] == f"{end}T23:59:59"
    assert found.tzinfo == BERLIN
    assert window_end(noon(at), own("gdpr: {place: FR}")["gdpr"]) is None


def test_a_date_is_told_by_the_clock_of_its_law(shipped: Policies) -> None:
    clocks = LawClocks(shipped, "ccpa")
    late = "2026-12-29T07:59:59Z"  # in California the evening before
    assert clocks.told(late, "ccpa") == "2026-12-28 23:59 America/Los_Angeles"
    assert clocks.told(late, "gdpr") == "2026-12-29 08:59 Europe/Berlin"
    assert clocks.told(late, None) == clocks.told(late, "ccpa"), "a date that was given"
    assert clocks.told(late, "gone") == "2026-12-29 07:59 UTC"
    evening = datetime(2026, 12, 29, 7, tzinfo=UTC)
    assert [clocks.days_left(late, law, evening) for law in ("ccpa", "gdpr")] == [0, 0]
    assert clocks.days_left(late, "ccpa", evening + timedelta(hours=1)) == -1


@pytest.fixture(scope="module")
def shipped() -> Policies:
    return read_policies()


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Policies]:
    def read(text: str) -> Policies:
        file = tmp_path / "own.yaml"
        file.write_text(text)
        return read_policies(file)

    return read


def noon(day: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=zone)


def due_day(day: str, policies: Policies, law: str = "gdpr") -> str:
    return due_dates(noon(day, policies[law].clock), law, policies).due_at.date().isoformat()


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2024-01-29", "2024-02-29"),  # a leap year
        ("2024-01-30", "2024-02-29"),
        ("2024-01-31", "2024-02-29"),
        ("2025-01-28", "2025-02-28"),
        ("2025-01-29", "2025-02-28"),  # an ordinary year
        ("2025-01-30", "2025-02-28"),
        ("2025-01-31", "2025-02-28"),
        ("2022-08-31", "2022-09-30"),  # a Friday
        ("2026-08-31", "2026-09-30"),
        ("2026-03-03", "2026-04-07"),  # Good Friday: past the weekend and Easter Monday
        ("2026-03-06", "2026-04-07"),  # Easter Monday
        ("2026-04-01", "2026-05-04"),  # 1 May, a Friday
        ("2025-04-01", "2025-05-02"),  # 1 May, a Thursday
        ("2026-11-24", "2026-12-24"),
        ("2026-11-25", "2026-12-28"),  # Christmas and the weekend after
    ],
)
def test_a_month_ends_on_a_working_day(received: str, due: str, shipped: Policies) -> None:
    assert due_day(received, shipped) == due


def next_month(day: date) -> date:
    """One month on, by walking: the same number, or the last day of the month."""
    last = day
    while last.month == day.month:
        last += timedelta(days=1)
    month = last.month
    while last.day < day.day and (last + timedelta(days=1)).month == month:
        last += timedelta(days=1)
    return last


def test_every_day_of_four_years_against_a_walk_over_the_calendar(shipped: Policies) -> None:
    day = date(2023, 1, 1)
    while day < date(2027, 1, 1):
        last = next_month(day)
        while not is_working_day(last, "DE"):
            last += timedelta(days=1)
        assert due_day(day.isoformat(), shipped) == last.isoformat()
        day += timedelta(days=1)


def test_holidays_are_those_of_the_named_place(own: Callable[[str], Policies]) -> None:
    women = due_day("2027-02-08", own("gdpr: {place: DE-BE}"))
    assert women == "2027-03-09", "8 March is a holiday in Berlin"
    assert due_day("2027-02-08", own("gdpr: {place: DE-BY}")) == "2027-03-08"
    assert due_day("2026-06-14", own("gdpr: {zone: Europe/Paris, place: FR}")) == "2026-07-15"


def test_the_day_of_receipt_is_that_of_the_controller(own: Callable[[str], Policies]) -> None:
    evening = datetime(2026, 5, 15, 23, 30, tzinfo=UTC)  # Friday; Saturday, 01:30, in Berlin
    berlin = due_dates(evening, "gdpr", own("gdpr: {}")).due_at
    lisbon = due_dates(evening, "gdpr", own("gdpr: {zone: Atlantic/Azores}")).due_at
    assert (berlin.date(), lisbon.date()) == (date(2026, 6, 16), date(2026, 6, 15))
    same = evening.astimezone(ZoneInfo("Asia/Tokyo"))
    assert due_dates(same, "gdpr", own("gdpr: {}")).due_at == berlin


def test_due_at_the_end_of_the_day_on_either_side_of_a_clock_change(shipped: Policies) -> None:
    winter = due_dates(noon("2026-02-27"), "gdpr", shipped).due_at
    summer = due_dates(noon("2026-03-30"), "gdpr", shipped).due_at
    assert winter.isoformat() == "2026-03-27T23:59:59+01:00"
    assert summer.isoformat() == "2026-04-30T23:59:59+02:00"
    early = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # 03:30 in Berlin, as 02:30 there is none
    assert due_dates(early, "gdpr", shipped).due_at.isoformat() == "2026-04-29T23:59:59+02:00"


def test_a_day_whose_last_hour_comes_twice_ends_with_the_second(
    own: Callable[[str], Policies],
) -> None:
    policies = own("ccpa: {zone: America/Santiago, place: CL, answer: {days: 1}}")
    due = due_dates(datetime(2026, 4, 3, 15, tzinfo=UTC), "ccpa", policies).due_at
    assert due.isoformat() == "2026-04-04T23:59:59-04:00"


def test_an_extension_is_counted_from_receipt(shipped: Policies) -> None:
    received = noon("2025-11-30")
    assert due_dates(received, "gdpr", shipped).due_at.date() == date(2025, 12, 30)
    later = extended_due(received, "gdpr", noon("2025-12-30"), "a large model", shipped)
    assert later.date() == date(2026, 3, 2), "28 February is a Saturday"
    later = extended_due(noon("2026-03-30"), "gdpr", noon("2026-04-01"), "a large model", shipped)
    assert later.date() == date(2026, 6, 30)


def test_an_extension_told_in_the_last_second_counts_and_one_after_is_refused(
    shipped: Policies,
) -> None:
    received = noon("2026-01-15")
    last = datetime(2026, 2, 16, 22, 59, 59, 999_999, tzinfo=UTC)  # the 15th is a Sunday
    assert extended_due(received, "gdpr", last, "many requests", shipped).date() == date(
        2026, 4, 15
    )
    with pytest.raises(ConfigError, match=r"too late.*told on 2026-02-17.*by 2026-02-16"):
        extended_due(received, "gdpr", last + timedelta(microseconds=1), "many requests", shipped)
    with pytest.raises(ConfigError, match="before the request"):
        extended_due(received, "gdpr", received - timedelta(seconds=1), "many requests", shipped)
    with pytest.raises(ConfigError, match="only with reasons"):
        extended_due(received, "gdpr", last, " ", shipped)


def test_no_extension_where_the_law_knows_none(own: Callable[[str], Policies]) -> None:
    with pytest.raises(ConfigError, match="GDPR knows no extension"):
        extended_due(
            noon("2026-01-15"), "gdpr", noon("2026-01-16"), "why", own("gdpr: {extended: null}")
        )


def test_business_days_pass_over_thanksgiving(shipped: Policies) -> None:
    due = due_dates(noon("2026-11-16", CALIFORNIA), "ccpa", shipped)
    assert due.confirm_by is not None
    # 17 to 20, 23 to 25, 30, 1, 2: neither Thanksgiving nor the day after, in California
    assert due.confirm_by.isoformat() == "2026-12-02T23:59:59-08:00"
    assert due.due_at.isoformat() == "2026-12-31T23:59:59-08:00"
    later = extended_due(
        noon("2026-11-16", CALIFORNIA), "ccpa", noon("2026-12-31", CALIFORNIA), "why", shipped
    )
    assert later.date() == date(2026, 11, 16) + timedelta(days=90)
    assert due_day("2026-11-10", shipped, "ccpa") == "2026-12-25", "calendar days, holiday or not"


def test_the_united_kingdom_is_data_alone(shipped: Policies) -> None:
    assert due_day("2026-07-31", shipped, "uk-gdpr") == "2026-09-01", "31 August is a bank holiday"
    assert due_dates(noon("2026-07-31"), "uk-gdpr", shipped).confirm_by is None


def test_a_time_without_a_zone_is_refused(shipped: Policies) -> None:
    naive = datetime(2026, 1, 15, 12)
    with pytest.raises(ConfigError, match=r"received_at .* no time zone.*\+00:00"):
        due_dates(naive, "gdpr", shipped)
    with pytest.raises(ConfigError, match=r"told_at .* no time zone"):
        extended_due(noon("2026-01-15"), "gdpr", naive, "why", shipped)
    with pytest.raises(ConfigError, match="check the clock"):
        due_dates(datetime.max.replace(tzinfo=UTC), "gdpr", shipped)


def test_an_unknown_law_is_named_with_what_there_is(shipped: Policies) -> None:
    message = "'gdrp', did you mean 'gdpr'.*gdpr, ccpa, uk-gdpr"
    with pytest.raises(ConfigError, match=message):
        due_dates(noon("2026-01-15"), "gdrp", shipped)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gdpr: {zone: Europe/Berln}", "gdpr: zone = 'Europe/Berln': .*mean 'Europe/Berlin'"),
        ("gdpr: {zone: ../etc}", "gdpr: zone = '../etc': no such time zone"),
        ("gdpr: {zone: Europe}", "gdpr: zone = 'Europe': no such time zone"),
        ("gdpr: {place: XX}", "gdpr: place = 'XX': no such country.*DE, .*FR"),
        ("gdpr: {place: DE-B}", "place = 'DE-B': no such part of DE.*there are: .*DE-BE"),
        ("gdpr: {place: DE-}", "place = 'DE-': no such part"),
        ("gdpr: {answer: {months: 0}}", r"answer.months = 0: .*greater than or equal to 1"),
        ("gdpr: {answer: {months: true}}", "answer.months = True: .*integer"),
        ("gdpr: {answer: {months: 1, days: 2}}", "answer = .*give one of months, days"),
        ("gdpr: {answer: {}}", "answer = .*give one of months, days"),
        ("gdpr: {answer: {month: 1}}", "no field 'answer.month', did you mean 'months'"),
        ("gdpr: {answr: {months: 1}}", "no field 'answr', did you mean 'answer'.*extended"),
        ("gdpr: {next_working_day: 1}", "next_working_day = 1: .*boolean"),
        ("lgpd: {zone: UTC, place: BR}", "lgpd: title is missing"),
        ("gdpr: 3", "'gdpr': 3 is no law"),
        ("[gdpr]", "holds no laws"),
        ("", "holds no laws"),
        ("a: {b: [}", "cannot read the policies"),
    ],
)
def test_faults_of_a_file_are_told(text: str, message: str, own: Callable[[str], Policies]) -> None:
    with pytest.raises(ConfigError, match=message) as told:
        own(text)
    assert "own.yaml" in str(told.value) and "\n" not in str(told.value)


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml \(No such file"):
        read_policies(tmp_path / "none.yaml")


def test_a_law_of_ones_own_stands_beside_the_shipped(own: Callable[[str], Policies]) -> None:
    policies = own(
        "lgpd: {title: LGPD, source: Art. 19, zone: America/Sao_Paulo, place: BR, "
        "answer: {days: 15}, next_working_day: false}"
    )
    assert set(policies) == {"gdpr", "ccpa", "uk-gdpr", "lgpd"}
    assert due_day("2026-06-01", policies, "lgpd") == "2026-06-16"
    spans = [str(policies[law].answer) for law in ("gdpr", "ccpa", "lgpd")]
    assert spans == ["1 month", "45 days", "15 days"]
    assert str(policies["ccpa"].confirm) == "10 business days"
