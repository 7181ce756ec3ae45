"""What known GPUs can compute at most, by the names that nvidia-smi, DCGM and W&B give them.

Dense peaks of tensor cores in TFLOP/s, from the makers' data sheets: sparse figures halved, boost clock, the variant that is fastest
where one name stands for several. A training that states more is impossible, whatever it computes in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelguard.types.logs import Gpu

TERA = 1e12


@dataclass(frozen=True, slots=True)
class Peak:
    """Dense TFLOP/s with 16-bit floats, with 8-bit and with 4-bit ones; 0 where the device has none."""

    half: float
    eight: float = 0.0
    four: float = 0.0

    @property
    def highest(self) -> float:
        return max(self.half, self.eight, self.four)


# the first name whose words all stand in the device's own counts
PEAKS: tuple[tuple[str, Peak], ...] = (
    ("GB300", Peak(2500, 5000, 15000)),  # NVIDIA Blackwell Ultra data sheet
    ("B300", Peak(2500, 5000, 15000)),
    ("GB200", Peak(2500, 5000, 10000)),  # NVIDIA GB200 NVL72 data sheet
    ("B200", Peak(2250, 4500, 9000)),  # NVIDIA HGX B200 data sheet
    ("B100", Peak(1800, 3500, 7000)),
    ("GH200", Peak(990, 1979)),  # NVIDIA GH200 data sheet
    ("H200", Peak(989.5, 1979)),  # NVIDIA H200 data sheet
    ("H100 PCIe", Peak(756, 1513)),  # NVIDIA H100 data sheet
    ("H100 NVL", Peak(835, 1671)),
    ("H100", Peak(989.5, 1979)),
    ("H800", Peak(989.5, 1979)),
    ("H20", Peak(148, 296)),
    ("A100", Peak(312)),  # NVIDIA A100 data sheet
    ("A800", Peak(312)),
    ("L40S", Peak(362, 733)),  # NVIDIA L40S data sheet
    ("L40", Peak(181, 362)),  # NVIDIA L40 data sheet
    ("L4", Peak(121, 242.5)),  # NVIDIA L4 data sheet
    ("A40", Peak(149.7)),  # NVIDIA A40 data sheet
    ("A30", Peak(165)),  # NVIDIA A30 data sheet
    ("A10", Peak(125)),  # NVIDIA A10 data sheet
    ("A10G", Peak(125)),
    ("A6000", Peak(154.8)),  # NVIDIA RTX A6000 data sheet
    ("6000 Ada", Peak(364.3, 728.5)),  # NVIDIA RTX 6000 Ada data sheet
    ("V100", Peak(130)),  # NVIDIA V100 and V100S data sheets
    ("T4", Peak(65)),  # NVIDIA T4 data sheet
    ("P100", Peak(21.2)),  # NVIDIA P100 data sheet
    ("RTX 5090", Peak(419, 838, 1676)),  # NVIDIA RTX Blackwell architecture paper: 16-bit sums
    ("RTX 4090", Peak(330.3, 660.6)),  # NVIDIA Ada architecture paper, appendix A
    ("RTX 3090", Peak(160)),  # NVIDIA GA102 paper: the Ti variant, 16-bit sums
    ("MI355X", Peak(2516, 5033, 10066)),  # AMD Instinct data sheets
    ("MI325X", Peak(1307.4, 2614.9)),
    ("MI300X", Peak(1307.4, 2614.9)),
    ("MI250X", Peak(383)),
)


def gpu(device: str, model: str) -> Gpu:
    """A device by its own mark and the name of its model, with its peak where that is known."""
    words = set(re.findall(r"[A-Za-z0-9]+", model))
    peak = next((peak for name, peak in PEAKS if set(name.split()) <= words), None)
    return Gpu(device=device[:200], model=model[:200], peak=peak.highest * TERA if peak else None)
