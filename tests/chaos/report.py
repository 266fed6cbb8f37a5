"""What a campaign found, as Markdown."""

import statistics
from collections import Counter

from . import campaign
from .campaign import Occurrence, Outcome
from .faults import STRANGERS
from .load import Sent

HEADINGS = ("fault", "times", "right requests", "failed", "wrong answers", "no answer for: median, worst")


def render(outcome: Outcome, command: str) -> str:
    """The tables."""
    sent = outcome.sent
    failed = [each for each in sent if each.error]
    by_others = sum(bool(request.error) for request in _beside_others(outcome))
    facts = {
        "right requests sent": f"{len(sent):,} in {outcome.seconds / 60:.0f} minutes",
        "lost without an answer or an error": f"{campaign.lost(sent)}",
        "failed by another's fault (wrong requests, attacks)": f"{by_others}",
        "told later than their deadline": f"{campaign.beyond_deadline(sent)}",
        "answered wrongly": f"{sum(each.is_wrong for each in sent)}",
        "failed in all": f"{len(failed)}",
        "latency from when they were due, p50, p99, p99.9": ", ".join(
            f"{campaign.latency_ms(sent, share):,.0f}" for share in (0.5, 0.99, 0.999)
        )
        + " ms",
        "sent later than due, at most": f"{1000 * campaign.lateness_s(sent):.0f} ms",
        "times Triton was started again": f"{sum(line.startswith('ready again') for line in outcome.said)}",
        "memory of the server, before and after": f"{outcome.before.memory_mib:,.0f} and "
        f"{outcome.after.memory_mib:,.0f} MiB",
        "open files of the server, before and after": f"{outcome.before.descriptors} and {outcome.after.descriptors}",
        "wrong requests and attacks": ", ".join(f"{count:,} {what}" for what, count in STRANGERS.most_common()),
    }
    lines = [f"`{command}`", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    lines += [f"| {' | '.join(HEADINGS)} |", f"|---{'|---:' * (len(HEADINGS) - 1)}|"]
    for name in dict.fromkeys(each.fault.name for each in outcome.occurrences):
        lines.append(_row(name, [each for each in outcome.occurrences if each.fault.name == name]))
    if failed:
        lines += ["", "What failed:", ""]
        lines += [f"- {count} x {text}" for text, count in Counter(each.error[:160] for each in failed).most_common(20)]
    return "\n".join(lines) + "\n"


def is_good(outcome: Outcome) -> bool:
    """Whether nothing is lost, late, wrong, or another's fault."""
    sent = outcome.sent
    bad = campaign.lost(sent) + campaign.beyond_deadline(sent) + sum(each.is_wrong for each in sent)
    answered = sum(1 for each in sent if each.done and not each.error)
    return answered > 0.5 * len(sent) and not bad and not any(request.error for request in _beside_others(outcome))


def _beside_others(outcome: Outcome) -> list[Sent]:
    """The right requests that were due while others sent wrong ones, or attacked."""
    names = ("wrong requests", "attacks")
    occurrences = [each for each in outcome.occurrences if each.fault.name.startswith(names)]
    return [request for each in occurrences for request in each.sent if request.due >= each.began]


def _row(name: str, occurrences: list[Occurrence]) -> str:
    sent = [request for each in occurrences for request in each.sent]
    gaps = [each.gap_s for each in occurrences]
    cells = [
        name,
        f"{len(occurrences)}",
        f"{len(sent):,}",
        f"{sum(1 for each in sent if each.error)}",
        f"{sum(each.is_wrong for each in sent)}",
        f"{statistics.median(gaps):.1f}, {max(gaps):.1f} s",
    ]
    return f"| {' | '.join(cells)} |"
