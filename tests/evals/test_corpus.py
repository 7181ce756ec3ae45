"""Results files of real repositories: read, with their model's name, or passed over as something else; never a crash."""

from __future__ import annotations

from modelguard.evals.collecting import assemble
from modelguard.types.evals import EvalLogs
from modelguard.types.findings import Absence, Missing
from tests.logs.building import CORPUS, corpus_rows


def test_the_results_files_of_the_corpus_are_read() -> None:
    rows = corpus_rows({"eval_results"})
    read: list[EvalLogs] = []
    for row in rows:
        found = assemble({row["path"]: (CORPUS / row["path"]).read_bytes()})
        if isinstance(found, Missing):
            assert found.kind is Absence.ABSENT, found.why
            assert "winobias" in row["path"] or "no results" in found.why
        else:
            read.append(found)
    assert len(read) >= 40  # the others are of evaluations of their authors' own
    assert all(logs.scores for logs in read)
    assert sum("pythia" in logs.model for logs in read) >= 30  # the rest name a folder
