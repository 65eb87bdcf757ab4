"""What devices hold and how fast they are: public data sheets, and assumptions that say so."""

from dataclasses import dataclass

from research.errors import HarkError, nearest

GB, MIB = 10**9, 2**20


@dataclass(frozen=True)
class Device:
    """A GPU, or the CPU, of which nothing is known until it is measured.

    `bf16` and `fp32` are the data sheet's rates of dense matrix products, accumulated in fp32. `fp32` is plain fp32
    without TF32, which torch leaves off for matrix products.
    """

    memory: int = 0  # bytes; 0: unknown
    bf16: float = 0.0  # FLOP/s of tensor cores; 0: it has none for bf16, and computes it as fp32
    fp32: float = 0.0  # FLOP/s
    bandwidth: float = 0.0  # bytes/s of its memory
    workspace: int = 0  # bytes that cuBLAS takes through torch at the first product, and keeps

    @property
    def cuda(self) -> bool:
        return self.memory > 0

    @property
    def context(self) -> int:
        """Bytes that CUDA, cuDNN and NCCL take for kernels and queues, outside of torch.

        What nvidia-smi shows of a process less what torch has reserved is 300 to 600 MiB; the upper end is assumed.
        """
        return 600 * MIB if self.cuda else 0


FRACTION = 0.35
"""Share of the peak rate, and of the bandwidth, that a training step is assumed to reach: an assumption, on purpose on
the low side. Published training runs of transformers report 0.3 to 0.5 of the peak (arXiv 2204.02311, table 3)."""

LAUNCH = 8e-6
"""Seconds that Python and torch are assumed to take for an operator: what a small model waits for. An assumption."""

FRAGMENTS = 0.05
"""Share of the peak that torch's allocator holds in pieces that fit nothing: an assumption. Batches of many lengths
need more than equal ones."""

HOPPER, OTHERS = (
    4096 * 8 * 1024,
    4096 * 2 * 1024 + 16 * 8 * 1024,
)  # torch's defaults of CUBLAS_WORKSPACE_CONFIG

DEVICES = {
    "cpu": Device(),
    "h200": Device(141 * GB, 989e12, 67e12, 4.8e12, HOPPER),
    "h100": Device(80 * GB, 989e12, 67e12, 3.35e12, HOPPER),  # SXM
    "h100_pcie": Device(80 * GB, 756e12, 51e12, 2.0e12, HOPPER),
    "a100": Device(80 * GB, 312e12, 19.5e12, 2.039e12, OTHERS),
    "a100_40": Device(40 * GB, 312e12, 19.5e12, 1.555e12, OTHERS),
    "l40s": Device(48 * GB, 362e12, 91.6e12, 0.864e12, OTHERS),
    "l4": Device(24 * GB, 121e12, 30.3e12, 0.3e12, OTHERS),
    "a40": Device(48 * GB, 149.7e12, 37.4e12, 0.696e12, OTHERS),
    "a10": Device(24 * GB, 125e12, 31.2e12, 0.6e12, OTHERS),
    "rtx4090": Device(24 * GB, 165.2e12, 82.6e12, 1.008e12, OTHERS),
    "rtx3090": Device(24 * GB, 71e12, 35.6e12, 0.936e12, OTHERS),
    "t4": Device(16 * GB, 0.0, 8.1e12, 0.32e12, OTHERS),
    "v100": Device(16 * GB, 0.0, 15.7e12, 0.9e12, OTHERS),
    "v100_32": Device(32 * GB, 0.0, 15.7e12, 0.9e12, OTHERS),
}


def find_device(name: str) -> Device:
    """Give what is known of a device; HarkError when nothing is."""
    if name not in DEVICES:
        known = list(DEVICES)
        raise HarkError(f"no device is called '{name}'{nearest(name, known)} (there are: {', '.join(known)})")
    return DEVICES[name]
