"""The claim ledger: every checkable statement of the paper's sections 2 to 5, with a verdict that follows from numbers.

A claim is data (``manifests/claims.json``): what the paper says and where, the function of
:mod:`ctxe_lib.measures` that measures it here, and a rule. :func:`judge` makes the verdict of the measured value and
the rule, nothing else does:

- ``equals`` x with a ``tolerance``: confirmed where the value lies within the tolerance of x. With ``direction``, the
  sign counts too: its interval must lie on x's side of zero, and where only that holds, the direction is confirmed.
- ``at_least`` x, ``at_most`` x: confirmed where the whole interval lies beyond x; the direction is confirmed where it
  lies beyond zero on that side. With ``own_above``, the method's own score must lie above that bound as well.

A claim about trained networks is confirmed only by networks that have learnt: one that is below plain interpolation on
the test segments confirms nothing, whatever it does, and neither does one whose output is a correction of that
interpolation and that does not surpass it. The ledger says how many examples each network has seen, and what its output
is relative to, where that is not learnt: interpolated magnitudes, phases that a phase vocoder continues from the
contexts. What has not been measured says which command does it, what cannot be tested here says why.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ctxe_lib import tables, weights
from ctxe_lib.files import write_atomically
from ctxe_lib.measures import MEASURES, Effort, NotTestable, difference
from ctxe_lib.records import environment
from ctxe_lib.sources.packages import manifest
from ctxe_lib.tables import NotMeasured, Results

__all__ = [
    "GROUPS",
    "VERDICTS",
    "check",
    "claims",
    "grouped",
    "judge",
    "ledger",
    "not_learnt",
    "obtained",
    "read",
    "rule_text",
    "summary",
    "write",
]

VERDICTS = ("confirmed", "direction confirmed", "not confirmed", "not testable here", "not yet measured")
"""All there are, in the order of tables."""

GROUPS = ("confirmed", "own disagreement", "not learnt", "otherwise", "not measured", "not testable")
"""What may become of a claim, see :func:`grouped`."""

# -- rules --------------------------------------------------------------------------------------------------------


def judge(value: float, low: float, high: float, rule: Mapping[str, Any], own: float | None = None) -> tuple[str, str]:
    """Verdict of a measured value under a claim's rule, and the reason in words.

    Parameters
    ----------
    value, low, high : float
        As in :class:`ctxe_lib.measures.Measured`.
    rule : mapping
        ``{"equals": x, "tolerance": t, "direction": bool}``, ``{"at_least": x}`` or ``{"at_most": x}``; each may have
        ``"own_above": y``.
    own : float, optional
        As in :class:`ctxe_lib.measures.Measured`.

    Returns
    -------
    verdict : str
        One of the first three of :data:`VERDICTS`.
    reason : str

    Raises
    ------
    ValueError
        If the rule is none of these, or the value not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"value={value} must be finite: what has no value was not measured")
    verdict, reason = _judge(value, low, high, rule)
    if (bound := rule.get("own_above")) is not None and (own is None or not own > bound):
        return "not confirmed", f"{reason}, but its own score's interval is not above {bound:g}"
    return verdict, reason


def _judge(value: float, low: float, high: float, rule: Mapping[str, Any]) -> tuple[str, str]:
    """The same without regard to the method's own score."""
    low, high = (
        bound if math.isfinite(bound) else math.copysign(math.inf, side) for bound, side in ((low, -1), (high, 1))
    )
    exact = low == high
    if "equals" in rule:
        expected, tolerance = rule["equals"], rule["tolerance"]
        near = abs(value - expected) <= tolerance
        within = f"{'within' if near else 'not within'} {tolerance:g} of {expected:g}"
        if not tolerance:
            within = f"{'equals' if near else 'differs from'} {expected:g}"
        if not rule.get("direction"):
            return ("confirmed" if near else "not confirmed"), within
        beyond = low > 0 if expected > 0 else high < 0
        side = f"{'interval' if beyond else 'interval not'} {'above' if expected > 0 else 'below'} 0"
        verdict = ("confirmed" if near else "direction confirmed") if beyond else "not confirmed"
        return verdict, f"{within}, {side}"
    if "at_least" in rule:
        bound, beyond, same_side, sides = rule["at_least"], low >= rule["at_least"], low > 0, ("above", "below")
    elif "at_most" in rule:
        bound, beyond, same_side, sides = rule["at_most"], high <= rule["at_most"], high < 0, ("below", "above")
    else:
        raise ValueError(f"rule {dict(rule)} must have equals, at_least or at_most")
    if beyond:
        return "confirmed", f"{'' if exact else 'interval '}{sides[0]} {bound:g}"
    missed = f"{'' if exact else 'interval reaches '}{sides[1]} {bound:g}"
    if same_side and bound:
        return "direction confirmed", f"{missed}, but {sides[0]} 0"
    return "not confirmed", missed


