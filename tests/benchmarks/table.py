"""Print what step.py, limits.py, curves.py and parts.py wrote as one Markdown table.

python tests/benchmarks/table.py build/bench/*.jsonl
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS = ("what", "setting", "time", "audio-s/s", "GFLOP/s", "share of the limit", "peak")
Line = dict[str, Any]


def row(line: Line) -> Iterator[tuple[str, ...]]:
    """The rows of a line."""
    match line["benchmark"]:
        case "step":
            setting = f"{line['size']}, {line['batch']} x {line['seconds']:g} s, {line['dtype']}"
            peak = line["peak_device_mb"] or line["peak_rss_mb"]
            yield (
                f"step, {line['method']}", setting, span(line, "s"), f"{line['audio_s_per_s']:g}",
                f"{line['gflop_per_s']:g}", f"{line['fraction']:.0%}", f"{peak / 1e3:.2f} GB",
            )  # fmt: skip
        case "limits":
            for dtype in ("fp32", "bf16"):
                yield "matrix product", f"{dtype}, best", "", "", f"{line[f'{dtype}_gflop_per_s']:g}", "", ""
            yield "copy", f"{line['copy_gb_per_s']:g} GB/s", "", "", "", "", ""
        case "parts":
            setting = f"{line['size']}, {line['batch']} x {line['seconds']:g} s, {line['dtype']}"
            yield line["part"], setting, span(line, "ms"), "", "", "", ""
        case "curves" if "x" in line:
            yield (
                f"{line['kind']}, {line['dtype']}",
                f"{line['x']:g}",
                span(line, "s"),
                f"{line['audio_s_per_s']:g}",
                "",
                "",
                "",
            )
        case "curves":
            low_high = (
                f" [{line['exponent'][1]:g}, {line['exponent'][2]:g}]" if len(line["exponent"]) > 1 else ""
            )
            grows = f"time ~ x^{line['exponent'][0]:g}{low_high}, at the end x^{line['end'][0]:g}"
            yield f"{line['kind']}, {line['dtype']}", grows, f"x {line['ratio'][0]:g}", "", "", "", ""


def span(line: Line, unit: str) -> str:
    """Median, least and most."""
    middle = line["step_s"] if unit == "s" else line["ms"]
    return f"{middle:.3g} {unit} ({line[f'least_{unit}']:.3g} to {line[f'most_{unit}']:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    lines = [json.loads(text) for file in parser.parse_args().files for text in file.read_text().splitlines()]
    told = {(line["device"], line["threads"], line["torch"], line["commit"]) for line in lines}
    for device, threads, version, commit in sorted(told):
        print(f"{device}, {threads} threads, torch {version}, hark {commit or 'of no commit'}")
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for cells in (cells for line in lines for cells in row(line)):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
