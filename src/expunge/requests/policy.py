"""What laws say about deadlines, as data: the file that Expunge ships, or one's own on top of it."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from expunge.disk.reading import parse_yaml, read_yaml, reading
from expunge.errors import ConfigError, listed, nearest

SHIPPED = "policies.yaml"


class _Data(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Span(_Data):
    """A time from the day of receipt, which is not counted. Exactly one of the three is given.

    Attributes:
        months: of the calendar, to the day of the same number or the last of a shorter month.
        days: of the calendar.
        business_days: working days of the policy's place.
    """

    months: int | None = Field(default=None, ge=1, le=24)
    days: int | None = Field(default=None, ge=1, le=730)
    business_days: int | None = Field(default=None, ge=1, le=250)

    @model_validator(mode="after")
    def _one_of_them(self) -> Span:
        if sum(one is not None for one in (self.months, self.days, self.business_days)) != 1:
            raise ValueError("give one of months, days and business_days, as in {months: 1}")
        return self

    def __str__(self) -> str:
        """`1 month`, `45 days`, `10 business days`."""
        name, number = next(iter(self.model_dump(exclude_none=True).items()))
        words = name.replace("_", " ")
        return f"{number} {words if number > 1 else words.removesuffix('s')}"


def _check_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        there = sorted(zoneinfo.available_timezones())
        raise ValueError(
            f"no such time zone{nearest(name, there)}; give a name of the IANA database, such as "
            f"Europe/Berlin, America/Los_Angeles or UTC ({len(there)} are installed)"
        ) from None
    return name


def _check_place(place: str) -> str:
    import holidays

    there = holidays.list_supported_countries(include_aliases=False)
    country, _, part = place.partition("-")
    if country not in there:
        raise ValueError(
            f"no such country{nearest(country, there)}; give two letters of ISO 3166, such as DE, and "
            f"its subdivision where that has holidays of its own, such as DE-BE; there are: "
            f"{', '.join(sorted(there))}"
        )
    if "-" in place and part not in there[country]:
        known = [f"{country}-{one}" for one in sorted(there[country])]
        told = f"there are: {listed(known)}" if known else f"{country} has none here"
        raise ValueError(f"no such part of {country}{nearest(place, known)}; {told}")
    return place


_Text = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class Policy(_Data):
    """One law's deadlines, and where they are counted; `policies.yaml` explains the fields."""

    title: _Text
    source: _Text
    zone: Annotated[_Text, AfterValidator(_check_zone)]
    place: Annotated[_Text, AfterValidator(_check_place)]
    confirm: Span | None = None
    answer: Span
    extended: Span | None = None
    next_working_day: bool
    window: Literal["day", "week", "month"] | None = None
    keep: Span = Span(days=30)

    @cached_property
    def clock(self) -> zoneinfo.ZoneInfo:
        """The zone itself."""
        return zoneinfo.ZoneInfo(self.zone)


Policies = Mapping[str, Policy]
"""By the name of the law, as a request gives it: `gdpr`, `ccpa`."""


def read_policies(file: str | Path | None = None) -> Policies:
    """The shipped laws; with a file, what it says in place of them or besides.

    A law that Expunge ships needs only the fields that differ; a new one needs them all.

    Raises ConfigError, which names the file, the law, the field and its value, and the remedy.
    """
    shipped = _mapping(
        parse_yaml((files(__package__) / SHIPPED).read_text(encoding="utf-8"))[0], SHIPPED
    )
    if file is None:
        return MappingProxyType({law: _policy(law, one, SHIPPED) for law, one in shipped.items()})
    with reading(f"the policies {file}", "give a YAML file of laws", ConfigError):
        own = _mapping(read_yaml(Path(file))[0], str(file))
    merged = {**shipped, **{law: {**shipped.get(law, {}), **own[law]} for law in own}}
    return MappingProxyType({law: _policy(law, one, str(file)) for law, one in merged.items()})


def policy_of(law: str, policies: Policies) -> Policy:
    """The policy of a law. Raises ConfigError for one that there is not."""
    if law not in policies:
        raise ConfigError(
            f"no policy for the law {law!r:.100}{nearest(law, policies)}; there are: "
            f"{listed(policies)}; write another into a file of policies, or give a due date"
        )
    return policies[law]


def _mapping(content: Any, file: str) -> dict[str, dict[str, Any]]:
    """Laws with their fields, not yet checked."""
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{file} holds no laws; write some, such as `gdpr: {{place: FR}}`")
    for law, fields in content.items():
        if not isinstance(law, str) or not isinstance(fields, dict):
            raise ConfigError(
                f"{file}: {law!r:.100}: {fields!r:.100} is no law with its fields; write a name and "
                "fields, such as `gdpr: {place: FR}`"
            )
    return content


def _policy(law: str, fields: dict[str, Any], file: str) -> Policy:
    try:
        return Policy.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        raise ConfigError(f"{file}: {law}: {name} is missing; {SHIPPED} explains the fields")
    if problem["type"] == "extra_forbidden":
        known = Span.model_fields if "." in name else Policy.model_fields
        close = nearest(name.rpartition(".")[2], known)
        raise ConfigError(f"{file}: {law} has no field {name!r}{close}; there are: {listed(known)}")
    said = str(problem["msg"]).removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    raise ConfigError(f"{file}: {law}: {name} = {problem['input']!r:.100}: {said}")
