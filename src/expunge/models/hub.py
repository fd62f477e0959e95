"""Models of transformers: made of a plain config, or of a pretrained base; no code of theirs is run.

Weights come from safetensors alone. `trust_remote_code` is never given: a model that brings its own
code is refused, and is written as `module:function` by whoever has looked at that code.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from expunge.disk.reading import UnreadableError, check_regular, read_json, reading
from expunge.errors import ConfigError, ModelError, UserError, listed
from expunge.names.code import in_a_line
from expunge.names.libraries import HUB, check_package, library_of

if TYPE_CHECKING:
    from torch import nn

HubKind = Literal["text", "image"]
CONFIG = "config.json"
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is fetched of a model of the hub: no pickles, no code."""
OURS = ("id2label", "label2id", "num_labels", "dtype", "torch_dtype", "auto_map", "_name_or_path")
"""Settings of a config that the data and this package give, or that name code or another's folder."""
LEAST = 2**17
"""Numbers in a config that say nothing of its model's size are no larger, in the smallest of models."""
MOST_LAYERS = 1000
"""Of a model, and entries of a list in its config."""
HEAD_BYTES = 2**13
"""For each class, what a head may have that the weights of its base lack."""
FROM_PADDING = ("roberta", "camembert", "longformer", "mpnet", "xmod", "data2vec", "ibert", "luke")
"""Kinds of models that number the places of tokens from one after the number of padding."""


