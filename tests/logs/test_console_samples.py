"""Lines in the shapes that programs print in public: issues, pull requests and read-me files of the projects that are named.

The numbers are ours; prefixes, spacing, order of cells and what stands between the rows are as these projects' users show them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelguard.types.logs import Run
from tests.logs.building import log_of

SAMPLES = {
    # torchrun's prefix before Megatron-LM's rows (OpenSeek's read-me)
    "megatron under torchrun": (
        "megatron", (1, 2, 3),
        " [default0]: [2025-05-27 15:%02d:07] iteration        %d/    24000 | consumed samples:          1024 | elapsed time per iteration "
        "(ms): 268113.0 | throughput per GPU (TFLOP/s/GPU): 40.4 | learning rate: 1.833333E-06 | global batch size:  1024 | lm loss: "
        "1.425967E+01 | load_balancing_loss: 1.374227E+00 | loss scale: 1.0 | grad norm: 5.293 | num zeros: 0.0 | params norm: 238.663 | "
        "number of skipped iterations:    0 | number of nan iterations:    0 |\n",
    ),
    # no loss while the first steps are skipped, timers between the rows (NVIDIA/nccl issue 743)
    "megatron with timers": (
        "megatron", (10, 20, 30),
        "time (ms) | forward-compute: 193.%02d | backward-compute: 73.35 | optimizer: 63.34 | batch-generator: 25.50\n iteration       %d/ "
        "1000000 | consumed samples:           80 | elapsed time per iteration (ms): 140.6 | learning rate: 2.353E-08 | global batch "
        "size:     4 | lm loss: 1.338355E+01 | sop loss: 8.407235E-01 | loss scale: 32768.0 | grad norm: 217.422 | number of skipped "
        "iterations:   2 | number of nan iterations:   0 |\n",
    ),
    # tokens beside samples, no blanks around the step (read-me files of forks)
    "megatron with tokens": (
        "megatron", (11, 12, 13),
        "[2024-03-07 15:27:%02d,646] [INFO] [timer.py:260:stop] epoch=0/micro_step=199/global_step=199, RunningAvgSamplesPerSec=58.7\n"
        " iteration  %d/50000 | consumed samples: 5760 | consumed tokens:  11796480 | elapsed time per iteration (ms):  51904.6 | learning "
        "rate:    1.722E-05 | global batch size:  512 | lm loss:  1.609847E+01 | loss scale:  65536.0 | grad norm:    459.951 | actual "
        "seqlen:  2048 | samples per second: 9.043 | TFLOPs: 167.85 |\n",
    ),
    # momenta as tuples, an older timer, overflows between (the read-me of an example of DeepSpeed)
    "deepspeed with overflows": (
        "deepspeed", (10, 20, 30),
        "[deepspeed] OVERFLOW! Rank 0 Skipping step. Attempted loss scale: 8388608, reducing to 4194304\n"
        "[2022-08-29 06:58:%02d,121] [INFO] [logging.py:68:log_dist] [Rank 0] step=%d, skipped=17, lr=[5e-05], mom=[(0.9, 0.222)]\n"
        "[2022-08-29 06:58:56,176] [INFO] [timer.py:198:stop] 0/20, RunningAvgSamplesPerSec=232.06, CurrSamplesPerSec=227.4, "
        "MemAllocated=0.69GB, MaxMemAllocated=15.39GB\n",
    ),
    # several ranks print the same step (pytorch/torchtitan pull request 2389)
    "torchtitan on two ranks": (
        "torchtitan", (4, 5, 6),
        "[titan] 2026-02-24 19:46:%02d,508 - root - INFO - step:  %d  loss:  7.95818  grad_norm: 26.9583  memory: 66.24GiB(37.84%%)  tps: "
        "9,876  tflops: 314.04  mfu: 13.22%%\n",
    ),
    # the logger's own name instead of the root's (pytorch/torchtitan pull request 4628)
    "torchtitan with named loggers": (
        "torchtitan", (1, 2, 3),
        "[rank0]:[titan] 2026-09-11 23:05:%02d,151 - torchtitan.components.metrics - INFO - step: %2d  loss:  4.2258  grad_norm:  2.9755  "
        "memory:  0.33GiB(0.33%%)  tps: 29,114  tflops: 3.48  mfu: 0.65%%\n",
    ),
    # a loss of the last validation beside the row's own (NVIDIA-BioNeMo/bionemo-recipes pull request 740)
    "nemo": (
        "nemo", (120, 121, 122),
        "Epoch 0 at %02d\nTraining epoch 0, iteration %d/149 | lr: 3e-05 | consumed_samples: 121 | global_batch_size: 1 | "
        "reduced_train_loss: 1.566 | train_step_timing in s: 0.36479 | val_loss: 4.439\n",
    ),
    # no utilisation in older versions (karpathy/nanoGPT issue 110)
    "nanogpt": ("nanogpt", (1631, 1632, 1633), "tokens per iteration will be: 491,5%02d\niter %d: loss 4.3196, time 561.27ms\n"),
    # memory before the loss (mosaicml/llm-foundry issue 444)
    "composer": (
        "composer", (1, 2, 3),
        "\t Train time/epoch: %d\n[epoch=1][batch=%d/4800]:\n\t Train memory/allocated_mem: 6.1384\n\t Train memory/alloc_retries: 0\n"
        "\t Train loss/train/total: 11.9858\n\t Train metrics/train/LanguagePerplexity: 114977.4895\n\t Train time/train: 0.3314\n",
    ),
    # samples a second before the row (EleutherAI/gpt-neox issue 988 and megatron/training.py)
    "neox": (
        "megatron", (100, 200, 300),
        "gpu250: [2023-07-05 15:08:%02d,918] [INFO] [engine.py:83:__init__] CONFIG: micro_batches=6\n samples/sec: 14.5 | iteration      "
        "%d/  150000 | elapsed time per iteration (ms): 3987.2 | learning rate: 2.444E-06 | approx flops per GPU: 112.9TFLOPS | lm_loss: "
        "1.306554E+01 | loss scale: 4096.0 | number of skipped iterations:   0 | number of nan iterations:   0 |\n",
    ),
}  # fmt: skip


def run(case: str) -> Run:
    _, steps, line = SAMPLES[case]
    text = "".join(line % (place, step) for place, step in enumerate(steps))
    (found,) = log_of({"train.log": text.encode()}).runs
    return found


@pytest.mark.parametrize("case", SAMPLES)
def test_rows_are_read_in_the_shapes_that_users_show(case: str) -> None:
    form, steps, _ = SAMPLES[case]
    found = run(case)
    told = tuple(sorted({record.step for record in found.training}))
    assert (found.format, told) == (form, steps)
    if form != "deepspeed":  # whose own lines hold none
        assert all(any("loss" in name for name in record.values) for record in found.training)
    assert not [name for record in found.training for name in record.values if not name.strip() or len(name) > 60]


@pytest.mark.slow
def test_a_log_of_300_megabytes_takes_constant_memory(tmp_path: Path) -> None:
    code = (
        "import re, sys; from pathlib import Path\n"
        "from modelguard.blobs.local import LocalBlob; from modelguard.logs.base import assemble\n"
        "log = assemble({'train.log': LocalBlob(Path(sys.argv[1]))})\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]\n"
        "print(log.runs[0].last_step, peak)"
    )
    row, peaks = SAMPLES["neox"][2].splitlines(keepends=True)[1], {}
    chatter = "[2025-03-01 08:00:00,000] [INFO] a worker waits for the next shard of the corpus, " + "x" * 200 + "\n"
    for rows, between in ((48_000, 2), (48_000, 22)):  # the same rows in 40 MB and in 300 MB
        with (tmp_path / "train.log").open("w") as file:
            file.writelines(row % (10 * step) + chatter * between for step in range(1, rows + 1))
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "train.log")], capture_output=True, text=True, check=True)
        last, peak = map(int, done.stdout.split())
        assert last == 10 * rows
        peaks[between] = peak
    assert (tmp_path / "train.log").stat().st_size > 300e6
    assert peaks[22] < 1.1 * peaks[2]
    assert peaks[22] < 200 << 10  # KiB
