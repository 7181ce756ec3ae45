"""Trains the zoo, compares every pair, and writes the page: `python -m benchmarks.zoo [--part smoke|all] [--cache DIR] [--out DIR]`.

Exit 1 if an unrelated pair is called related or a pair of one initialisation derived; what else went wrong is in the page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.zoo.behaving import section, with_section
from benchmarks.zoo.cache import folder
from benchmarks.zoo.pairs import PARTS, pairs
from benchmarks.zoo.report import Results, page
from benchmarks.zoo.runner import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.zoo", description=__doc__)
    parser.add_argument("--part", choices=PARTS, default="all", help="smoke is a fixed small selection (default: all)")
    parser.add_argument("--cache", type=Path, default=folder(), help="where trained models are kept (default: %(default)s)")
    parser.add_argument("--behaviour", action="store_true", help="only what the models do: that section of the page is written anew")
    parser.add_argument("--out", type=Path, help="where zoo.md is written (default: docs for all; a part is only printed)")
    options = parser.parse_args()
    if options.behaviour:
        return _behaviour(options.cache, options.out or Path("docs"))
    outcomes, null = run(options.part, options.cache)
    results = Results(options.part, tuple(zip(pairs(options.part), outcomes, strict=True)), null)
    text = page(results)
    if options.part == "all":
        text = with_section(text, section(options.cache))
    out = options.out or (Path("docs") if options.part == "all" else None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "zoo.md").write_text(text, encoding="utf-8")
    print(text)
    for pair, result in results.false:
        print(f"wrong: {pair.names[0]} against {pair.names[1]}: {result.relation}", file=sys.stderr)
    return 1 if results.false else 0


def _behaviour(kept: Path, out: Path) -> int:
    """Writes that section into the page that is there."""
    made, path = section(kept), out / "zoo.md"
    path.write_text(with_section(path.read_text(encoding="utf-8"), made), encoding="utf-8")
    print(made, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
