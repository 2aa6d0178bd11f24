"""The table of how far stock models and the Trefoil models that are imported from them differ.

python -m benchmarks.stock_parity docs/stock-checkpoints.md    # renews the table there
"""

import sys
import tempfile
from pathlib import Path

import transformers

from tests.stock_checkpoints import CASES, Case, Differences, class_name, compare
from trefoil.hub.architectures import ARCHITECTURES


def table() -> str:
    """The largest differences of each architecture, as Markdown."""
    lines = ["| class | settings tried | logits | loss | hidden states | gradients |", "|---|---|---|---|---|---|"]
    groups: dict[str, list[Case]] = {}
    for case in CASES:
        groups.setdefault(class_name(case), []).append(case)
    order = list(ARCHITECTURES)
    for name, cases in sorted(groups.items(), key=lambda item: order.index(item[1][0].architecture)):
        rows = []
        for case in cases:
            print(case, file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder:
                rows.append(compare(case, Path(folder)))
        largest_of = [max(getattr(row, column) for row in rows) for column in Differences.__dataclass_fields__]
        cells = [name, "; ".join(case.says for case in cases), *(f"{cell:.0e}" if cell else "0" for cell in largest_of)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    page = Path(sys.argv[1])
    before, start, rest = page.read_text(encoding="utf-8").partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    page.write_text(f"{before}{start}{table()}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
