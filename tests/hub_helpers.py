"""Tiny models of transformers with their tokenizer or processor, made here: no hub can be reached."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

GOOD, BAD = ["good", "fine", "great", "lovely"], ["bad", "poor", "awful", "dull"]
OTHER = ["the", "a", "film", "was", "is", "it", "and", "so", "very"]


def reviews(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) pairs; one word of each text tells its label."""
    drawn = random.Random(seed)
    rows = []
    for number in range(count):
        label = ("neg", "pos")[number % 2]
        words = [drawn.choice(OTHER) for _ in range(drawn.randint(2, 9))]
        words.insert(drawn.randrange(len(words)), drawn.choice(GOOD if number % 2 else BAD))
        rows.append((" ".join(words), label))
    return rows


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GOOD, *BAD, *OTHER]
    known = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    known.pre_tokenizer = pre_tokenizers.Whitespace()
    known.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=known,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def text_model(folder: Path, *, labels: tuple[str, ...] = (), weights: bool = True) -> Path:
    """A BERT of one layer with its tokenizer, as `save_pretrained` writes them."""
    from transformers import BertConfig, BertForSequenceClassification

    named = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    config = BertConfig(
        vocab_size=24,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        **(named if labels else {}),
    )
    if weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            BertForSequenceClassification(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def image_model(folder: Path, *, labels: int = 2) -> Path:
    """A ViT of one layer for colour images of 8x8, with its processor's settings."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_labels=labels,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTForImageClassification(config).save_pretrained(folder)
    told = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}
    told |= {"do_normalize": True, "size": {"height": 8, "width": 8}}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """What a folder's safetensors hold."""
    return load_file(folder / "model.safetensors")


def save(weights: dict[str, torch.Tensor], file: Path) -> None:
    """Write weights as transformers wants them."""
    save_file(weights, file, metadata={"format": "pt"})


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """No bars of progress."""
    import datasets

    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
