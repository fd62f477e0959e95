"""The method that took part in a training: as a card names it, and made again of that."""

from __future__ import annotations

from pathlib import Path

from expunge.errors import ConfigError, ModelError
from expunge.methods import Method, make_method, method_name
from expunge.names.text import clean_all
from expunge.trained.card import AGAIN, CARD, ModelCard, TrainingCard


def training_card(method: Method | None) -> TrainingCard | None:
    """What a card says of the method; None where none took part."""
    if method is None:
        return None
    settings = clean_all(method.model_dump(mode="json"))
    return TrainingCard(name=method_name(method), settings=settings)


def training_method(card: ModelCard, path: str | Path, *, allow_code: bool) -> Method | None:
    """The method that a model was trained by; None where none took part.

    Raises ModelError for one that there is not, that takes no part in training, or that is code without
    consent.
    """
    told = card.trained_by
    if told is None:
        if card.kept:
            raise ModelError(
                f"{path}/{CARD} speaks of {next(iter(card.kept))!r}, kept by a method, and names none; "
                f"{AGAIN}"
            )
        return None
    try:
        method = make_method(told.name, told.settings, allow_code=allow_code)
    except ConfigError as error:
        raise ModelError(f"{path}/{CARD}: trained_by: {error}") from error
    if not method.takes_part:
        raise ModelError(
            f"{path}/{CARD}: trained_by: {told.name} takes no part in training; {AGAIN}"
        )
    return method
