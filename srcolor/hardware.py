"""Device, precision and memory layout that suit the machine; process-wide options; memory use on a CPU."""

import ctypes
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from srcolor.errors import UserError

ACCELERATORS = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "32", "32-true", "bf16-mixed")  # weights stay float32, as evaluation needs
WORTHWHILE = 1.2  # minimum speedup for training in bfloat16 on a CPU


class Hardware(NamedTuple):
    """The hardware settings of a run.

    Attributes:
        accelerator: `cuda` or `cpu`.
        precision: Lightning's name for the precision of training; evaluation is always float32.
        channels_last: Whether activations are stored with the channels innermost.
    """

    accelerator: str
    precision: str
    channels_last: bool

    def __str__(self) -> str:
        """Describe the settings in one line."""
        device = torch.cuda.get_device_name() if self.accelerator == "cuda" else self.accelerator.upper()
        threads = f", {torch.get_num_threads()} threads" if self.accelerator == "cpu" else ""
        layout = ", channels last" if self.channels_last else ""
        return f"{device}{threads}, {self.precision}{layout}"


def choose(accelerator: str = "auto", precision: str = "auto", processes: int = 1) -> Hardware:
    """Resolve `auto` for this machine.

    The accelerator: CUDA if available, else the CPU. MPS is not supported: it lacks float64, which the metrics require,
    and antialiased bicubic interpolation. The precision: bfloat16 where the hardware multiplies it (CUDA from Ampere
    on, CPUs with AVX512-BF16 or AMX) and, on a CPU, is measured to be faster, see `bfloat16_gain`; else float32.
    Multiple CPU processes always use float32, as a measurement can differ between them. Channels last on both: a step
    of `residual` took 1.5 times as long without it, in either precision, on a CPU with AVX512-BF16.

    Args:
        accelerator: One of `ACCELERATORS`.
        precision: One of `PRECISIONS`, Lightning's names.
        processes: Number of processes that train together; more than 1 with DDP.

    Raises:
        UserError: If the accelerator is unknown or unavailable, or the precision is unknown.
    """
    if accelerator not in ACCELERATORS:
        raise UserError(f"accelerator={accelerator}: expected one of {', '.join(ACCELERATORS)}.")
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError(f"accelerator={accelerator}: PyTorch finds no CUDA device. Use auto or cpu.")
    if str(precision) not in PRECISIONS:
        raise UserError(f"trainer.precision={precision}: expected one of {', '.join(PRECISIONS)}.")
    if precision == "auto":
        precision = "bf16-mixed" if _multiplies_bfloat16(accelerator, processes) else "32-true"
    return Hardware(accelerator, str(precision), channels_last=True)


def _multiplies_bfloat16(accelerator: str, processes: int) -> bool:
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if processes > 1:
        return False
    # PyTorch has no public function for AVX512-BF16; a missing function counts as unsupported.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks) and bfloat16_gain() >= WORTHWHILE


@lru_cache
def bfloat16_gain() -> float:
    """Measure the speedup of convolutions in bfloat16 over float32 on this CPU, in a tenth of a second.

    Instruction sets do not predict it: with bfloat16, an AMD EPYC with AVX512-BF16 trained twice as fast, but an Intel
    Xeon with AVX512-BF16 and without AMX took 1.5 times as long.
    """
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(6):  # alternate and take the minimum, as other programs disturb both
        for dtype, times in seconds.items():
            image, weight = torch.ones(4, 64, 64, 64, dtype=dtype), torch.ones(64, 64, 3, 3, dtype=dtype)
            image = image.contiguous(memory_format=torch.channels_last)
            start = time.perf_counter()
            F.conv2d(image, weight, padding=1)
            times.append(time.perf_counter() - start)
    return min(seconds[torch.float32]) / min(seconds[torch.bfloat16])


def setup() -> None:
    """Set the process-wide options of all commands.

    Convolutions in float32 use float32 instead of TF32 with its mantissa of 10 bits: for speed, training uses bfloat16.
    glibc keeps freed memory for reuse, see `keep_memory`.
    """
    torch.backends.cudnn.allow_tf32 = False
    keep_memory()


def keep_memory() -> None:
    """Make glibc keep freed memory, up to 1 GiB, instead of returning it to the system (Linux only).

    By default glibc returns blocks of 32 MB and more immediately, and smaller ones soon after. Faulting them in again
    took half of the time of inference on large images on a virtual machine.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl has no mallopt
            mallopt = ctypes.CDLL(None).mallopt
            for option in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
                mallopt(option, 2**30)


def cpu_memory_mb(work: Callable[[], Any]) -> float:
    """Measure the peak memory in MiB that tensors allocate on the CPU during a call, with PyTorch's profiler.

    Tensors that existed before, and memory of PyTorch itself and its caches, do not count.
    """
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        record.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event["args"]["Bytes"] for event in events if event.get("name") == "[memory]"]
    return max(itertools.accumulate(changes), default=0) / 2**20


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard the messages that the profiler's C++ library writes to standard error at every start."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def copy_to_host(value: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """Start to copy a tensor; return the copy and the event after which it may be read, None for a CPU."""
    copy = value.to("cpu", non_blocking=True)
    if not value.is_cuda:
        return copy, None
    event = torch.cuda.Event()
    event.record()
    return copy, event
