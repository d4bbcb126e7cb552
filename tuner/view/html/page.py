"""The page of a run: the answer first, then what to do, then step by step what was seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from tuner.core.formatting import plural
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.artifacts import get, items
from tuner.view.blocks import Plot
from tuner.view.compare import blocks_of
from tuner.view.console import after_of, body_of, title_of
from tuner.view.html.elements import render
from tuner.view.html.figures import Figure, of_plot, of_search
from tuner.view.text import as_float, duration, is_number, value_text

SEVERITIES = ("error", "warn", "note")
WORDS = {"error": "ERROR", "warn": "WARN", "note": "note"}
MARKS = {"pass": "✓", "warn": "!", "fail": "✗"}  # beside the word: meaning never rests on colour


@dataclass(frozen=True)
class Step:
    """One finished step: the name of its folder, its result, and the content of its result.json."""

    label: str
    typed: StageResult[Any]
    result: Mapping[str, Any]


@dataclass
class Page:
    """Collects the figures while the page is written."""

    run: Path
    figures: list[Figure] = field(default_factory=list)

    def figure(self, spec: Figure) -> str:
        """Take a figure into the page, and return its element."""
        self.figures.append(spec)
        legend = "".join(_legend(series) for series in spec.get("series", []) if series["name"] and not series["quiet"])
        return (
            f'<figure data-figure="{len(self.figures) - 1}"><figcaption>{escape(spec["title"])}</figcaption>'
            '<div class="tools"></div><p class="read" aria-live="polite"></p>'
            f'<div class="legend">{legend}</div></figure>'
        )


def _legend(series: Figure) -> str:
    dot = "" if series["line"] else ' class="dot"'
    return f'<span><i{dot} style="color:var(--c{series["colour"]})"></i>{escape(series["name"])}</span>'


def page_of(run: Path, steps: Sequence[Step], name: str) -> str:
    """Return the HTML page of a run, complete in itself.

    The results are in it as JSON, in the element `results`: {folder: content of its result.json}.
    """
    page = Page(run)
    sections = "\n".join(_section(page, step) for step in steps)
    body = f"""<header>
<h1>{escape(name)}</h1>
<p class="muted">{_summary(steps)}</p>
</header>
<main>
{_overview(run, steps)}
{_findings(steps)}
{sections}
</main>"""
    title = f"{name}: report of the tuning checklist"
    return _document(title, body, {step.label: step.result for step in steps}, page.figures)


def comparison_page(comparison: Mapping[str, Any]) -> str:
    """Return the HTML page of a comparison of two runs, from its JSON, which is in it."""
    page = Page(Path())
    title = f"{comparison['a']['run']} and {comparison['b']['run']}"
    blocks = render(blocks_of(comparison), lambda plot: page.figure(of_plot(plot)))
    body = f'<header><h1>{escape(title)}</h1></header>\n<main id="findings">\n{blocks}\n</main>'
    return _document(f"{title}: two runs compared", body, comparison, page.figures)


def _document(title: str, body: str, results: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """Return a whole page: style, body, both pieces of JSON, and the script that draws."""
    style, script = (resources.files("tuner.view.html").joinpath(file).read_text("utf-8") for file in FILES)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#findings">Skip to the findings</a>
{body}
<noscript><p>The figures need JavaScript; every number is in the tables and in the JSON of this file.</p></noscript>
<script type="application/json" id="results">{embedded(results)}</script>
<script type="application/json" id="figures">{embedded(figures)}</script>
<script>
{script}</script>
</body>
</html>
"""


FILES = ("page.css", "page.js")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"  # asks nobody


