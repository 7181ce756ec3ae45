"""What the machines' logs say about the times at which the training log claims steps."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from modelguard.checks.log_gpu_idle import check
from modelguard.types.findings import Claim, Level, Status
from tests.logs.building import lines, log_of
from tests.logs.consoles import START, console, megatron, stamp

RESTART = "using world size: 8"
STEPS = range(10, 7201, 10)  # two hours, a second a step


def smi(
    busy: Iterable[tuple[int, int]], until: int = 7300, *, every: int = 10, hours: float = 0, holes: Iterable[tuple[int, int]] = ()
) -> bytes:
    """A look at one GPU every few seconds: it works in the spans `busy` of seconds after the start, and rests else."""
    rows = []
    spans, gone = tuple(busy), tuple(holes)
    for second in range(-100, until, every):
        moment = START + datetime.timedelta(seconds=second, hours=hours)
        if not any(start <= second < end for start, end in gone):
            value = 97 if any(start <= second < end for start, end in spans) else 0
            rows.append(f"{moment:%Y/%m/%d %H:%M:%S}.000, 0, {value} %, {60 + 3 * value}.0 W")
    return ("timestamp, index, utilization.gpu [%], power.draw [W]\n" + "\n".join(rows) + "\n").encode()


def judge(training: bytes, *machines: bytes) -> list[Claim]:
    return list(check(log_of({"train.log": training, **{f"machine{place}.csv": data for place, data in enumerate(machines)}})))


def two_processes() -> bytes:
    return console(megatron, STEPS, {3600: RESTART})


def test_without_machine_logs_or_times_nothing_is_asked() -> None:
    (nothing,) = judge(two_processes())
    assert (nothing.status, nothing.text) == (Status.NOT_APPLICABLE, "no log of a machine's GPUs lies beside the training log")
    (untimed,) = judge(lines(range(10, 900, 10)), smi([(0, 7200)]))
    assert (untimed.status, untimed.text) == (Status.NOT_APPLICABLE, "the training log names no times to hold against the machine's log")


def test_gpus_that_worked() -> None:
    (fine,) = judge(two_processes(), smi([(0, 7250)]))
    assert (fine.status, fine.numbers["seen"], fine.numbers["offset_hours"]) == (Status.OK, 2, 0.0)


def test_a_segment_without_work_is_a_finding_that_does_not_block() -> None:
    (idle,) = (claim for claim in judge(two_processes(), smi([(0, 3600)])) if claim.status is Status.FOUND)
    assert (idle.severity, idle.confidence) == (Level.MEDIUM, Level.MEDIUM)
    assert idle.text == "no GPU worked while the log took steps 3610 to 7200 (360 samples)"
    assert idle.where == "train.log"


def test_clocks_of_other_zones_accuse_nobody() -> None:
    for hours in (-9, -3.5, 1, 5.5, 12):
        claims = judge(two_processes(), smi([(0, 7250)], hours=hours))
        assert [claim.status for claim in claims] == [Status.OK], hours
        assert claims[0].numbers["offset_hours"] == hours
        shifted = judge(two_processes(), smi([(0, 3600)], hours=hours))
        assert [claim.severity for claim in shifted if claim.status is Status.FOUND] == [Level.MEDIUM], hours


def test_one_working_gpu_of_several_is_enough() -> None:
    (fine,) = judge(two_processes(), smi([(0, 3600)]), smi([(3600, 7250)]))
    assert fine.status is Status.OK


def test_power_alone_tells_too() -> None:
    def only_power(data: bytes) -> bytes:
        _, *rows = data.decode().splitlines()
        cells = [row.split(", ") for row in rows]
        return ("timestamp, index, power.draw [W]\n" + "\n".join(", ".join((*row[:2], row[3])) for row in cells) + "\n").encode()

    assert [claim.status for claim in judge(two_processes(), only_power(smi([(0, 7250)])))] == [Status.OK]
    assert Status.FOUND in {claim.status for claim in judge(two_processes(), only_power(smi([(0, 3600)])))}
    flat = only_power(smi([(0, 7250)], until=7000)).replace(b" 60.0 W", b" 351.0 W")
    assert not judge(two_processes(), flat)


def test_long_pauses_that_the_training_log_does_not_share_are_shown() -> None:
    pause, fine = judge(console(megatron, STEPS), smi([(0, 2000), (4000, 7250)]))
    assert (pause.status, pause.severity, fine.status) == (Status.FOUND, Level.LOW, Status.OK)
    assert pause.text == "no GPU worked for 1990 seconds in which the training log has 198 records"
    hole, _ = judge(console(megatron, STEPS), smi([(0, 7250)], holes=[(2000, 4000)]))
    assert (hole.status, hole.severity) == (Status.FOUND, Level.INFO)
    quiet = [step for step in STEPS if not 2000 <= step < 4000]
    assert [claim.status for claim in judge(console(megatron, quiet), smi([(0, 2000), (4000, 7250)]))] == [Status.OK]


def test_logs_of_different_times_do_not_decide() -> None:
    (other,) = judge(two_processes(), smi([(0, 7250)], hours=24 * 40))
    assert (other.status, other.text) == (Status.NOT_APPLICABLE, "the machine's log and the training log tell of different times")


def job(number: int, start: int, end: int, gpus: int = 8) -> str:
    first, last = (stamp(second)[:19].replace(" ", "T") for second in (start, end))
    return f"{number}|COMPLETED|{first}|{last}|cpu=64,gres/gpu={gpus}\n"


def test_jobs_that_held_gpus() -> None:
    head = "JobIDRaw|State|Start|End|AllocTRES\n"
    (fine,) = judge(two_processes(), (head + job(1, -60, 3605) + job(2, 3606, 7300)).encode())
    assert (fine.status, fine.numbers["jobs"]) == (Status.OK, 2)
    (bare,) = judge(two_processes(), (head + job(1, -60, 3605) + job(2, 3606, 7300, gpus=0)).encode())
    assert (bare.status, bare.severity) == (Status.FOUND, Level.LOW)
    assert bare.text == "no job held a GPU while the log took steps 3610 to 7200"
    (other,) = judge(two_processes(), (head + job(1, 900_000, 990_000)).encode())
    assert other.status is Status.NOT_APPLICABLE
