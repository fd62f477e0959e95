"""Due dates as a person reads them: by the clock of the law that sets them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from expunge.errors import ConfigError
from expunge.requests.ledger import Ledger, moment
from expunge.requests.policy import Policies, Policy, policy_of, read_policies

POLICIES = "policies.yaml"
"""In a ledger's folder: policies of one's own."""


def policies_of(ledger: Ledger) -> Policies:
    """The policies that hold for a ledger: its own file's over those that ship."""
    own = ledger.folder / POLICIES
    if not own.is_file():
        return _read(None)
    now = own.stat()
    return _read(own, now.st_mtime_ns, now.st_size)


@lru_cache(maxsize=8)
def _read(file: Path | None, *_: int) -> Policies:
    """Policies, read once for as long as their file stays as it is: a server asks for every page."""
    return read_policies(file)


@dataclass(frozen=True)
class LawClocks:
    """The zone in which each law counts. law: the ledger's own, for dates that were given."""

    policies: Policies
    law: str

    @classmethod
    def of(cls, ledger: Ledger) -> LawClocks:
        """Those of a ledger."""
        return cls(policies_of(ledger), ledger.setting("law"))

    @property
    def own(self) -> Policy:
        """The policy of the ledger's own law. Raises ConfigError where there is none."""
        return policy_of(self.law, self.policies)

    def zone(self, law: str | None) -> ZoneInfo:
        """Of a request's law; UTC where no policy knows it any more."""
        try:
            return policy_of(law or self.law, self.policies).clock
        except ConfigError:
            return ZoneInfo("UTC")

    def day(self, stamped: str, law: str | None) -> str:
        """The day of a moment that a ledger wrote: `2026-12-28`."""
        return moment(stamped).astimezone(self.zone(law)).date().isoformat()

    def told(self, stamped: str, law: str | None) -> str:
        """A moment that a ledger wrote: `2026-12-28 23:59 Europe/Berlin`."""
        return in_zone(moment(stamped), self.zone(law))

    def days_left(self, stamped: str, law: str | None, now: datetime) -> int:
        """Days until the day of a moment; below 0 once that is past."""
        zone = self.zone(law)
        return (moment(stamped).astimezone(zone).date() - now.astimezone(zone).date()).days


def in_zone(at: datetime, zone: tzinfo) -> str:
    """`2026-12-28 23:59 Europe/Berlin`."""
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M} {zone}"