@dataclass(frozen=True)
class HubModel:
    """Makes models of transformers for given classes.

    Attributes:
        kind: what they classify.
        config: settings as plain data, without classes.
        classes: names, by index of the logit.
        base: folder or name of pretrained weights that a fresh model begins with; empty: none.
        digest: of the base's weights; empty where nobody knows it.
    """

    kind: HubKind
    config: Mapping[str, Any]
    classes: tuple[str, ...]
    base: str = ""
    digest: str = ""

    def __call__(self) -> nn.Module:
        """A model that has not learned from the data: its base with a new head, or drawn at random.

        Draws come from torch's global generator.
        """
        return self.pretrained() if self.base else self.blank()

    def blank(self) -> nn.Module:
        """A model of the config alone, its weights drawn from torch's global generator."""
        with _building(self.base or str(self.config.get("model_type"))):
            made: nn.Module = _auto(self.kind).from_config(
                self._settings(), trust_remote_code=False
            )
            return made.float()

    def check_size(self, most_bytes: int | None = None) -> None:
        """Raise ModelError for settings of a model with more numbers than its weights have bytes, before
        any memory is taken.

        most_bytes: of the weights; None: those of its base, or without one what memory there is.
        """
        import psutil
        import torch

        if most_bytes is None:
            files = folder_of(HUB + self.base).glob("*.safetensors") if self.base else ()
            most_bytes = sum(file.stat().st_size for file in files)
            most_bytes += len(self.classes) * HEAD_BYTES
            if not self.base:
                most_bytes = psutil.virtual_memory().available // 4
        if _largest(self.config) > max(most_bytes, LEAST) or _deepest(self.config) > MOST_LAYERS:
            raise ModelError("the config has numbers that no model of such a size has")
        with torch.device("meta"):
            numbers = sum(one.numel() for one in self.blank().parameters())
        if numbers > most_bytes:
            raise ModelError(
                f"the config is of a model of {numbers:,} numbers, and there are {most_bytes:,} bytes "
                "of weights, or of memory, for it; give the config that belongs to them"
            )

    def check_pictures(self, shape: tuple[int, ...]) -> None:
        """Raise ConfigError for images of another size, or other colours, than the model takes."""
        import torch

        if len(shape) != 3:
            raise ConfigError(
                f"an input has the shape {shape}, and a model of images takes (channels, height, width)"
            )
        channels, size = self.config.get("num_channels", 3), self.config.get("image_size")
        if isinstance(channels, int) and shape[0] != channels:
            raise ConfigError(
                f"the images have {shape[0]} channels and the model takes {channels}; convert them, or "
                "choose another model"
            )
        wanted = [size, size] if isinstance(size, int) else size
        if not isinstance(wanted, list) or list(shape[1:]) == wanted:
            return
        try:  # convolutions take any size, whatever they were made for
            with torch.device("meta"), torch.no_grad():
                self.blank().eval()(torch.empty(1, *shape))
        except Exception as cause:  # whatever the model makes of them
            raise ConfigError(
                f"the images are {shape[1]}x{shape[2]} and the model takes {wanted[0]}x{wanted[1]}; "
                f"resize them: DATA@{wanted[0]}x{wanted[1]}"
            ) from cause

    def pretrained(self, *, whole: bool = False) -> nn.Module:
        """A model with the base's weights and a new head, drawn from torch's global generator: one that
        the base brings may have learned from the data.

        whole: keep the base's head, and refuse a base that lacks any weights. Raises ModelError for a
        base that is gone, has changed, or lacks weights of its body.
        """
        import torch

        check_base(self.base)
        folder = folder_of(HUB + self.base)
        if self.digest and digest_weights(folder) != self.digest:
            raise ModelError(
                f"the weights in {folder} have changed since this model was made of them; put them "
                "back, or train anew"
            )
        self.check_size()
        drawn = None if whole else self.blank().state_dict()
        with _building(str(folder)):
            made, told = _auto(self.kind).from_pretrained(
                folder,
                config=self._settings(),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        lacking = {one[0] if isinstance(one, tuple) else one for one in told["mismatched_keys"]}
        odd = sorted(lacking | set(told["missing_keys"]))
        if whole and odd:
            raise ModelError(
                f"{folder} lacks trained weights for {odd[0]} ({len(odd)} in all), so it is no "
                f"classifier of these {len(self.classes)} classes; train one of it: expunge train "
                f"--model {HUB}{folder}"
            )
        within = f"{made.base_model_prefix}."
        # a pooler is not in every pretraining
        body = [name for name in odd if name.startswith(within) and ".pooler." not in name]
        if body:
            raise ModelError(
                f"{folder} lacks weights for {body[0]} ({len(body)} of the model's body), or has them "
                "in another size: they are not those of its config.json; copy the whole folder again"
            )
        if drawn is not None:
            heads = [name for name in drawn if not name.startswith(within)]
            made.load_state_dict({name: drawn[name] for name in odd or heads}, strict=False)
        model: nn.Module = made
        return model

    def checkpoint(self, weights: str | Path | None) -> tuple[nn.Module, HubModel]:
        """A trained model, and what makes one that has learned nothing of what it has.

        weights: a file; None: the base's own. A base that holds these very weights has learned from
        the data, so no fresh model begins with it.
        """
        if weights is None:
            if not self.base:
                raise ModelError("its folder holds no weights; name a file of them with --weights")
            return self.pretrained(whole=True), replace(self, base="", digest="")
        with reading(weights, "name a file of weights", ModelError):
            self.check_size(check_regular(Path(weights)).st_size)
        network = self.blank()
        with Path(weights).open("rb") as stream:
            own = hashlib.sha256(hashlib.file_digest(stream, "sha256").digest()).hexdigest()
        return network, replace(self, base="", digest="") if own == self.digest else self

    def _settings(self) -> Any:
        """The config as transformers has it."""
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        kind = str(self.config.get("model_type"))
        if kind not in CONFIG_MAPPING:
            raise ModelError(
                f"transformers has no model of the type {kind!r}, and code that a model brings is not "
                "run; look at that code, and give it as module:function"
            )
        names = dict(enumerate(self.classes))
        labels = {name: number for number, name in names.items()}
        plain = {
            **plain_config(self.config),
            "return_dict": True,
            "id2label": names,
            "label2id": labels,
        }
        return CONFIG_MAPPING[kind].from_dict(plain)

    @classmethod
    def of_folder(cls, folder: Path, kind: HubKind, classes: Sequence[str], base: str) -> HubModel:
        """What a folder with a `config.json` makes; weights in it are the base.

        base: how to call the folder. Raises ModelError for a folder whose weights would have to be
        unpickled.
        """
        trained = sorted(folder.glob("*.safetensors"))
        pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pt")])
        if pickled and not trained:
            raise ModelError(
                f"{pickled[0]} would have to be unpickled; load it where you trust it, and write it "
                "again with save_pretrained, as safetensors"
            )
        own = (base, digest_weights(folder)) if trained else ("", "")
        return cls(kind, plain_config(read_config(folder)), tuple(classes), *own)

    @classmethod
    def of_module(cls, module: nn.Module, classes: Sequence[str]) -> HubModel | None:
        """What makes untrained models like a classifier of transformers; None for other modules."""
        library = sys.modules.get("transformers")
        if library is None or not isinstance(module, library.PreTrainedModel):
            return None
        for kind in ("text", "image"):
            mapped = _auto(kind)._model_mapping
            if type(module.config) in mapped and mapped[type(module.config)] is type(module):
                config = json.loads(module.config.to_json_string(use_diff=False))
                return cls(kind, plain_config(config), tuple(classes))
        return None


def _deepest(value: Any, name: str = "") -> int:
    """The most layers or experts that plain data name, or entries that a list in them has."""
    if isinstance(value, Mapping):
        return max((_deepest(one, str(own)) for own, one in value.items()), default=0)
    if isinstance(value, list):
        return max(len(value), *(_deepest(one, name) for one in value), 0)
    counts = any(part in name for part in ("layer", "depth", "block", "expert", "stage"))
    return value if counts and isinstance(value, int) else 0


def _largest(value: Any) -> int:
    """The largest whole number in plain data."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return abs(value) if isinstance(value, int) else 0


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that are the model's own."""
    if config.get("quantization_config"):
        raise ModelError(
            "the model is quantised, and such weights cannot be trained; give the model that it was "
            "made from"
        )
    return {name: _own(value) for name, value in config.items() if _is_own(name)}


def _is_own(name: str) -> bool:
    """Whether a setting is the model's own: what implements it is chosen here, for it may be code that
    is fetched.
    """
    return name not in OURS and name[:1] != "_" and "implementation" not in name


def _own(value: Any) -> Any:
    """The same plain data, without what is not the model's own."""
    if isinstance(value, Mapping):
        return {name: _own(one) for name, one in value.items() if _is_own(str(name))}
    return [_own(one) for one in value] if isinstance(value, list) else value


def folder_of(name: str) -> Path:
    """Where a model of transformers lies: a folder, or what is fetched of the hub.

    Raises ModelError where there is none.
    """
    own = name.removeprefix(HUB)
    folder = Path(own).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if not own or own[0] in "./~" or own.count("/") > 1:
        raise ModelError(f"there is no folder {own!r} of a model; name one with a {CONFIG}")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(own, allow_patterns=list(FILES), ignore_patterns=["*/*"])
        ).absolute()
    except Exception as cause:  # whatever the network or the hub say
        raise ModelError(
            f"{name} is no folder here, and the hub gives none ({in_a_line(cause)[:300]}); give a "
            f"folder with a {CONFIG}"
        ) from cause


