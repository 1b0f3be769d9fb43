"""Settings of the documentation, and the pages that are drawn from the code."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import create_autospec

from sphinx.application import Sphinx

import llamaswap
from llamaswap.config.fields import Field, MappingOf, Section
from llamaswap.config.table import ROOT
from llamaswap.core.lifecycle import REFUSALS, TRANSITIONS, LifecycleEvent
from llamaswap.core.values import ProcessState
from llamaswap.errors import ConfigError, IllegalTransitionError, LlamaSwapError, wire_words
from llamaswap.tap import Options
from llamaswap.web.app import App
from llamaswap.web.daemon import Daemon

project = "llamaswap"
author = "The llamaswap developers"
project_copyright = "2026, The llamaswap developers"
version = release = llamaswap.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "reference/generated"]
html_theme = "furo"
html_title = "llamaswap"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
nitpick_ignore_regex = [
    # Of the standard library, and ids that are plain numbers or strings: they have no page here.
    ("py:class", r"(collections\.abc|enum)\..*"),
    ("py:class", r"llamaswap\.core\.values\.(\w+Id|Generation)"),
]

GENERATED = Path(__file__).parent / "reference" / "generated"


def setup(app: Sphinx) -> None:
    """Draw the generated pages before Sphinx looks for its sources."""
    app.connect("config-inited", lambda *_: generate())


def generate() -> None:
    """Write what the pages include: tables and drawings that come from the code."""
    GENERATED.mkdir(exist_ok=True)
    pages = {
        "command-line.md": flags_table(),
        "configuration.md": "\n".join(key_tables("", ROOT)),
        "http.md": routes_table(),
        "errors.md": errors_table(),
        "lifecycle.md": lifecycle_table(),
        "lifecycle.svg": drawing(TRANSITIONS),
    }
    for name, text in pages.items():
        (GENERATED / name).write_text(text, encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Give a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def errors_table() -> str:
    """Give every error that a client can see, from the exception tree."""
    found: dict[tuple[int, str], str] = {}
    for error in descendants(LlamaSwapError):
        if not issubclass(error, ConfigError | IllegalTransitionError):
            # A parent comes before its children, and describes them where they share its code.
            found.setdefault((error.status, error.code or wire_words(error.status)[1]), first_line(error))
    return table(("Status", "`code`", "When"), [(s, f"`{code}`", text) for (s, code), text in sorted(found.items())])


def descendants(cls: type[LlamaSwapError]) -> Iterator[type[LlamaSwapError]]:
    """Give every class below one."""
    for child in cls.__subclasses__():
        yield child
        yield from descendants(child)


FLAG_VALUES = {"config-dir": "FOLDER", "listen": "ADDRESS"}


def flags_table() -> str:
    """Give every flag of the daemon."""
    rows = [
        (f"`-{name} {FLAG_VALUES.get(str(name), 'FILE')}`" + (f", `-{short}`" if short else ""), doc)
        for name, short, _, doc in Options.optParameters
    ]
    rows += [(f"`-{name}`", doc) for name, _, doc in Options.optFlags]
    rows += [("`-version`", first_line(Options.opt_version)), ("`-help`, `-h`", first_line(Options.opt_help))]
    return table(("Flag", "Meaning"), rows)


def routes_table() -> str:
    """Give every route of the Klein application; nothing is called on the daemon that it is made for."""
    app = App(create_autospec(Daemon)).klein
    rows: dict[tuple[str, str], list[str]] = {}
    for rule in app.url_map.iter_rules():
        methods = ", ".join(sorted((rule.methods or set()) - {"HEAD"})) or "any"
        path = re.sub(r"<(?:path:)?_*(\w+?)_*>", r"{\1}", rule.rule)
        rows.setdefault((methods, first_line(app.endpoints[rule.endpoint])), []).append(f"`{path}`")
    return table(("Method", "Paths", "What it does"), [(m, " ".join(paths), doc) for (m, doc), paths in rows.items()])


NOT_YET = {
    "models.*.launcher",
    "models.*.launcherSettings",
    "routing.router.fallback",
    "routing.router.isolation",
    "routing.router.planTimeout",
}
"""Keys that are read and checked, and have no effect so far."""


def key_tables(path: str, section: Section) -> Iterator[str]:
    """Give a table for a section, then those of the sections in it."""
    yield f"### {f'`{path}`' if path else 'Top level'}\n"
    rows, inner = [], []
    for field in section.fields:
        below = f"{path}.{field.key}".removeprefix(".")
        nested = field.kind.item if isinstance(field.kind, MappingOf) else field.kind
        if isinstance(nested, Section):
            inner.append((f"{below}.*" if isinstance(field.kind, MappingOf) else below, nested))
        unit = f", {field.unit}" if field.unit else ""
        remark = " *Not in llama-swap.*" if field.is_ours else ""
        remark += " *Not yet.*" if below in NOT_YET else ""
        rows.append((f"`{field.key}`", field.kind.words + unit, default_cell(field), field.doc + remark))
    if section.rest:
        rows.append(("any other", "", "", section.rest))
    yield table(("Key", "Type", "Default", "Meaning"), rows)
    for below, nested in inner:
        yield from key_tables(below, nested)


def default_cell(field: Field) -> str:
    """Say what holds when a key is missing."""
    if field.is_required:
        return "required"
    return "" if field.default in (None, "") else f"`{json.dumps(field.default)}`"


def first_line(thing: object) -> str:
    """Give the first line of a docstring."""
    text = (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "`")
    return re.sub(r"; otherwise as :\w+:`\w+`", "", text)


def lifecycle_table() -> str:
    """Give what follows each state by each event: a state, or why nothing does."""
    rows = [
        (
            f"`{state}`",
            event,
            f"`{TRANSITIONS[state, event]}`" if (state, event) in TRANSITIONS else REFUSALS[state, event],
        )
        for state in ProcessState
        for event in LifecycleEvent
    ]
    return table(("In state", "on", "comes"), rows)


NODE_PX = (110, 36)
CANVAS_PX = (760, 440)
LABEL = 0.38  # where on its line a label stands; lines cross in their middles
BEND = 0.16  # how far a line leaves the straight way, so that there and back are two lines


def drawing(transitions: Mapping[tuple[ProcessState, LifecycleEvent], ProcessState]) -> str:
    """Draw states on an ellipse, and an arrow for each pair of states that some event connects."""
    width, height = CANVAS_PX
    angles = {state: math.tau * (i / len(ProcessState) - 0.25) for i, state in enumerate(ProcessState)}
    spots = {
        state: (width / 2 + math.cos(angle) * width * 0.36, height / 2 + math.sin(angle) * height * 0.38)
        for state, angle in angles.items()
    }
    labels: dict[tuple[ProcessState, ProcessState], list[str]] = {}
    for (before, event), after in transitions.items():
        labels.setdefault((before, after), []).append(event)
    arrows = [arrow(spots[before], spots[after], ", ".join(events)) for (before, after), events in labels.items()]
    nodes = [node(spot, state) for state, spot in spots.items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="12">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs><rect width="100%" height="100%" fill="white"/>'
        + "".join([*arrows, *nodes])
        + "</svg>\n"
    )


def node(spot: tuple[float, float], name: str) -> str:
    """Draw a state as a box around its name."""
    (x, y), (w, h) = spot, NODE_PX
    return (
        f'<rect x="{x - w / 2:.0f}" y="{y - h / 2:.0f}" width="{w}" height="{h}" rx="8" fill="#eef" stroke="black"/>'
        f'<text x="{x:.0f}" y="{y + 4:.0f}" text-anchor="middle" font-weight="bold">{name}</text>'
    )


def arrow(start: tuple[float, float], end: tuple[float, float], label: str) -> str:
    """Draw a bent arrow from box to box, its label upon it."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    bent = ((start[0] + end[0]) / 2 + dy * BEND, (start[1] + end[1]) / 2 - dx * BEND)
    begin, tip = border(start, bent), border(end, bent)
    weights = ((1 - LABEL) ** 2, 2 * LABEL * (1 - LABEL), LABEL**2)
    x, y = (sum(w * p[axis] for w, p in zip(weights, (begin, bent, tip), strict=True)) for axis in (0, 1))
    return (
        f'<path d="M{begin[0]:.0f} {begin[1]:.0f}Q{bent[0]:.0f} {bent[1]:.0f} {tip[0]:.0f} {tip[1]:.0f}"'
        ' fill="none" stroke="black" marker-end="url(#tip)"/>'
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" stroke="white" stroke-width="4"'
        f' paint-order="stroke">{label}</text>'
    )


def border(box: tuple[float, float], towards: tuple[float, float]) -> tuple[float, float]:
    """Give the point where a line from the middle of a box leaves it."""
    dx, dy = towards[0] - box[0], towards[1] - box[1]
    shrink = min(side / 2 / abs(d) if d else math.inf for side, d in zip(NODE_PX, (dx, dy), strict=True))
    return box[0] + dx * shrink, box[1] + dy * shrink
