"""Which arithmetic suits a device."""

from __future__ import annotations

import torch


def has_fast_bf16(device: torch.device | str) -> bool:
    """Tells whether bfloat16 matrix products are faster than float32 ones on a device.

    A CPU without bfloat16 instructions emulates them, which can be hundreds of times slower than float32, so
    callers should warn before they start a bf16 run there.

    Args:
        device: A torch device or its name, for example ``"cpu"`` or ``"cuda:0"``.

    Returns:
        True for CUDA devices of compute capability 8.0 and up, and for CPUs with AVX512-BF16, AMX-BF16 or the Arm
        BF16 extension. False where support cannot be established.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and _cpu_has_bf16()


def instead_of_bf16(device: torch.device | str) -> str:
    """What to train in on a device without bfloat16 arithmetic, in Lightning's words."""
    return "16-mixed" if torch.device(device).type == "cuda" else "32-true"


def choose_float32(training: bool) -> None:
    """Lets the tensor cores of a GPU multiply float32 numbers while a network is trained, and only then.

    They keep 10 of 23 bits (TF32), which training does not notice; figures of a test shall not depend on the GPU.

    Args:
        training: Whether a network is about to be trained.
    """
    torch.set_float32_matmul_precision("high" if training else "highest")
    torch.backends.cudnn.allow_tf32 = training


def _cpu_has_bf16() -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        known = capabilities()
        return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16", "arm_bf16"))
    # older releases of torch have only these private probes
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in probes)