def check_hub_model(name: str) -> None:
    """Raise ModelError where transformers is missing, or a folder that was typed; nothing is fetched."""
    check_package("transformers", name, ModelError)
    own = name.removeprefix(HUB)
    folder = Path(own).expanduser()
    if not folder.is_dir() and (not own or own[0] in "./~" or own.count("/") > 1):
        folder_of(name)
    if folder.is_dir() and not (folder / CONFIG).exists():
        raise ModelError(f"{folder} has no {CONFIG}, so it is no model of transformers; name one")


def lasting_hub(name: str) -> str:
    """The name of a model that means the same from another folder."""
    own = name.removeprefix(HUB)
    folder = Path(own).expanduser()
    return f"{HUB}{folder.absolute()}" if library_of(name) == "hf" and folder.is_dir() else name


def without_path(name: str) -> str:
    """The name of a model without where its folder lies, which may tell of somebody."""
    own = Path(name.removeprefix(HUB))
    return f"{HUB}{own.name}" if library_of(name) == "hf" and own.is_absolute() else name


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of a model's folder as plain data. Raises ModelError for what is none."""
    with reading(folder / CONFIG, "give a folder that save_pretrained wrote", ModelError):
        config = read_json(folder / CONFIG)
        if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
            raise UnreadableError("it names no model_type")
        return config