def rule_text(rule: Mapping[str, Any]) -> str:
    """A rule in words."""
    if "own_above" in rule:
        first = rule_text({key: bound for key, bound in rule.items() if key != "own_above"})
        return f"{first}, its own above {rule['own_above']:g}"
    if "equals" in rule:
        tolerance = f" ± {rule['tolerance']:g}" if rule["tolerance"] else ""
        return f"{rule['equals']:g}{tolerance}{', same sign' if rule.get('direction') else ''}"
    return f"≥ {rule['at_least']:g}" if "at_least" in rule else f"≤ {rule['at_most']:g}"


# -- the ledger ---------------------------------------------------------------------------------------------------


def claims() -> list[dict[str, Any]]:
    """All claims, as ``manifests/claims.json`` has them."""
    return manifest("claims.json")


def _learnt(results: Results, names: list[str]) -> dict[str, dict[str, Any]]:
    """For each network of a claim: its SNR_MS less plain interpolation's on the test segments, what it has seen, and
    what its output is relative to."""
    found = {}
    for name in names:
        kind, _, method = name.partition("-")
        margin = difference(results, Effort(), kind, method, "interpolation", "snr_ms")
        found[name] = {key: getattr(margin, key) for key in ("value", "low", "high")}
        card = weights.read_card(name)
        found[name] |= {
            "examples": card.get("examples"),
            "relative_to": weights.relative_to(card),
        }
    return found


def not_learnt(row: Mapping[str, Any]) -> list[str]:
    """Names of the networks of a row of the ledger that have not learnt enough, see :func:`tables.has_learnt`."""
    return [
        name
        for name, margin in row["networks"].items()
        if margin["high"] is not None and not tables.has_learnt(margin["low"], margin["high"], margin["relative_to"])
    ]


def _verdict(row: Mapping[str, Any]) -> tuple[str, str]:
    """Verdict and reason of a row that has a value: the rule's, unless its networks have not learnt."""
    low, high = (math.nan if row[key] is None else row[key] for key in ("low", "high"))
    verdict, reason = judge(row["value"], low, high, row["rule"], row.get("own"))
    full = tables.paper()["examples"]["steps"] * tables.paper()["examples"]["batch"] / 1e6
    for name, margin in row["networks"].items():
        reason += f"; {name} saw {margin['examples']:,} examples, the paper's {full:.0f} million"
        if name in not_learnt(row):
            verdict = "not confirmed"
            reason += f", and has not learnt enough: {margin['value']:+.1f} dB of SNR_MS against plain interpolation"
            reason += f" ({margin['low']:+.1f} to {margin['high']:+.1f})"
        if margin["relative_to"]:
            reason += f", and gives its output relative to {margin['relative_to']}: this part of the result is not "
            reason += "learnt, and the paper's network does without"
    return verdict, reason


def ledger(results: Results, effort: Effort | None = None) -> list[dict[str, Any]]:
    """Measure and judge every claim.

    Parameters
    ----------
    results : Results
    effort : Effort, optional

    Returns
    -------
    list of dict
        One per claim: id, section, claim, released_code, expected (the rule in words), rule, why (of its
        tolerance), unit, value, low, high, own, segments, clusters, source, networks (each with its margin over
        interpolation, the examples it saw and what its output is relative to),
        verdict, reason, notebook, command. Numbers are null where there are none.
    """
    effort = effort or Effort()
    rows = []
    for claim in claims():
        row: dict[str, Any] = {key: claim[key] for key in ("id", "section", "claim", "notebook")}
        row |= {
            "released_code": claim.get("released_code", ""),
            "unit": claim.get("unit", ""),
            "rule": claim.get("rule"),
            "why": claim.get("why", ""),
        }
        row |= {"expected": rule_text(claim["rule"]) if "rule" in claim else ""}
        row |= dict.fromkeys(("value", "low", "high", "own")) | {
            "segments": 0,
            "clusters": 0,
            "source": "",
            "command": "",
        }
        row["networks"] = {}
        try:
            if "untestable" in claim:
                raise NotTestable(claim["untestable"])
            row["networks"] = _learnt(results, claim.get("networks", []))
            measured = MEASURES[claim["measure"]](results, effort, **claim["arguments"])
        except NotTestable as error:
            row |= {"verdict": "not testable here", "reason": str(error), "networks": {}}
        except NotMeasured as error:
            row |= {"verdict": "not yet measured", "reason": error.what, "command": error.command, "networks": {}}
        else:
            row |= _finite(asdict(measured))
            row["networks"] = {name: _finite(margin) for name, margin in row["networks"].items()}
            row["verdict"], row["reason"] = _verdict(row)
        rows.append(row)
    return rows


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same with null for what is no number, as JSON has it."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in numbers.items()}


