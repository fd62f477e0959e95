"""Which arithmetic a training step runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 natively, not by emulation.

    A processor that has the instructions may be told to leave them (ATEN_CPU_CAPABILITY=avx2).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        allowed = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        return allowed and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def resolve_precision(asked: str, model: nn.Module, device: torch.device) -> str:
    """`auto` becomes bfloat16 for models with convolutions where the processor has it.

    Small linear layers lose more to the casts than they gain.
    """
    if asked != "auto":
        return asked
    convolutional = any(isinstance(module, CONVOLUTIONS) for module in model.modules())
    return "bfloat16" if convolutional and has_bfloat16(device) else "float32"


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that a forward pass runs in: autocast for bfloat16, else nothing."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolutions of float32 in float32, for what is measured; as they were, afterwards.

    torch lets a GPU round their inputs to the 10 bits of TF32 by default: an error of 0.1 percent a
    layer, by which a sample alone differs from the same sample in a batch. Training keeps that choice.
    """
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if convolutions is not None and hasattr(convolutions, "fp32_precision"):
        before = convolutions.fp32_precision
        convolutions.fp32_precision = "ieee"
        try:
            yield
        finally:
            convolutions.fp32_precision = before
        return
    allowed = torch.backends.cudnn.allow_tf32  # torch before 2.9 has no other name for it
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
