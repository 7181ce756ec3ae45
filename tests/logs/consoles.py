"""Console logs for tests, in the lines that programs print."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping

START = datetime.datetime(2025, 3, 1, 8, 0, 0)


def stamp(step: int) -> str:
    """The time of a step, one second each, to the microsecond."""
    return f"{START + datetime.timedelta(seconds=step):%Y-%m-%d %H:%M:%S.%f}"


def loss(step: int) -> float:
    return 9 / (1 + step / 100)


def megatron(step: int) -> str:
    return (
        f" [{stamp(step)}] iteration {step:8d}/  100000 | consumed samples: {step * 64:12d} | elapsed time per iteration (ms): 1000.0 | "
        f"throughput per GPU (TFLOP/s/GPU): 391.2 | learning rate: 1.500000E-04 | global batch size:    64 | lm loss: {loss(step):.6E} | "
        f"loss scale: 1.0 | grad norm: 0.811 | number of skipped iterations:   0 | number of nan iterations:   0 |"
    )


def neox(step: int) -> str:
    return (
        f" samples/sec: 7.799 | iteration {step:8d}/   10000 | elapsed time per iteration (ms): 4103.1 | learning rate: 2.111E-06 | "
        f"approx flops per GPU: 112.9TFLOPS | lm_loss: {loss(step):.6E} | number of skipped iterations:   0 |"
    )


def deepspeed(step: int) -> str:
    prefix = f"[{stamp(step)[:23].replace('.', ',')}] [INFO]"
    return (
        f"{prefix} [logging.py:96:log_dist] [Rank 0] step={step}, skipped=2, lr=[5e-05, 5e-05], mom=[[0.9, 0.999]]\n"
        f"{prefix} [timer.py:215:stop] epoch=0/micro_step={step}/global_step={step}, RunningAvgSamplesPerSec=7.86, CurrSamplesPerSec=8.0"
    )


def torchtitan(step: int) -> str:
    return (
        f"[rank0]:[titan] {stamp(step)[:23].replace('.', ',')} - root - INFO - \x1b[31mstep: {step:2}  \x1b[32mloss: {loss(step):8.5f}  "
        f"\x1b[38;2;180;60;0mgrad_norm:  0.8319  \x1b[36mmemory:  9.46GiB(64.99%)  \x1b[34mtps: 7,282  \x1b[35mmfu: 0.17%\x1b[39m"
    )


def nemo(step: int) -> str:
    return (
        f"Training epoch 0, iteration {step}/99999 | lr: 3e-05 | consumed_samples: {step + 1} | global_batch_size: 1 | "
        f"global_step: {step} | reduced_train_loss: {loss(step):.4} | train_step_timing in s: 0.03146 | val_loss: 4.106"
    )


def nanogpt(step: int) -> str:
    line = f"iter {step}: loss {loss(step):.4f}, time 51.62ms, mfu 6.63%"
    return line if step % 250 else f"step {step}: train loss {loss(step):.4f}, val loss 3.0\nsaving checkpoint to out\n{line}"


def modded(step: int) -> str:
    return f"step:{step}/9000 train_loss:{loss(step):.4f} train_time:{step * 100}ms step_avg:100.00ms"


def llm_c(step: int) -> str:
    return f"s:{step} trl:{loss(step):.6f}" + (f"\ns:{step} tel:3.5" if step % 128 == 0 else "")


def mlx(step: int) -> str:
    speed = f"It/sec 2.4, Tokens/sec 787.7, Trained Tokens {step * 9}, Peak mem 8.5 GB"
    return f"Iter {step}: Train loss {loss(step):.3f}, Learning Rate 1.000e-05, {speed}"


def composer(step: int) -> str:
    return (
        f"[epoch=1][batch={step}/4800]:\n\t Train time/epoch: 0\n\t Train time/batch: {step - 1}\n"
        f"\t Train trainer/device_train_microbatch_size: 5\n"
        f"\t Train loss/train/total: {loss(step):.4f}\n\t Train metrics/train/LanguageCrossEntropy: {loss(step):.4f}"
    )


def coqui(step: int) -> str:
    return (
        f"\x1b[1m   --> TIME: {stamp(step)[:19]} -- STEP: {step}/24940 -- GLOBAL_STEP: {step}\x1b[0m\n"
        f"     | > loss: {loss(step)}  ({loss(step)})\n"
        "     | > current_lr: 5e-06 \n"
    )


def hf_printed(step: int) -> str:
    """A row of 4.x and the bar that is drawn anew below it, as a terminal's record has them."""
    bar = f"\r  1%|▏         | {step}/5000 [00:10<10:00,  2.00it/s]"
    return f"{bar}\r{' ' * 60}\r{{'loss': {loss(step):.4f}, 'grad_norm': 1.5, 'learning_rate': 1e-05, 'epoch': {step / 1000:.2f}}}\n{bar}"


def hf5_printed(step: int) -> str:
    """A row of 5.x: its values are strings."""
    bar = f"\r  1%|▏         | {step}/5000 [00:10<10:00,  2.00it/s]"
    return f"{bar}\r{{'loss': '{loss(step):.4g}', 'grad_norm': '1.5', 'learning_rate': '1e-05', 'epoch': '{step / 1000:.4g}'}}\n{bar}"


Printer = Callable[[int], str]
PRINTERS: Mapping[str, tuple[str, Printer]] = {
    "megatron": ("megatron", megatron),
    "neox": ("megatron", neox),
    "deepspeed": ("deepspeed", deepspeed),
    "torchtitan": ("torchtitan", torchtitan),
    "nemo": ("nemo", nemo),
    "nanogpt": ("nanogpt", nanogpt),
    "modded": ("modded-nanogpt", modded),
    "llm_c": ("modded-nanogpt", llm_c),
    "mlx": ("mlx", mlx),
    "composer": ("composer", composer),
    "coqui": ("coqui", coqui),
    "hf4": ("hf-stdout", hf_printed),
    "hf5": ("hf-stdout", hf5_printed),
}


def console(printer: Printer, steps: Iterable[int], between: Mapping[int, str] | None = None) -> bytes:
    """A console log: a banner, a line a step, and other lines after the steps that `between` names."""
    said = between or {}
    body = "\n".join(printer(step) + ("\n" + said[step] if step in said else "") for step in steps)
    return f"starting on 8 GPUs at 10.0.0.1\nWARNING: nothing\n{body}\n".encode()