def check(rows: list[dict[str, Any]]) -> None:
    """Make sure that every verdict follows from the numbers beside it and every claim is there.

    Raises
    ------
    ValueError
        That names the first claim of which this is not true.
    """
    known = {claim["id"]: claim for claim in claims()}
    if (missing := set(known) - {row["id"] for row in rows}) or len(rows) != len(known):
        raise ValueError(f"the ledger must have each of the {len(known)} claims once; missing: {sorted(missing)}")
    for row in rows:
        claim = known[row["id"]]
        if row["rule"] != claim.get("rule"):
            raise ValueError(
                f"claim {row['id']} was judged by {row['rule']}, its rule is {claim.get('rule')}: run it again"
            )
        if row["value"] is not None:
            allowed = {_verdict(row)[0]}
        else:
            allowed = {"not testable here"} | ({"not yet measured"} if "rule" in claim else set())
        if row["verdict"] not in allowed:
            follows = " or ".join(sorted(allowed))
            raise ValueError(
                f"claim {row['id']}: {row['verdict']!r} does not follow from {row['value']}, {follows} does"
            )


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many claims have each verdict, all of :data:`VERDICTS` in their order."""
    counts = Counter(row["verdict"] for row in rows)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def grouped(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Claims by what became of them, the unconfirmed ones by the reason.

    Parameters
    ----------
    rows : list of dict
        From :func:`ledger`.

    Returns
    -------
    dict of str to list of dict
        ``confirmed`` (the direction at least); ``own disagreement``: the paper's text differs from its tables or from
        the released code; ``not learnt``: a network of ours has not learnt enough; ``otherwise``: it came out
        differently here; ``not measured``; ``not testable``.
    """
    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in GROUPS}
    for row in rows:
        if row["verdict"] in VERDICTS[:2]:
            group = "confirmed"
        elif row["value"] is None:
            group = "not testable" if row["verdict"] == VERDICTS[3] else "not measured"
        elif row["released_code"] or row["source"] == "paper.json":
            group = "own disagreement"
        else:
            group = "not learnt" if not_learnt(row) else "otherwise"
        groups[group].append(row)
    return groups


def write(rows: list[dict[str, Any]], results: Results) -> Path:
    """Write the ledger to ``claims.json`` in the folder of results, with the counts by verdict and its provenance.

    Raises
    ------
    ValueError
        As :func:`check` does.
    """
    check(rows)
    record = {
        "summary": summary(rows),
        "corpora": dict(results.corpora),
        "rendered": [kind for kind in tables.KINDS if results.corpus(kind).description["rendered"]],
        "data": {kind: results.corpus(kind).fingerprint for kind in tables.KINDS},
        "weights": {name: weights.read_card(name)["sha256"] for name in weights.available()},
        "draws": results.draws,
        "seed": results.seed,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(),
        "claims": rows,
    }
    path = results.folder / "claims.json"
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def read(folder: Path) -> dict[str, Any]:
    """Read what :func:`write` wrote, and check it.

    Raises
    ------
    FileNotFoundError
        If the ledger has not been made.
    ValueError
        As :func:`check` does.
    """
    path = folder / "claims.json"
    if not path.exists():
        raise FileNotFoundError(f"no ledger in {path}: run `make notebooks ONLY=12` first")
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    check(record["claims"])
    return record


# -- in words ------------------------------------------------------------------------------------------------------


def _numbers(*values: float) -> list[str]:
    """Numbers with equally many decimals, so that the largest has about three significant digits."""
    largest = max(map(abs, values))
    if largest and largest < 1e-3:
        return [f"{value:.0e}" for value in values]
    places = 0 if largest >= 100 or all(value == round(value) for value in values) else 1 if largest >= 10 else 2
    return [f"{round(value, places) + 0.0:,.{places}f}" for value in values]  # never -0.0


def obtained(row: Mapping[str, Any]) -> str:
    """Value of a row of the ledger with its interval, unit and n, in words."""
    if row["value"] is None:
        return ""
    if row["low"] is not None and row["low"] < row["high"]:
        text = "{} ({} to {})".format(*_numbers(row["value"], row["low"], row["high"]))
    else:
        (text,) = _numbers(row["value"])
    if row["unit"]:
        text += f" {row['unit']}"
    if row["clusters"]:
        text += f"; n = {row['segments']:,}" + (
            f" in {row['clusters']} clusters" if row["clusters"] < row["segments"] else ""
        )
    return text
