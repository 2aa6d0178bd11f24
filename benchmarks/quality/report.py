"""What was found: tables, sentences, numbers and a picture for docs/quality.md."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from trefoil.tasks.metrics.paired import Difference, Interval, difference, is_sure

from ..claims.draw import panels, save_picture, write_table
from ..speed.report import table
from .runs import Outcome
from .scores import MEASURES
from .worker import MODELS

HEADER = (
    "| data | peer | training rows | ours | theirs | difference | 95 %, other examples | 95 %, other seeds "
    "| s, ours | s, theirs | chosen |"
)


@dataclass(frozen=True)
class Row:
    """A peer beside ours on the same files, each of one seed or more; ours may be missing."""

    task: str
    data: str
    peer: str
    rows: int
    is_of_curve: bool
    ours: list[Outcome]
    theirs: list[Outcome]

    @property
    def difference(self) -> Difference | None:
        if not self.ours:
            return None
        return difference(MEASURES[self.task], [each.parts for each in self.ours], [each.parts for each in self.theirs])

    def is_won(self) -> bool:
        """By ours."""
        found = mean(each.score for each in self.ours) - mean(each.score for each in self.theirs)
        return found < 0 if MEASURES[self.task].is_minimized else found > 0


def rows_of(outcomes: Iterable[Outcome]) -> list[Row]:
    """Of all that was found, each peer beside the newest of ours on the same files, with as many threads and minutes."""
    newest: dict[Any, dict[tuple[str, int], Outcome]] = {}  # by what is compared; of each, by model and seed
    for outcome in outcomes:
        run = outcome.run
        group = newest.setdefault((run.task, run.data, run.train_rows, run.rows is not None), {})
        group.pop((run.model, run.seed), None)
        group[run.model, run.seed] = outcome
    rows = []
    for (task, data, count, is_of_curve), group in sorted(newest.items(), key=lambda item: item[0]):
        found = list(group.values())
        last = next((each for each in reversed(found) if each.run.model == "ours"), found[-1])
        by_model: dict[str, list[Outcome]] = {}
        for each in sorted(found, key=lambda each: each.run.seed):
            if _is_alike(each, last, found):
                by_model.setdefault(each.run.model, []).append(each)
        ours = by_model.pop("ours", [])
        for peer in [name for name in MODELS[task] if name in by_model]:
            theirs = by_model[peer]
            if ours and (is_of_curve or MODELS[task][peer].is_timed):  # seed by seed
                both = {each.run.seed for each in ours} & {each.run.seed for each in theirs}
                pair = [[each for each in side if each.run.seed in both] for side in (ours, theirs)]
            else:
                pair = [ours, theirs]
            if pair[1]:
                rows.append(Row(task, data, peer, count, is_of_curve, *pair))
    return rows


def _is_alike(outcome: Outcome, other: Outcome, found: list[Outcome]) -> bool:
    """Whether they read the same files, or those of a seed that are drawn from the same, for as long."""
    one, two = outcome.run, other.run
    contents = {each.run.seed: each.run.content for each in found if each.run.model == two.model}
    same_files = contents.get(one.seed, one.content if one.rows is not None else two.content) == one.content
    return (
        same_files and one.threads == two.threads and (None in (one.minutes, two.minutes) or one.minutes == two.minutes)
    )


def line(row: Row) -> str:
    found = row.difference
    theirs, seconds = mean(each.score for each in row.theirs), mean(each.seconds for each in row.theirs)
    if found is None:
        cells = ["", f"{theirs:.1f}", "", "", "", ""]
    else:
        value = f"{found.value:+.1f}"
        cells = [
            f"{found.ours:.1f}", f"{found.theirs:.1f}", f"**{value}**" if is_sure(found) else value,
            _interval(found.over_examples), _interval(found.over_seeds), f"{mean(each.seconds for each in row.ours):.0f}",
        ]  # fmt: skip
    how = " / ".join(dict.fromkeys(each.how for each in row.theirs if each.how))
    return f"| {row.data} | {row.peer} | {row.rows:,} | {' | '.join(cells)} | {seconds:.0f} | {how} |"


def _interval(found: Interval | None) -> str:
    return "" if found is None else f"{found[0]:+.1f} to {found[1]:+.1f}"


def curves(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Of each data set and peer, rows with ours of two sizes or more, from few to many."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.rows):
        if row.is_of_curve and row.ours:
            found.setdefault((row.data, row.peer), []).append(row)
    return {key: points for key, points in found.items() if len(points) > 1}


def sentence(points: list[Row]) -> str:
    """From how many rows ours wins."""
    first, name = points[0], MEASURES[points[0].task].name
    against = f"{first.data}: by {name}, ours is better than {first.peer}"
    wins = [each.is_won() for each in points]
    first_win = len(wins)  # from where on all are
    while first_win and wins[first_win - 1]:
        first_win -= 1
    if first_win == 0:
        return f"{against} at every size from {first.rows:,} rows on."
    if first_win < len(wins):
        return f"{against} from {points[first_win].rows:,} rows on, and not at {points[first_win - 1].rows:,}."
    if any(wins):
        return f"{against} at some sizes, but not at {points[-1].rows:,} rows."
    return f"{against} at none of the sizes up to {points[-1].rows:,} rows."


def write(rows: list[Row], folder: Path) -> None:
    """Put the tables in their places in `quality.md`, and numbers and picture beside it; of tasks without rows all stays."""
    page, images = folder / "quality.md", folder / "images"
    tasks = dict.fromkeys(row.task for row in rows)
    for task in tasks:
        write_table(task, table(HEADER, [line(row) for row in rows if row.task == task]), page)
    numbers = [
        {
            "task": row.task, "data": row.data, "peer": row.peer, "rows": row.rows, "metric": MEASURES[row.task].name,
            **{side: [each.score for each in getattr(row, side)] for side in ("ours", "theirs")},
            "minutes": row.ours[0].run.minutes if row.ours else None, "threads": row.theirs[0].run.threads,
        }
        for row in rows
    ]  # fmt: skip
    images.mkdir(exist_ok=True)
    file = images / "quality.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    numbers = [each for each in before if each["task"] not in tasks] + numbers
    file.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if drawn := curves(rows):
        draw(drawn, images / "quality.png")
        sentences = "\n".join(f"- {sentence(points)}" for points in drawn.values())
        write_table("curves", f"{sentences}\n\n![Scores by training rows, ours and a peer's](images/quality.png)", page)


def draw(drawn: dict[tuple[str, str], list[Row]], picture: Path) -> None:
    """Of each curve, the mean score of ours and of the peer against the training rows, and a dot for each seed."""
    figure, axes = panels(len(drawn))
    for place, ((data, peer), points) in zip([axes] if len(drawn) == 1 else axes, drawn.items(), strict=True):
        sizes = [point.rows for point in points]
        for name, side in (("ours", "ours"), (peer, "theirs")):
            scores = [[each.score for each in getattr(point, side)] for point in points]
            (curve,) = place.plot(sizes, [mean(each) for each in scores], label=name)
            for size, each in zip(sizes, scores, strict=True):
                place.plot([size] * len(each), each, ".", color=curve.get_color(), alpha=0.5)
        place.set_xscale("log")
        place.set_xticks(sizes, [f"{size:,}" for size in sizes])
        place.minorticks_off()
        place.set(title=data, xlabel="training rows", ylabel=MEASURES[points[0].task].name)
        place.legend()
    save_picture(figure, picture)