def embedded(value: Any) -> str:
    """Return JSON that is safe within a script element, whatever its texts are."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _verdict(word: str) -> str:
    return f'<span class="verdict {escape(word)}">{MARKS.get(word, "")} {escape(word.upper())}</span>'


def _summary(steps: Sequence[Step]) -> str:
    """Say in one line how many steps ended how."""
    counts = Counter(str(step.result["verdict"]) for step in steps)
    ends = ", ".join(f"{counts[word]} {word}" for word in ("fail", "warn", "pass") if counts[word])
    return f"{plural(len(steps), 'finished step')}: {ends}"


def _overview(run: Path, steps: Sequence[Step]) -> str:
    rows = []
    for step in steps:
        took = as_float(get(artifacts.read_json(run / step.label / "manifest.json"), "wall_seconds"))
        cells = [
            f'<td class="l"><a href="#{escape(step.label)}">{escape(step.label)}</a></td>',
            f'<td class="l">{_verdict(str(step.result["verdict"]))}</td>',
            f'<td class="l">{escape(str(step.result["headline"]))}</td>',
            f"<td>{duration(took)}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = '<tr><th class="l" scope="col">step</th><th class="l" scope="col">verdict</th>'
    head += '<th class="l" scope="col">what was seen</th><th scope="col">took</th></tr>'
    return f'<table class="steps"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _findings(steps: Sequence[Step]) -> str:
    found = [(step.label, finding) for step in steps for finding in items(step.result, "findings")]
    open_ones = [pair for pair in found if not get(pair[1], "accepted", default=False)]
    ordered = sorted(open_ones, key=lambda pair: SEVERITIES.index(str(get(pair[1], "severity", default="note"))))
    if not ordered:
        return '<section id="findings"><h2>Findings</h2><p>None: no check found anything to do.</p></section>'
    texts = "".join(_finding(label, finding) for label, finding in ordered)
    return f'<section id="findings"><h2>Findings, and what to do</h2>{texts}</section>'


def _finding(label: str, finding: Mapping[str, Any], target: bool = False) -> str:
    """Return a finding: in the list at the top a link to its step, in its step (`target`) what that link leads to."""
    severity, code = str(get(finding, "severity", default="note")), str(get(finding, "code", default="-"))
    name = f"{label}-{code}"
    shown = f"<code>{escape(code)}</code>" if target else f'<a href="#{escape(name)}"><code>{escape(code)}</code></a>'
    cause = get(finding, "explained_by")
    parts = [
        f'<p><span class="verdict">{WORDS.get(severity, severity)}</span> {shown} <b>{escape(title(finding))}</b></p>'
    ]
    if remedy := get(finding, "remedy"):
        parts.append(f"<p>Do: {escape(str(remedy))}</p>")
    if cause:
        parts.append(f'<p class="muted">Explained by <code>{escape(str(cause))}</code>.</p>')
    if target and (evidence := _evidence(get(finding, "evidence", default={}))):
        parts.append(f'<details><summary>What it rests on</summary><p class="muted">{escape(evidence)}</p></details>')
    ident = f' id="{escape(name)}"' if target else ""
    return f'<div class="finding {escape(severity)}"{ident}>{"".join(parts)}</div>'


def title(finding: Mapping[str, Any]) -> str:
    """Return what a finding says, and whether the recipe accepts it."""
    accepted = " (accepted in the recipe)" if get(finding, "accepted", default=False) else ""
    return str(get(finding, "title", default=get(finding, "cause", default="-"))) + accepted


def _evidence(evidence: Mapping[str, Any]) -> str:
    parts = []
    for key, value in evidence.items():
        text = f"{value:.6g}" if is_number(value) and isinstance(value, float) else value_text(value)
        if value is not None and len(text) < 200:
            parts.append(f"{str(key).replace('_', ' ')} {text}")
    return "; ".join(parts)


def _section(page: Page, step: Step) -> str:
    stage_dir, result = page.run / step.label, step.result
    name = " ".join(title_of(step.typed, stage_dir).split())
    head = f"<header><h2>{escape(name)}</h2>{_verdict(str(result['verdict']))}</header>"

    def figure(plot: Plot) -> str:
        return page.figure(of_plot(plot))

    parts = [head, f"<p>{escape(str(result['headline']))}</p>", render(body_of(step.typed, stage_dir), figure)]
    parts += [page.figure(spec) for spec in of_search(result, stage_dir)]
    parts += [_finding(step.label, finding, target=True) for finding in items(result, "findings")]
    parts += [render(after_of(step.typed, stage_dir), figure), _pictures(result), _checks(result)]
    return f'<section id="{escape(step.label)}">{"".join(filter(None, parts))}</section>'


def _pictures(result: Mapping[str, Any]) -> str:
    """Show the worst mistakes of which the run keeps a picture."""
    shown = []
    for entry in items(result, "metrics", "mistakes"):
        picture = str(get(entry, "png", default=""))
        if not picture:
            continue
        share = as_float(get(entry, "share")) or 0.0
        words = f"{get(entry, 'target')} taken for {get(entry, 'answer')}, {share:.0%} sure"
        shown.append(
            f'<figure><img alt="{escape(words)}" src="data:image/png;base64,{escape(picture)}">'
            f"{escape(words)}<br><span class=muted>{escape(str(get(entry, 'place', default='')))}</span></figure>"
        )
    return f'<h3>The surest wrong answers on val</h3><div class="pictures">{"".join(shown)}</div>' if shown else ""


def _checks(result: Mapping[str, Any]) -> str:
    found = {str(get(finding, "code")) for finding in items(result, "findings")}
    ran = [str(name) for name in get(result, "checks", "ran", default=[])]
    passed = [name for name in ran if name.split(" ")[0] not in found]
    skipped = items(result, "checks", "skipped")
    text = ""
    if passed:
        lines = "".join(f"<li>{escape(name)}</li>" for name in passed)
        text += f"<details><summary>Passed: {len(passed)} checks</summary><ul>{lines}</ul></details>"
    if skipped:
        lines = "".join(
            f"<li>{escape(str(get(entry, 'check')))}: <span class=muted>{escape(str(get(entry, 'why')))}</span></li>"
            for entry in skipped
        )
        text += f"<h3>Did not run, and why</h3><ul>{lines}</ul>"
    return text
