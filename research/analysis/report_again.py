"""What it takes to do a sweep again: its commands, its code, its settings."""

import shlex

from research.analysis.report_case import Case
from research.analysis.report_faults import named, versions
from research.analysis.report_page import Block, Code, Section, Table, Text

CHANGES = """python -c 'import json, sys; print(json.load(open(sys.argv[1]))["diff"])' {} | git apply"""


def again(case: Case) -> Section:
    """Commands, and the code that they ran."""
    lines: list[str] = []
    rows: list[list[str]] = []
    for (commit, changes), some in versions(case.frame).items():
        rows.append([commit[:10] or "unknown", changes, str(len(some)), named(some)])
        path = str(case.frame.set_index("run").loc[some[0], "path"])
        if not lines and commit:
            lines.append(f"git checkout {commit}")
            if changes.startswith("changes "):
                lines.append(CHANGES.format(shlex.quote(f"{path}/code.json")))
    lines += [f"{command}  # {when}" for command, when in case.plan.typed]
    blocks: list[Block] = [Code("\n".join([*lines, typed(case)]))]
    told = "Code of the runs. code.json in a run's folder has its commit and what its working tree had beside it."
    blocks.append(Table(["commit", "working tree", "runs", "which"], rows, told))
    if case.plan.shared:
        blocks += [Text("Overrides of every cell:"), Code(" ".join(case.plan.shared))]
    return Section("Reproduce", blocks)


def typed(case: Case) -> str:
    """The command of this report."""
    words = [
        "hark",
        "report",
        case.source,
        "--folder",
        str(case.root),
        "--metric",
        case.metric,
        "--probe",
        case.probe,
    ]
    words += (
        ["--baseline", *(f"{key}={level}" for key, level in case.baseline.items())] if case.baseline else []
    )
    words += ["--matters", f"{case.matters:g}"] if case.matters is not None else []
    return shlex.join(words)
