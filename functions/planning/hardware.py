"""The GPUs and networks of the offered instance types, as far as a plan needs them: figures with their source, none measured here."""

from dataclasses import dataclass

from jobspec.instances import GpuInstance


@dataclass(frozen=True, slots=True)
class Gpu:
    """``memory_mib``: what nvidia-smi shows. TFLOP/s: dense, the tensor cores' in 16 bits with float32 sums, and float32's."""

    memory_mib: int
    #: Compute capability 8 and up (Ampere, 2020) computes in bfloat16; Turing, 7.5, only emulates it (CUDA programming guide).
    bfloat16: bool
    tflops_16: float
    tflops_32: float
    #: Of other cards' share of their peak, what this one holds in long runs.
    sustained: float = 1.0

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib * 1024**2


#: Memory: nvidia-smi's totals as listed in modal-labs/modal-client pull request 2797. TFLOP/s: NVIDIA's data sheets (those of
#: L4, L40S and H100 print the doubled figures for sparse matrices; halved here). ``sustained``: nothing trustworthy is published for
#: the L4; its board has 72 W where the A10G's has 150, so it is taken to hold half. A guess.
GPUS: dict[str, Gpu] = {
    "T4": Gpu(15_360, False, 65, 8.1),
    "L4": Gpu(23_034, True, 121, 30.3, sustained=0.5),
    "A10G": Gpu(23_028, True, 70, 31.2),
    "L40S": Gpu(46_068, True, 362, 91.6),
    "A100": Gpu(40_960, True, 312, 19.5),
    "H100": Gpu(81_559, True, 989, 67),
}

#: Baseline bandwidth in Gbit/s, without bursts (EC2 instance types guide, accelerated computing, network specifications).
BASELINE_GBPS: dict[str, float] = {
    "g4dn.xlarge": 5,
    "g4dn.2xlarge": 10,
    "g6.xlarge": 2.5,
    "g6.2xlarge": 5,
    "g5.xlarge": 2.5,
    "g5.2xlarge": 5,
    "g6e.xlarge": 2.5,
    "g6e.2xlarge": 5,
    "g5.12xlarge": 40,
    "g6e.12xlarge": 100,
    "p4d.24xlarge": 400,
    "p5.48xlarge": 3200,
}
#: Bytes a second that a GPU sends and receives while all of an instance's exchange gradients. NVIDIA's data sheets name 600 GB/s (A100) and
#: 900 (H100) for NVLink, both directions together; a third of it is taken. A10G and L40S have none: PCIe 4 x16 (32 GB/s) through the host, a
#: third of it. Guesses, not measured by us.
LINK_BYTES_PER_S = {"A100": 200e9, "H100": 300e9}
PCIE_BYTES_PER_S = 10e9
#: Of the baseline, what an upload gets; and what one Python process moves at most, whatever the network. Both are guesses.
NETWORK_SHARE, PROCESS_BYTES_PER_S = 0.8, 600e6


def gpu_of(instance: GpuInstance) -> Gpu:
    return GPUS[instance.gpu]


def dtype_on(instance: GpuInstance, wanted: str) -> str:
    """``auto`` by the GPU's generation, as the trainer resolves it there."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if gpu_of(instance).bfloat16 else "float16"


def upload_bytes_per_s(instance: GpuInstance) -> float:
    """Sustained rate to S3: a guess from the network's baseline."""
    return min(PROCESS_BYTES_PER_S, BASELINE_GBPS[instance.name] * 1e9 / 8 * NETWORK_SHARE)


def exchange_bytes_per_s(instance: GpuInstance, nodes: int) -> float:
    """What one GPU exchanges gradients at: within the instance; across instances its share of the network, if that is less."""
    within = LINK_BYTES_PER_S.get(instance.gpu, PCIE_BYTES_PER_S)
    return within if nodes == 1 else min(within, BASELINE_GBPS[instance.name] * 1e9 / 8 * NETWORK_SHARE / instance.gpus)


def peak_flops(instance: GpuInstance, dtype: str) -> float:
    """FLOP/s of one GPU."""
    gpu = gpu_of(instance)
    return (gpu.tflops_32 if dtype == "float32" else gpu.tflops_16) * 1e12
