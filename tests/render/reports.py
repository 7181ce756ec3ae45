"""Reports made by hand: whatever a stranger may name, and whatever number of things."""

from __future__ import annotations

from modelguard.types.findings import Claim, Finding, Level, Status, Verdict
from modelguard.types.report import Exhibit, ModelReport, Report, Setting, Strip, Timeline
from modelguard.types.weights import Basis, Comparison, Cost, LayerResult, NullTest, Power, Relation, Side


def finding(
    status: Status, text: str, *, rule: str = "log-gap", subject: str = "m", severity: Level = Level.HIGH, where: str = ""
) -> Finding:
    why = text if status is Status.UNKNOWN else ""
    claim = Claim(status=status, text=text, severity=severity, numbers={"missing": 12}, where=where, why=why, settle="the missing rows")
    return Finding(rule=rule, subject=subject, claim=claim)


def comparison(name: str = "layers.0", blocks: int = 3) -> Comparison:
    layers = tuple(
        LayerResult(name=f"{name}.{block}", matched=name, relation="unrelated", score=0.01, log10_p=0.0) for block in range(blocks)
    )
    tests = tuple(
        NullTest(method="t1", block=layer.name, statistic=1, n=64, log10_p=0.0, log10_p_adjusted=0.0, null="independent", note="")
        for layer in layers
    )
    side = Side(ref=name, digest=None, parameters=10)
    return Comparison(
        left=side,
        right=side,
        relation=Relation.UNRELATED,
        kinds=(),
        direction="unknown",
        basis=Basis.EXACT,
        log10_p=0.0,
        score=0.01,
        share_explained=0.0,
        power=(Power(transformation="4-bit copy of the base", detectable=True, how="p at most 10^-89"),),
        layers=layers,
        evidence=tests,
        unknown=(),
        difference=None,
        cost=Cost(bytes_read=1, bytes_total=2, seconds=0.0),
    )


def model(name: str = "m", findings: tuple[Finding, ...] = (), exhibits: tuple[Exhibit, ...] = ()) -> ModelReport:
    return ModelReport(
        subject=name,
        kind="single",
        files=(name,),
        declared=(name,),
        resolved_base=name,
        findings=findings,
        exhibits=exhibits,
        weights=comparison(name),
        previous=None,
        activations=None,
    )


def report(*models: ModelReport, verdict: Verdict = Verdict.INCONSISTENT, note: str = "a note") -> Report:
    return Report(
        verdict=verdict,
        headline="the evidence contradicts what is declared",
        base="a" * 40,
        head="b" * 40,
        models=models,
        notes=(note,),
        policy_digest="sha256:" + "c" * 64,
        settings=(Setting(key="alpha", value="1e-9", origin="built-in default"),),
        version="1",
        reproduce="modelguard audit --base a --head b",
        seconds=1.0,
    )


def strip(values: tuple[float | None, ...]) -> Strip:
    return Strip(title="weights", labels=tuple(map(str, range(len(values)))), values=values, caption="share")


def timeline(points: tuple[tuple[int, float], ...], gaps: tuple[tuple[int, int], ...] = (), title: str = "log.json") -> Timeline:
    return Timeline(title=title, metric="loss", points=points, gaps=gaps, restarts=(), caption="")
