"""``list`` and ``check``: available detectors, metrics and so on; whether a detector keeps its contract."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich import box
from rich.table import Table

from ovd_bench.benchmarks.cli.common import Json, Verbose, console, print_json
from ovd_bench.benchmarks.data.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from ovd_bench.benchmarks.conformance.outcome import CheckOutcome
    from ovd_bench.detectors.card import DetectorCard

Kind = Literal["detectors", "datasets", "metrics", "protocols", "prompts", "gates"]

#: Meaning of the families of ``benchmarks.scoring.extra_metrics.EXTRA_METRICS``.
METRICS = {
    "pool": "AP over all classes at once: are scores of different classes comparable?",
    "ladder": "AP at coarser names: class, basic level, supercategory, any object",
    "srp": "semantic R-precision: near misses of the name count by similarity; needs --judge",
    "region": "region-text margin under an image-text model; needs --images and --region-judge",
    "presence": "does the detector know which classes are in the image at all?",
    "errors": "AP lost to classification, localisation, duplicates, background and misses",
    "calibration": "are scores probabilities?",
    "phrases": "free-text labels: which class does a phrase name?",
    "queries": "texts asked of single images: is the right box found, and do absent ones stay below?",
    "unseen": "AP of the classes without a training image; reference row beside APr",
}
_STYLE = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


@dataclass(frozen=True)
class _Listing:
    """A table, and the same facts as JSON."""

    title: str
    headers: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    facts: list[dict[str, Any]]
    hint: str = ""


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND", help=f"One of {', '.join(get_args(Kind))}; default: all but gates.", show_default=False
        ),
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            "--weights",
            help="With gates: a file or folder of Grounding DINO, GLIP or a contestant; may be repeated.",
            show_default="the shipped ones",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--filter", metavar="TEXT", help="Only rows with this text, upper or lower case."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List the available detectors, data sets, metrics, protocols and prompt plans. Nothing is loaded.

    'gates' reads weights and shows the gates of the fusion of image and text.
    """
    if kind is not None and kind not in get_args(Kind):
        raise typer.BadParameter(f"choose from {', '.join(get_args(Kind))}", param_hint="KIND")
    if weights and kind != "gates":
        raise typer.BadParameter("only 'list gates' reads weights", param_hint="--weights")
    if only is not None and kind == "gates":
        raise typer.BadParameter("'list gates' is not filtered", param_hint="--filter")
    if kind == "gates":
        listings = {"gates": _gates(weights or [])}
    else:
        listings = {name: make() for name, make in _LISTINGS.items() if kind in (None, name)}
    if only is not None:
        listings = {name: _filtered(listing, only.casefold()) for name, listing in listings.items()}
    if as_json:
        print_json({name: listing.facts for name, listing in listings.items()})
        return
    for listing in listings.values():
        if listing.rows or only is None:
            _print_listing(console(as_json), listing)
    if not any(listing.rows for listing in listings.values()) and only is not None:
        console(as_json).print(f"nothing has '{printable(only)}' in it", highlight=False, markup=False)


def _filtered(listing: _Listing, text: str) -> _Listing:
    """The rows with a text, and their facts."""
    pairs = zip(listing.rows, listing.facts, strict=True)
    kept = [(row, facts) for row, facts in pairs if any(text in cell.casefold() for cell in row)]
    return replace(listing, rows=[row for row, _ in kept], facts=[facts for _, facts in kept])


