"""Figures as people read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

_NAMES: dict[str, str] = {
    "deliveries_per_second": "deliveries/s",
    "events_per_second": "events/s",
    "streams_per_second": "streams/s",
    "streams_per_cpu_second": "streams per second of CPU",
    "cpu_us_per_delivery": "us CPU a delivery",
    "cpu_us_per_event": "us CPU an event",
    "cpu_us_per_stream": "us CPU a stream",
    "memory_bytes_per_stream": "bytes a stream",
    "p50_us": "us p50",
    "p99_us": "us p99",
    "p999_us": "us p99.9",
    "without_p50_us": "us p50 without",
    "without_p99_us": "us p99 without",
    "without_p999_us": "us p99.9 without",
    "beside_p50_us": "us p50 beside them",
    "beside_p99_us": "us p99 beside them",
    "beside_p999_us": "us p99.9 beside them",
    "p99_ratio": "times the p99",
    "generator_late_us": "us the generator was late at worst",
    "seconds": "s",
    "holes": "holes",
    "repeats": "repeats",
}


def figure(value: float) -> str:
    """Three digits that count, thousands apart."""
    if abs(value) >= 100 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def figures(values: Mapping[str, float]) -> str:
    """All of them with their units, on one line."""
    return ", ".join(f"{figure(value)} {_NAMES.get(name, name)}" for name, value in values.items())


def unit(name: str) -> str:
    """What a figure of this name counts."""
    return _NAMES.get(name, name)
