"""The record of a run, its medians and ratios, the targets, and what is printed and drawn of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import plan
from bench.plan import COMPILED, FLOOR, NCHAN, OWN
from bench.record import FILE, Medians, Record, load
from bench.report import everything, markdown, plain, report, targets
from bench.targets import GOALS, verdicts
from sse_daemon.bench.daemon import target
from sse_daemon.bench.session import Session
from sse_daemon.bench.words import figure, figures


def row(name: str, server: str, number: int, faults: tuple[str, ...] = (), **values: float) -> dict[str, Any]:
    """One result as the record has it."""
    at = dict(part.split("=") for part in name.split(" ")[1:])
    return {
        "name": name,
        "case": name.split(" ")[0],
        "target": server,
        "round": number,
        "at": at,
        "figures": values,
        "faults": faults,
    }


def rows(name: str, figure: str, **by_server: list[float]) -> list[dict[str, Any]]:
    """A figure of several servers in several rounds."""
    names = {"own": OWN, "nchan": NCHAN, "floor": FLOOR}
    return [
        row(name, names[server], n, **{figure: value}) for server, found in by_server.items() for n, value in enumerate(found)
    ]


DELIVERY = rows("to-all n=1000 w=1", "cpu_us_per_delivery", own=[4.0, 9.0, 5.0], nchan=[5.0, 10.0, 6.0], floor=[4.0, 4.0, 4.0])


def test_medians_and_ratios_are_over_the_rounds() -> None:
    medians = Medians(DELIVERY)
    assert medians.value("to-all n=1000 w=1", OWN, "cpu_us_per_delivery") == 5.0
    # The ratio of each round, not of the medians: 0.8, 0.9, 0.83.
    assert medians.ratio("to-all n=1000 w=1", OWN, NCHAN, "cpu_us_per_delivery") == pytest.approx(5 / 6)
    assert medians.rounds("to-all n=1000 w=1", NCHAN) == 3
    assert medians.servers() == [OWN, NCHAN, FLOOR]


def test_a_round_that_only_one_of_them_has_makes_no_ratio() -> None:
    medians = Medians([row("idle", OWN, 0, p99_us=10.0), row("idle", OWN, 1, p99_us=90.0), row("idle", NCHAN, 0, p99_us=20.0)])
    assert medians.ratio("idle", OWN, NCHAN, "p99_us") == 0.5
    assert medians.ratio("idle", OWN, FLOOR, "p99_us") is None
    assert medians.value("idle", FLOOR, "p99_us") is None


def met(results: list[dict[str, Any]]) -> dict[str, bool | None]:
    return {verdict.goal.what: verdict.met for verdict in verdicts(Medians(results))}


def test_targets_are_met_or_not_or_were_not_measured() -> None:
    found = met(
        DELIVERY
        + rows("opening n=10000", "streams_per_second", own=[4999.0])
        + rows("storm n=10000 missed=20", "seconds", own=[4])
    )
    assert found["to all, N=1,000, W=1: CPU a delivery"] is True
    assert found["streams opened a second, one core"] is False
    assert found["storm of 10,000: all caught up"] is True
    assert found["to one, N=10,000, W=64: events a second"] is None


@pytest.mark.parametrize(("rate", "verdict"), [(149.0, False), (150.0, True)])
def test_a_ratio_to_a_peer_is_judged_and_not_the_figure(rate: float, verdict: bool) -> None:
    results = rows("to-one n=10000 w=64", "events_per_second", own=[rate], nchan=[100.0])
    assert met(results)["to one, N=10,000, W=64: events a second"] is verdict


def test_every_target_is_measured_by_a_full_run_and_by_a_quick_one() -> None:
    session = Session(target=target(host="h", port=1, pubsub="p", acked="a"))
    assert session.target.acked
    for made in (plan.quick(()), plan.full(())):
        cases = {(item.case, item.n, server) for item in made.items for server in item.servers}
        for goal in GOALS:
            case, *at = goal.name.split(" ")
            n = dict(part.split("=") for part in at).get("n")
            for server in filter(None, (goal.server, goal.peer)):
                assert any(c == case and s == server and (n is None or int(n) == size) for c, size, s in cases), goal.name


def test_servers_alternate_and_take_turns_in_being_the_first() -> None:
    turns = [(number, server) for number, item, (server,) in plan.quick(["idle"]).turns()]
    there, back = [OWN, COMPILED, NCHAN], [NCHAN, COMPILED, OWN]
    assert turns == [*((0, each) for each in there), *((1, each) for each in back), *((2, each) for each in there)]


# The file


def test_a_run_that_was_cut_short_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Record(tmp_path, "quick", [])
    first.add("0 idle nchan", {"nchan": "1.3"}, [row("idle", NCHAN, 0, p99_us=1.0)], [])
    again = Record(tmp_path, "quick", [])
    assert again.has("0 idle nchan")
    assert not again.has("1 idle nchan")
    assert again.document["servers"] == {"nchan": "1.3"}
    assert not load(tmp_path / FILE)["complete"]


@pytest.mark.parametrize(("name", "chosen", "complete"), [("full", [], False), ("quick", ["idle"], False), ("quick", [], True)])
def test_another_run_or_a_complete_one_starts_anew_and_keeps_the_last(
    tmp_path: Path, name: str, chosen: list[str], complete: bool
) -> None:
    first = Record(tmp_path, "quick", [])
    first.add("turn", {"nchan": ""}, [], [])
    if complete:
        first.finish()
    assert not Record(tmp_path, name, chosen).has("turn")
    assert load(tmp_path / "results-before.json")["done"] == ["turn"]


def test_what_is_no_record_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[]")
    with pytest.raises(ValueError, match="no record"):
        load(tmp_path / FILE)


# What is shown


def document(results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    head = {"plan": "quick", "cases": [], "machine": {"cores": "2"}, "complete": True, "servers": {NCHAN: "1.3"}, "skipped": []}
    return {**head, "results": results, **more}


def test_the_report_has_the_targets_and_everything_else() -> None:
    text = report(document(DELIVERY), as_markdown=True)
    assert "cores 2; nchan 1.3" in text
    assert "| to all, N=1,000, W=1: CPU a delivery | <= 0.90 x nchan | 5 us | 6 us | 0.83 | yes |" in text
    assert "| to-all n=1000 w=1 | us CPU a delivery | 5 | 6 | 4 | 0.83 | 1.25 |" in text
    assert "not measured" in text


def test_a_report_of_a_few_cases_has_only_their_targets() -> None:
    text = report(document(DELIVERY, cases=["to-all"]), as_markdown=False)
    assert "to all, N=1,000" in text
    assert "not measured" not in text


def test_the_report_says_what_was_not_sound_and_what_was_not_measured() -> None:
    results = [row("idle", OWN, n, faults=("3 of 9 deliveries never came",), p99_us=1.0) for n in range(2)]
    skipped = [{"case": "storm 10000", "target": OWN, "reason": "too few files"}]
    text = report(document(results, skipped=skipped, complete=False), as_markdown=False)
    assert "- idle, sse-daemon: 3 of 9 deliveries never came (2 times)" in text
    assert "- sse-daemon, storm 10000: not measured: too few files" in text
    assert "- the run is not complete" in text


def test_a_ratio_stands_beside_every_peer_but_not_beside_the_daemon_s_other_log() -> None:
    head = everything(Medians([*DELIVERY, row("acked w=64", plan.SQLITE, 0, events_per_second=1.0)]))[0]
    assert head == ["measured", "figure", OWN, NCHAN, FLOOR, plan.SQLITE, "to nchan", "to floor"]


def test_tables_have_as_many_cells_in_every_row() -> None:
    for table in (targets(Medians(DELIVERY), chosen=False), everything(Medians(DELIVERY))):
        assert len({len(row) for row in table}) == 1
        assert len(markdown(table).splitlines()) == len(table) + 1
        assert len(plain(table).splitlines()) == len(table)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.123456, "0.12"), (3.14159, "3.14"), (31.4159, "31.4"), (314.159, "314"), (1234567.8, "1,234,568")],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text


def test_figures_say_what_they_count() -> None:
    assert figures({"events_per_second": 1500.0, "p99_us": 12.34}) == "1,500 events/s, 12.3 us p99"
