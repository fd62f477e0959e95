"""By which method an audited model forgot, so that other models can be made to forget by it too."""

from __future__ import annotations

from expunge.errors import ConfigError
from expunge.methods import Method, make_method
from expunge.trained.trained import Trained


def method_of(subject: Trained, *, allow_code: bool) -> Method:
    """The method that made a model, with its settings.

    allow_code: whether a method that is `module:Class` may be imported. Raises ConfigError for a model
    that forgot nothing, or more than once, and for a method that is not here any more.
    """
    requests = [record for record in subject.history if record.forgotten]
    if len(requests) != 1:
        raise ConfigError(
            f"{subject.name} forgot in {len(requests)} requests, and others are to forget as in one; "
            "give the model of a single request"
        )
    if subject.redacted:
        raise ConfigError(
            f"{subject.name} is redacted, and what others are to forget goes by ids; give the folder "
            "before it was"
        )
    made = requests[0]
    method = make_method(made.step, made.settings, allow_code=allow_code)
    if method.takes_part:
        raise ConfigError(
            f"{method.name} took part in the training of {subject.name}, and models of a bank are "
            "trained without it; leave out what compares with these"
        )
    return method
