"""What a made-up certificate tells, for the tests of certificates and of the pages that show one."""

from __future__ import annotations

import json
from typing import Any

from expunge.requests.facts import ForgettingFacts

T = "2026-11-27T09:30:00Z"
D = "0123456789abcdef" * 4


def told(kind: str = "approximate", **changes: Any) -> dict[str, Any]:
    """Facts as plain data. changes: paths with `__` between their parts -> what stands there."""
    bound = {"epsilon": 1.5, "delta": 1e-5, "assumptions": ["the loss is strongly convex"]}
    plain: dict[str, Any] = {
        "performer": {"organisation": "Example Ltd", "role": "controller"},
        "models": {"before": "0" * 64, "after": D},
        "procedure": {
            "kind": kind,
            "method": "scrub",
            "settings": {"epochs": 3, "lr": 0.1, "momentum": None, "parts": ["a", 1]},
            "version": "0.9",
            "environment": {"torch": "2.6.0+cpu"},
        }
        | ({"privacy": bound} if kind == "epsilon-delta" else {}),
        "data": {
            "name": "cifar10",
            "fingerprint": "ab12",
            "requests": 2,
            "asked": 5,
            "found": 4,
            "retained": 995,
            "root": D,
            "size": 5,
        },
        "duplicates": [
            {"name": "exact", "proposed": 1, "added": 1, "kept": 0, "unclear": 0},
            {
                "name": "cosine",
                "threshold": 0.97,
                "proposed": 3,
                "added": 1,
                "kept": 1,
                "unclear": 1,
            },
        ],
        "gate": {
            "digest": D,
            "fixed_at": T,
            "verdict": "equivalent",
            "alpha": 0.05,
            "joint_pass_rate": 0.81,
            "results": [
                {
                    "score": "accuracy on test data",
                    "check": "qualification",
                    "value": 0.2,
                    "low": -0.4,
                    "high": 0.8,
                    "margin": 1.0,
                    "unit": "points",
                    "passed": True,
                }
            ],
            "controls": [
                {"name": "a retrained model", "must_pass": True, "passed": True},
                {"name": "the original", "must_pass": False, "passed": False},
            ],
        },
        "samples_read": {"retain": 995, "forget": 4},
        "places": [
            {"what": "old weights", "where": "archive", "until": "2027-01-31"},
            {"what": "backups", "where": "tape store"},
            {"what": "bank", "where": "none"},
            {"what": "derived models", "where": "none"},
        ],
        "timeline": {
            "laws": ["gdpr"],
            "received_first": T,
            "received_last": T,
            "due": "2026-12-28",
            "extended": False,
            "struck_at": T,
            "forgotten_at": T,
            "released_at": T,
        },
        "chain": {"seq": 41, "hash": D},
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        part = plain
        for name in above:
            part = part[int(name)] if isinstance(part, list) else part[name]
        part[last] = value
    return plain


def facts(kind: str = "approximate", **changes: Any) -> ForgettingFacts:
    return ForgettingFacts.model_validate_json(json.dumps(told(kind, **changes)))


FILES = {"model.safetensors": D, "model.json": "1" * 64}
