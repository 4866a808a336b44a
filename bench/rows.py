"""Figures and how they are shown: each beside the machine's own limit of the same run, and beside its target."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Target:
    """What a figure has to reach, and what is aimed at; as a ratio to the limit where the row has one."""

    least: float
    aim: float


@dataclass(frozen=True)
class Row:
    """One figure: all its runs, sorted.  `limit` names what `against` is; `lower`: less is better.

    `paces`: how fast the processor was beside them (`stage.pace`)."""

    work: str
    unit: str
    runs: tuple[float, ...]
    limit: str = ""
    against: float = 0.0
    target: Target | None = None
    lower: bool = False
    paces: tuple[float, ...] = (1.0,)

    @property
    def pace(self) -> float:
        return statistics.median(self.paces)

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def value(self) -> float:
        """What is compared with the target."""
        return self.median / self.against if self.against else self.median

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        for word, bound in (("aim", self.target.aim), ("ok", self.target.least)):
            if (self.value <= bound) if self.lower else (self.value >= bound):
                return word
        return "MISSED"

    def to_json(self) -> dict[str, object]:
        return {
            "work": self.work,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.runs),
            "max": max(self.runs),
            "runs": list(self.runs),
            "limit": self.limit,
            "against": self.against or None,
            "ratio": self.value if self.against else None,
            "least": self.target.least if self.target else None,
            "aim": self.target.aim if self.target else None,
            "verdict": self.verdict,
            "pace": self.pace,
        }


@dataclass
class Limit:
    """What no program can beat here, measured anew beside each run of a figure: machines change their speed by half
    within minutes."""

    work: str
    unit: str
    measure: Callable[[], float]
    figures: list[float] = field(default_factory=list)

    def again(self) -> None:
        self.figures.append(self.measure())

    def fresh(self) -> Limit:
        return Limit(self.work, self.unit, self.measure)


def row(
    work: str,
    unit: str,
    runs: Sequence[float],
    target: tuple[float, float] | None = None,
    limit: Limit | None = None,
    *,
    lower: bool = False,
) -> Row:
    return Row(
        work,
        unit,
        tuple(sorted(runs)),
        limit.work if limit else "",
        statistics.median(limit.figures) if limit else 0.0,
        Target(*target) if target else None,
        lower,
    )


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(title="verbose-goggles beside the limits of this machine")
    best = max(one.pace for one in rows)
    for heading in ("work", "median", "min - max", "unit", "ratio", "at least / aim", "", "pace"):
        table.add_column(heading, justify="left" if heading in ("work", "unit", "") else "right", overflow="fold")
    for one in rows:
        ratio = f"{one.value:.2f} of {one.limit}" if one.against else ""
        wanted = f"{'<= ' if one.lower else ''}{one.target.least:g} / {one.target.aim:g}" if one.target else ""
        spread = f"{min(one.runs):.3g} - {max(one.runs):.3g}"
        pace = f"{one.pace / best:.2f}"
        table.add_row(one.work, f"{one.median:.4g}", spread, one.unit, ratio, wanted, one.verdict, pace)
    console.print(table)
