"""The drawing beside the table: two bars a configuration, seconds and memory, each shape on a scale of its own. Plain SVG, nothing loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.tables import by_key, peak, seconds

BAR, GAP, LABEL, WIDTH, HALF = 16, 6, 290, 1000, 320
HEAD, FOOT = 46, 14
TONES = {"trl": "#9a9a9a", "attune": "#2f6f9f", "floor": "#d9a441"}


def drawing(results: Mapping[str, Any]) -> str:
    """Returns the drawing of all shapes."""
    parts, top = [], HEAD
    for shape in results["shapes"]:
        parts.append(_text(0, top + 12, shape["name"], weight="bold"))
        top += 20
        rows = by_key(shape)
        fine = {key: row for key, row in rows.items() if not row["failed"]}
        scales = {"time": max(map(seconds, fine.values()), default=1.0), "memory": max(map(peak, fine.values()), default=1.0)}
        for row in rows.values():
            parts += _bars(row, top, scales)
            top += BAR + GAP
        top += 14
    heads = _text(LABEL, 20, "seconds an update", weight="bold") + _text(LABEL + HALF + 60, 20, "peak memory, GiB", weight="bold")
    style = "<style>text{font:12px system-ui,sans-serif;fill:#333}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>"
    size = f'viewBox="0 0 {WIDTH} {top + FOOT}" width="{WIDTH}" height="{top + FOOT}"'
    said = "Bars of seconds an update and peak memory of each configuration; the table holds the numbers."
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{said}</title>{style}{heads}{"".join(parts)}</svg>\n'


def _bars(row: Mapping[str, Any], top: int, scales: Mapping[str, float]) -> list[str]:
    parts = [_text(0, top + 12, row["label"] if row["side"] == "floor" else f"{row['label']}, {row['precision']}")]
    if row["failed"]:
        return [*parts, _text(LABEL, top + 12, row["failed"])]
    for left, name, measure in ((LABEL, "time", seconds), (LABEL + HALF + 60, "memory", peak)):
        value = measure(row)
        length = max(1.0, (HALF - 40) * value / scales[name])
        parts.append(f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{TONES[row["side"]]}"/>')
        parts.append(_text(left + length + 5, top + 12, f"{value:.2f}"))
    return parts


def _text(x: float, y: float, words: str, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y}" style="font-weight:{weight}">{escape(words)}</text>'
