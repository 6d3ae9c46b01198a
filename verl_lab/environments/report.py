"""What was asked about an environment, and what came out."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One question put to an environment: what was found, what was wanted, how to mend it."""

    name: str
    ok: bool
    found: str
    wanted: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """The answers for one role and interpreter."""

    role: str
    python: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"role": self.role, "python": self.python, "ok": self.ok, "checks": [asdict(c) for c in self.checks]}

    def __str__(self) -> str:
        rows = [("", "check", "found", "wanted"), *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        fixes = [f"{check.name}: {check.fix}" for check in self.checks if not check.ok and check.fix]
        return "\n".join([f"role {self.role}, {self.python}", *lines, *fixes])

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="text-align:left">{title}</th>' for title in ("", "check", "found", "wanted"))
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self._rows()
        )
        fixes = "".join(
            f"<li>{html.escape(check.name)}: {html.escape(check.fix)}</li>"
            for check in self.checks
            if not check.ok and check.fix
        )
        title = f"<p>role {html.escape(self.role)}, {html.escape(self.python)}</p>"
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{fixes}</ul>"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [("✓" if check.ok else "✗", check.name, check.found, check.wanted) for check in self.checks]