def class_names_of(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The class names that a model knows, by index; None where they are but LABEL_0 and so on."""
    named = config.get("id2label")
    if not isinstance(named, Mapping) or not named:
        return None
    try:
        by_index = {int(number): str(name) for number, name in named.items()}
        names = tuple(by_index[number] for number in range(len(by_index)))
    except (ValueError, KeyError) as error:
        raise ModelError("the config's id2label does not number its labels from 0") from error
    made_up = all(name == f"LABEL_{number}" for number, name in enumerate(names))
    return None if made_up else names


def labels_beside(name: str, weights: str | Path | None) -> tuple[str, ...] | None:
    """The class names of a trained model, which its config tells beside its weights; None: it does not.

    weights: a file; None: those in the folder of the model called `name`.
    """
    folder = folder_of(name) if weights is None else Path(weights).parent
    return class_names_of(read_config(folder)) if (folder / CONFIG).exists() else None


def check_labels(module: nn.Module, classes: Sequence[str]) -> None:
    """Raise ConfigError for a classifier of transformers that knows other classes than the data have,
    or the same in another order.
    """
    config = getattr(module, "config", None)
    told = getattr(config, "id2label", None)
    names = class_names_of({"id2label": told}) if isinstance(told, Mapping) else None
    if names is not None and names != tuple(classes):
        raise ConfigError(
            f"the model's classes are {listed(names)} (its config's id2label), and those of the data "
            f"{listed(classes)}; load the data by its names: load_data(..., classes={list(names)[:5]!r})"
        )


def check_base(base: str) -> None:
    """Raise ModelError for a folder of pretrained weights that is gone; the hub is not asked."""
    if ":" in base and not Path(base).is_absolute():  # it stands for one
        raise ModelError(
            "a retrained model begins with pretrained weights, and neither the folder, which is "
            "redacted, nor its key says where they lie; bring the key back from where it was kept"
        )
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(
            f"a retrained model begins with the pretrained weights of {base}, which is not there any "
            "more; put the folder back"
        )


def load_tokenizer(folder: Path, config: Mapping[str, Any]) -> Any:
    """The tokenizer in a folder, which knows how many tokens the model reads at most."""
    from transformers import AutoTokenizer

    with _building(str(folder), "no tokenizer can be loaded from"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    files = tokenizer.vocab_files_names.values()  # none where tokens are bytes
    if files and not any((folder / one).exists() for one in files):
        raise ModelError(f"{folder} holds no tokenizer; copy tokenizer.json there")
    told = tokenizer.model_max_length
    if isinstance(told, bool) or not isinstance(told, int | float) or not told >= 1:
        raise ModelError(
            f"{folder}/tokenizer_config.json has model_max_length {told!r:.40}, and it is the most "
            "tokens of a text; give a whole number from 1, or leave it out"
        )
    known = positions(config)
    tokenizer.model_max_length = int(told if known is None else min(told, known))
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def positions(config: Mapping[str, Any]) -> int | None:
    """The most tokens that a model has places for; None where its config does not say."""
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        return None
    shifted = any(kind in str(config.get("model_type")) for kind in FROM_PADDING)
    first = config.get("pad_token_id") or 0
    return max(1, most - first - 1) if shifted and isinstance(first, int) else most


def digest_weights(folder: Path) -> str:
    """Digest of all safetensors of a folder, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with reading(file, "copy the folder again", ModelError):
            check_regular(file)
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _auto(kind: HubKind | str) -> Any:
    import transformers

    if kind == "text":
        return transformers.AutoModelForSequenceClassification
    return transformers.AutoModelForImageClassification


@contextmanager
def _building(what: str, told: str = "no model can be made of") -> Iterator[None]:
    """Keep transformers quiet, and make one line of whatever it raises."""
    from transformers.utils import logging as library_logging

    logging: Any = library_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    except Exception as cause:  # whatever the library makes of a folder
        why = in_a_line(cause)[:300]
        if "install" in why:  # which package to trust is not for a folder to say
            why = "it needs a package that is not there"
        raise ModelError(
            f"{told} {what} ({why}); give a folder that save_pretrained wrote"
        ) from cause
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def check_tokens(config: Mapping[str, Any], vocabulary: int, length: int) -> None:
    """Raise ConfigError for tokens that a model does not know, or more than it has places for.

    vocabulary: the largest token, plus one. length: the most tokens of a text.
    """
    most = positions(config)
    if most is not None and length > most:
        raise ConfigError(
            f"the texts have up to {length} tokens, and the model reads {most}; tokenise them with "
            f"max_length={most}, or give the texts themselves"
        )
    known = config.get("vocab_size")
    if isinstance(known, int) and vocabulary > known:
        raise ConfigError(
            f"the texts have the token {vocabulary - 1}, and the model knows {known}; give the "
            "tokenizer that belongs to it"
        )
