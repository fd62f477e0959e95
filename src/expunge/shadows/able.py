"""Whether a bank can be made for a model, told of what its folder says, without torch."""

from __future__ import annotations

from expunge.errors import ConfigError
from expunge.methods import Method


def check_able(
    name: str,
    *,
    recipe: bool,
    forgot: bool,
    redacted: bool,
    trained_by: Method | None,
) -> None:
    """Raise ConfigError for a model that no bank is made for; all of it stands in its folder's papers.

    recipe: whether it says how it was trained. forgot: whether it was made to forget anything.
    """
    if redacted:
        raise ConfigError(
            f"{name} is redacted, and a bank holds ids; give the folder before it was, or none"
        )
    if forgot:
        raise ConfigError(
            f"{name} has forgotten, and a bank is of the model before; give the folder that it was made "
            "from: its bank serves all that is forgotten from it"
        )
    if trained_by is not None:
        raise ConfigError(
            f"{name} was trained by {trained_by.name}, and a bank trains plain models; audits that need "
            "a bank cannot judge it"
        )
    if not recipe:
        raise ConfigError(
            f"{name} does not say how it was trained, and a bank trains such models; import it with "
            "--recipe"
        )
