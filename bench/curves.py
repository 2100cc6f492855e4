"""The record as pictures, if matplotlib is there (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.plan import FLOOR, NCHAN, OWN
from bench.record import Medians

COLOURS = {OWN: "#0b6e4f", NCHAN: "#c1440e", FLOOR: "#777777"}
STYLES = {1: "-", 16: "--", 64: ":"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a picture."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str | None = None
    style: str = "-"


def draw(document: Mapping[str, Any], folder: Path, note: Callable[[str], object]) -> list[Path]:
    """Writes the pictures that the record has the figures for; their paths."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        note("no curves: matplotlib is not installed; pip install 'sse-daemon[bench]'")
        return []
    medians, drawn = Medians(document["results"]), []
    for file, title, across, up, lines in pictures(medians):
        figure, axes = pyplot.subplots(figsize=(9, 4.5))
        for line in lines:
            axes.plot(*zip(*line.points, strict=True), line.style, marker="o", label=line.label, color=line.colour)
        axes.set(title=title, xlabel=across, ylabel=up, xscale="linear" if "%" in across else "log", yscale="log")
        axes.grid(True, which="both", alpha=0.25)
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1.0))
        figure.tight_layout()
        figure.savefig(folder / file, dpi=110)
        pyplot.close(figure)
        drawn.append(folder / file)
    return drawn


def pictures(medians: Medians) -> Iterator[tuple[str, str, str, str, list[Line]]]:
    """(file, title, what is across, what goes up, its lines) of each picture with something in it."""
    wanted = (
        (
            "to-all-rate.png",
            "To all: deliveries a second",
            "streams",
            "deliveries/s",
            _by_w(medians, "to-all", "deliveries_per_second"),
        ),
        ("to-all-cpu.png", "To all: CPU a delivery", "streams", "us", _by_w(medians, "to-all", "cpu_us_per_delivery")),
        ("to-one-rate.png", "To one: events a second", "streams", "events/s", _by_w(medians, "to-one", "events_per_second")),
        ("to-one-cpu.png", "To one: CPU an event", "streams", "us", _by_w(medians, "to-one", "cpu_us_per_event")),
        ("latency.png", "Delay of a delivery to 1,000", "% of the measured maximum", "us", _latency(medians)),
        (
            "growth.png",
            "Cost of an event, or of its deliveries, as something grows",
            "participants, events, recipients",
            "us",
            _growth(medians),
        ),
        ("opening.png", "Streams opened a second", "streams", "streams/s", _opening(medians)),
    )
    for file, title, across, up, lines in wanted:
        if found := [line for line in lines if line.points]:
            yield file, title, across, up, found


def _points(medians: Medians, case: str, server: str, figure: str, by: str, **at: Any) -> list[tuple[float, float]]:
    found = []
    for name in medians.names():
        where = medians.at(name)
        value = medians.value(name, server, figure)
        if value is not None and name.split(" ")[0] == case and all(where.get(key) == wanted for key, wanted in at.items()):
            found.append((float(str(where[by]).rstrip("%")), value))
    return sorted(found)


def _by_w(medians: Medians, case: str, figure: str) -> Iterator[Line]:
    for server in medians.servers():
        for w, style in STYLES.items():
            yield Line(
                label=f"{server}, W={w}",
                points=_points(medians, case, server, figure, "n", w=w),
                colour=COLOURS.get(server),
                style=style,
            )


def _latency(medians: Medians) -> Iterator[Line]:
    for server in medians.servers():
        for figure, style in (("p50_us", ":"), ("p99_us", "--"), ("p999_us", "-")):
            label = f"{server}, {figure.removesuffix('_us').replace('p999', 'p99.9')}"
            yield Line(
                label=label, points=_points(medians, "latency", server, figure, "load"), colour=COLOURS.get(server), style=style
            )


def _growth(medians: Medians) -> Iterator[Line]:
    yield Line(label="an event, by participants", points=_points(medians, "participants", OWN, "cpu_us_per_event", "n"))
    yield Line(label="an event, by events kept", points=_points(medians, "kept", OWN, "cpu_us_per_event", "events"))
    yield Line(label="a delivery, by recipients", points=_points(medians, "recipients", OWN, "cpu_us_per_delivery", "recipients"))


def _opening(medians: Medians) -> Iterator[Line]:
    for server in medians.servers():
        points = _points(medians, "opening", server, "streams_per_second", "n")
        yield Line(label=server, points=points, colour=COLOURS.get(server))
