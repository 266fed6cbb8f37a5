"""Rows of the report: what was measured, as medians, spreads and ratios."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measuring import Key, Record, Results
from benchmarks.systems import System

MB = 1e6


def rows_of(results: Results, systems: Sequence[System]) -> list[dict[str, Any]]:
    """One for each system, in flight and prevalence; one with an `error` for each system that failed.

    The limit at a prevalence is the fastest of its rows there. A ratio is the median of the rounds' own ratios, so that
    whatever slowed a round down slowed both of its sides down; None where no limit was measured.
    """
    limits = limits_of(results)
    rows = [_row(key, record, limits.get(key.prevalence)) for key, record in results.records.items()]
    failed = [system for system in systems if (system.name, system.engine) in results.errors]
    return [*rows, *(_failure(system, results.errors[system.name, system.engine]) for system in failed)]


def limits_of(results: Results) -> dict[float, Record]:
    """By prevalence: the fastest of what ran in one process."""
    limits: dict[float, Record] = {}
    for key, record in results.records.items():
        if key.kind == "limit":
            known = limits.setdefault(key.prevalence, record)
            if median(record.rates) > median(known.rates):
                limits[key.prevalence] = record
    return limits


def _row(key: Key, record: Record, limit: Record | None) -> dict[str, Any]:
    latencies = np.concatenate([each.latencies_s for each in record.measured])
    ratios = [rate / best for rate, best in zip(record.rates, limit.rates if limit else [], strict=False)]
    return {
        "name": key.system,
        "engine": key.engine,
        "kind": key.kind,
        "prevalence": key.prevalence,
        "in_flight": key.in_flight,
        "images_per_s": median(record.rates),
        "images_per_s_range": [min(record.rates), max(record.rates)],
        "p50_ms": 1e3 * float(np.percentile(latencies, 50)),
        "p99_ms": 1e3 * float(np.percentile(latencies, 99)),
        "ratio_to_limit": median(ratios) if ratios else None,
        "ratio_to_limit_range": [min(ratios), max(ratios)] if ratios else None,
        "peak_mb": max(record.peak_bytes) / MB,
        "opened": record.measured[0].opened,
        "slices": len(record.measured[0].areas),
        "rounds": len(record.measured),
    }


def _failure(system: System, error: str) -> dict[str, Any]:
    return {"name": system.name, "engine": system.engine, "kind": system.kind, "error": error}


def starts_of(results: Results) -> list[dict[str, Any]]:
    """How each system came up, medians over the rounds."""
    return [
        {
            "name": name,
            "engine": engine,
            "ready_s": median(start.ready_s),
            "first_ms": [1e3 * median(seconds) for seconds in zip(*start.first_s, strict=True)],
        }
        for (name, engine), start in results.starts.items()
        if start.first_s
    ]


def savings_of(results: Results, in_flight: int) -> list[dict[str, Any]]:
    """What the gate saves, by prevalence: as served, and as the engines' own seconds say that it could.

    In theory, with d and s the seconds that each network takes for a slice and f the share of slices that the gate
    opens for, gating saves (1 - f) s / (d + s) of the time of running both always.
    """
    return list(_savings(results, in_flight))


def _savings(results: Results, in_flight: int) -> Iterable[dict[str, Any]]:
    by_kind = {
        (key.kind, key.system, key.prevalence): record
        for key, record in results.records.items()
        if key.in_flight == in_flight
    }
    limits = limits_of(results)
    everything = limits.get(1.0)
    for (kind, name, prevalence), always in by_kind.items():
        gated = by_kind.get(("gliogate", name.replace("gate=always", "tritonclient"), prevalence))
        if kind != "always" or gated is None or prevalence not in limits:
            continue
        limit = limits[prevalence]
        # Where no slice of a prevalence is segmented, the one at which all are says what the segmenter takes.
        opened, sample = limit.measured[0].opened, limit if limit.measured[0].opened else everything
        if sample is None:
            continue
        slices = len(limit.measured[0].areas)
        detector = median(each.stages_s["detector"] / slices for each in limit.measured)
        segmenter = median(each.stages_s["segmenter"] / each.opened for each in sample.measured)
        pairs = zip(gated.rates, always.rates, strict=False)
        yield {
            "prevalence": prevalence,
            "opened_share": opened / slices,
            "detector_ms": 1e3 * detector,
            "segmenter_ms": 1e3 * segmenter,
            "saved": median(1 - slow / fast for fast, slow in pairs),
            "saved_in_theory": (1 - opened / slices) * segmenter / (detector + segmenter),
        }