def check(
    detector: Annotated[str, typer.Argument(help="Name, or path/to/file.py:Name.", show_default=False)],
    weights: Annotated[str | None, typer.Option(help="Local path or hub id.", show_default="the detector's")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Check on synthetic images whether a detector keeps the contract of the suite. Any weights will do."""
    from ovd_bench.benchmarks.conformance.checks import check_detector
    from ovd_bench.benchmarks.runner.loading import choose_device, seed_everything
    from ovd_bench.detectors.interface import DetectorSettings
    from ovd_bench.detectors.registry import find_card, load_detector

    card = find_card(detector)
    where = choose_device(device, card.framework)
    seed_everything(0)
    out = console(as_json)
    outcomes = []
    for outcome in check_detector(
        detector, lambda top_k: load_detector(detector, DetectorSettings(weights=weights, device=where, top_k=top_k))
    ):
        outcomes.append(outcome)
        _print_outcome(out, outcome)
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in _STYLE}
    if as_json:
        print_json(
            {
                "detector": card.name,
                "device": where,
                "conforms": not counts["failed"],
                **counts,
                "checks": [asdict(one) for one in outcomes],
            }
        )
    seconds = sum(outcome.seconds for outcome in outcomes)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    out.print(f"{printable(card.name)}: {summary} in {seconds:.0f} s", style="bold", highlight=False, markup=False)
    if counts["failed"]:
        raise typer.Exit(1)


def _print_outcome(out: Console, outcome: CheckOutcome) -> None:
    from rich.text import Text

    line = Text.assemble((f"{outcome.status:8}", _STYLE[outcome.status]), (f"{outcome.check:17}", "bold"))
    line.append(outcome.about)
    if outcome.detail:
        line.append(f"\n{'':25}{outcome.detail}", style="" if outcome.status == "failed" else "dim")
    out.print(line, soft_wrap=True)


def _print_listing(out: Console, listing: _Listing) -> None:
    table = Table(title=listing.title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, header in enumerate(listing.headers):
        table.add_column(header, no_wrap=number == 0, style="bold" if number == 0 else "")
    for row in listing.rows:
        table.add_row(*(printable(cell) for cell in row))
    out.print(table)
    if not listing.rows:
        out.print("none", style="dim")
    if listing.hint:
        out.print(listing.hint, style="dim", highlight=False, markup=False, soft_wrap=True)


def _detectors() -> _Listing:
    from ovd_bench.detectors.availability import what_is_missing
    from ovd_bench.detectors.registry import detector_cards

    def broken(problem: str) -> None:
        print("warning:", printable(problem), file=sys.stderr)

    cards = list(detector_cards(broken).values())
    missing = [what_is_missing(card) for card in cards]
    rows = [
        (card.name, f"needs {lack}" if lack else "yes", *_about(card))
        for card, lack in zip(cards, missing, strict=True)
    ]
    facts = [{**asdict(card), "missing_here": lack or None} for card, lack in zip(cards, missing, strict=True)]
    hint = (
        "Your own: path/to/file.py:Name. 'bench check NAME' tests a detector against the interface. Weights to "
        "fetch come from the hub at the first run; --weights takes them from a folder."
    )
    return _Listing("Detectors", ("detector", "runs here", "size", "capabilities", "trained on"), rows, facts, hint)


def _about(card: DetectorCard) -> tuple[str, str, str]:
    """Number of parameters, capabilities, and training data."""
    size = "" if card.parameters is None else f"{card.parameters / 1e6:.1f} M"
    data = card.training_data
    able = _words(capability.replace("_", " ") for capability in card.capabilities)
    return size, able, "not known" if data is None else _words(one.dataset for one in data)


def _datasets() -> _Listing:
    from ovd_bench.benchmarks.data.catalog.cards import CARDS
    from ovd_bench.benchmarks.data.catalog.suites import SUITES

    facts = [
        *({"name": c.name, "title": c.title, "protocol": c.protocol, "licence": c.licence} for c in CARDS.values()),
        *({"name": s.name, "title": s.title, "protocol": "coco", "licence": s.licence} for s in SUITES.values()),
    ]
    rows = [(fact["name"], fact["title"], fact["protocol"]) for fact in facts]
    hint = "'bench data list' shows which of them are on this machine."
    return _Listing("Data sets", ("data set", "what it is", "protocol"), rows, facts, hint)


def _metrics() -> _Listing:
    from ovd_bench.benchmarks.scoring.extra_metrics import EXTRA_METRICS

    rows = [(name, METRICS[name]) for name in EXTRA_METRICS]
    facts = [{"name": name, "about": about} for name, about in rows]
    hint = "AP, AP50, AP75, AP by size and by frequency are always computed; --metric adds the metrics above."
    return _Listing("Metrics beyond AP", ("metric", "what it says"), rows, facts, hint)


def _protocols() -> _Listing:
    from ovd_bench.benchmarks.store.protocols import TOP_K
    from ovd_bench.metrics.protocol import PROTOCOLS

    rows, facts = [], []
    for name, protocol in PROTOCOLS.items():
        top_k, per_chunk = TOP_K[name]
        rules = "federated (LVIS)" if protocol.federated else "exhaustive (COCO)"
        caps = []
        if protocol.image_cap:
            caps.append(f"{protocol.image_cap:,} per image")
        if protocol.class_cap:
            caps.append(f"{protocol.class_cap:,} per class, no image cap")
        if protocol.max_dets:
            caps.append(f"{protocol.max_dets[-1]:,} per image and class")
        asked = f"{top_k:,} per image" + (f", {per_chunk:,} per chunk of classes" if per_chunk else "")
        rows.append((name, rules, _words(caps), asked))
        facts.append({**protocol.as_dict(), "top_k": top_k, "chunk_top_k": per_chunk})
    headers = ("protocol", "rules", "boxes that count", "boxes requested from a detector")
    hint = "'bench score' also knows grounding-recall and refcoco, for phrases and expressions."
    return _Listing("Protocols", headers, rows, facts, hint)


def _prompts() -> _Listing:
    from ovd_bench.detectors.prompts import PLANS

    rows, facts = [], []
    for plan in PLANS.values():
        first, rest = plan.templates[0], len(plan.templates) - 1
        template = first + (f" and {rest} more" if rest else "")
        classes = str(plan.chunk_classes or "all that fit")
        rows.append((plan.name, plan.cleaning, template, classes, str(plan.token_budget), plan.order, plan.sha256[:8]))
        facts.append({**asdict(plan), "sha256": plan.sha256})
    headers = ("plan", "names", "templates", "classes", "tokens", "order", "hash")
    hint = (
        "names: how they are cleaned; classes, tokens: maximum per chunk (classes asked for together). A plan of your "
        "own is a YAML file with the keys name (required), cleaning, templates, ensemble, chunk_classes, token_budget, "
        "order."
    )
    return _Listing("Prompt plans", headers, rows, facts, hint)


def _gates(weights: Sequence[Path]) -> _Listing:
    from ovd_bench.detectors.fusion_gates import GATES, read_mean_gates

    named = {str(path): path for path in weights} or _shipped_with_fusion()
    rows, facts = [], []
    for name, path in named.items():
        gates = read_mean_gates(path)
        layers = len(gates) // len(GATES)
        facts.append({"weights": name, **{gate: [gates[f"{gate}.{n}"] for n in range(layers)] for gate in GATES}})
        rows += [(name, str(n), *(f"{gates[f'{gate}.{n}']:.6f}" for gate in GATES)) for n in range(layers)]
        if not layers:
            rows.append((name, "no fusion", "", ""))
    headers = ("weights", "layer", "|gamma_v|", "|gamma_l|")
    hint = (
        "Means over the channels. gamma_v: factor of what the words add to the image; gamma_l: of what the image adds "
        "to the words. They start at 0.0001 in Grounding DINO, 1 / layers in GLIP, or at a training's fusion_gate."
    )
    return _Listing("Fusion gates", headers, rows, facts, hint)


def _shipped_with_fusion() -> dict[str, Path]:
    from ovd_bench.detectors.registry import BUILT_IN
    from ovd_bench.detectors.shipped import shipped_file

    fused = (
        "ovd_bench.detectors.contestants:load",
        "ovd_bench.detectors.grounding_dino:load",
        "ovd_bench.detectors.glip:load",
    )
    files = {name: shipped_file(card.weights) for name, card in BUILT_IN.items() if card.loader in fused}
    return {name: path for name, path in files.items() if path is not None}


_LISTINGS = {
    "detectors": _detectors,
    "datasets": _datasets,
    "metrics": _metrics,
    "protocols": _protocols,
    "prompts": _prompts,
}


def _words(items: Iterable[str]) -> str:
    return ", ".join(items) or "none"


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(
        name="list",
        epilog="Examples:\n\n"
        "  bench list\n\n"
        "  bench list detectors --filter owl\n\n"
        "  bench list gates\n\n"
        "  bench list gates --weights groundingdino_swint_ogc.pth --weights runs/mine/weights.safetensors",
    )(list_)
    app.command(
        epilog="Examples:\n\n"
        "  bench check owl-nano\n\n"
        "  bench check examples/my_detector.py:ColourBlobs\n\n"
        "  bench check owlv2-base-patch16 --weights ./owlv2 --device cuda\n\n"
        "Exit code 1 if a check failed. What each check can find, and what it cannot: docs/adding-a-detector.md."
    )(check)
