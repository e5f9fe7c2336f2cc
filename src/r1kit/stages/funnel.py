"""How many completions each filter kept and dropped, and what the traces that are left are about."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from r1kit.stages.traces import Trace


@dataclass(slots=True)
class Funnel:
    """Counts, filter by filter, in the order in which they were announced."""

    kept: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    knobs: dict[str, str] = field(default_factory=dict)

    def announce(self, name: str, knob: str) -> None:
        """A filter, and the setting that decides it."""
        self.knobs.setdefault(name, knob)
        self.kept.setdefault(name, 0)
        self.dropped.setdefault(name, 0)

    def count(self, name: str, *, is_kept: bool) -> None:
        """One more completion that a filter saw."""
        counts = self.kept if is_kept else self.dropped
        counts[name] += 1

    @property
    def drawn(self) -> int:
        """Completions that came to the first filter."""
        first = next(iter(self.kept), None)
        return 0 if first is None else self.kept[first] + self.dropped[first]

    @property
    def worst(self) -> str:
        """The filter that dropped the most."""
        return max(self.dropped, key=lambda name: self.dropped[name])

    def rows(self) -> list[dict[str, Any]]:
        """The filters in order."""
        return [{"name": name, "kept": self.kept[name], "dropped": self.dropped[name]} for name in self.kept]

    def table(self, counted: str = "completions") -> Table:
        """The same for the console."""
        table = Table("filter", "kept", "dropped", box=None, title=f"{self.drawn:,} {counted}", title_justify="left")
        for name, kept in self.kept.items():
            table.add_row(name, f"{kept:,}", f"{self.dropped[name]:,}")
        for column in table.columns[1:]:
            column.justify = "right"
        return table


def domain_rows(traces: Iterable[Trace], tokens: Sequence[int]) -> list[dict[str, Any]]:
    """The paper's table 5: domain, samples, mean rounds, mean tokens of a completion; largest first, then the total."""
    found: dict[str, list[tuple[int, int]]] = {}
    total = []
    for trace, num_tokens in zip(traces, tokens, strict=True):
        total.append((trace.rounds, num_tokens))
        found.setdefault(trace.domain, []).append(total[-1])
    ordered = sorted(found.items(), key=lambda item: (item[0] == "general", -len(item[1]), item[0]))
    return [_domain_row(name, pairs) for name, pairs in [*ordered, ("total", total)]]


def domain_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The same for the console."""
    table = Table("domain", "samples", "rounds", "tokens", box=None)
    for row in rows:
        table.add_row(row["domain"], f"{row['samples']:,}", f"{row['rounds']:.1f}", f"{row['tokens']:,.1f}")
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _domain_row(name: str, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    count = max(1, len(pairs))
    return {
        "domain": name,
        "samples": len(pairs),
        "rounds": sum(rounds for rounds, _ in pairs) / count,
        "tokens": sum(tokens for _, tokens in pairs) / count,
    }
