"""What the page of a study shows, gathered from its finished cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from expunge.data.load import Data
from expunge.data.thumbnails import thumbnail
from expunge.errors import ConfigError, UserError
from expunge.methods import find_method, make_method
from expunge.names.digests import same_digest
from expunge.report.page import PlainTable, Report, printed_time
from expunge.scores.rows import SETTING
from expunge.scores.sequential import SIMULATED, simulated_findings
from expunge.study.decide import LOOK_HEADERS, look_rows
from expunge.study.differences import finished_seeds
from expunge.study.entries import Entry, is_ours, variants
from expunge.study.findings import findings_of
from expunge.study.launch import Planned
from expunge.study.results import for_tables, results, with_settings
from expunge.study.scenarios import scenario_of
from expunge.study.tuning import sentences
from expunge.study.verdicts import Found, by_chance, verdicts_of
from expunge.version import VERSION


def study_report(study: Planned, command: str) -> Report:
    """Everything that a study's finished cells say. Raises ConfigError if no row is finished.

    Pictures of forget samples are shown as far as the data are at hand; nothing else needs them.
    """
    frame = results(study.rows, study.store)
    if not len(frame):
        raise ConfigError("no row is finished yet; go on with `expunge study run`")
    pictures = _Pictures(study)
    shown: list[dict[str, Any]] = []
    warnings = dict.fromkeys(_unfinished(study))
    made: dict[str, dict[str, None]] = {"expunge": {}, "torch": {}, "machine": {}, "device": {}}
    dates = []
    for row in study.rows:
        if not study.store.done(row.cell):
            continue
        content = study.store.read(row.cell)
        warnings |= dict.fromkeys(content["warnings"])
        if study.store.done(row.base):
            warnings |= dict.fromkeys(study.store.read(row.base)["warnings"])
        for name, value in (
            ("expunge", content["version"]),
            ("torch", content["torch"]),
            ("machine", content.get("machine", "")),
            ("device", content["cost"]["device"]),
        ):
            if value:
                made[name][str(value)] = None
        dates.append(str(content["date"])[:10])
        if content.get("details"):
            setting = dict(zip(SETTING, row.setting, strict=True))
            seen = {**content["details"], "forgotten_classes": content.get("forgotten_classes", [])}
            seen["gallery"] = pictures.added(setting["data"], seen["gallery"])
            shown.append({**setting, "method": row.method, "seed": row.seed, **seen})
    warnings |= dict.fromkeys(_masked(study))
    warnings |= dict.fromkeys(_without_controls(study))
    warnings |= dict.fromkeys(study.study.left_out)
    warnings |= dict.fromkeys(_took_part(study.study.methods))
    warnings |= dict.fromkeys(_classes_unasked(shown))
    if len(made["machine"]) > 1 or len(made["device"]) > 1:
        warnings["made on several machines or devices: their seconds cannot be compared"] = None
    asked, claims = study.study, verdicts_of(study, frame)
    environment = {name: "; ".join(found) for name, found in made.items()}
    environment["bank"] = _bank(study)
    environment["made"] = " to ".join(sorted({min(dates), max(dates)})) if dates else ""
    return Report(
        title=study.study.name,
        kind="study",
        generated=printed_time(),
        version=VERSION,
        frame=with_settings(frame, study.cells),
        table=for_tables(frame),
        claims=claims,
        chance="" if asked.until_decided else by_chance(len(claims)),
        methods=_methods(asked.methods),
        findings=findings_of(study.rows, study.store, frame),
        looks=_looks(study, claims, len(finished_seeds(frame, study.rows))),
        published=[PlainTable(p.title, p.headers, p.rows) for p in study.study.published],
        tuned=sentences(study.study, study.searches),
        details=shown,
        configuration=study.study.to_yaml(),
        command=command,
        warnings=list(warnings),
        environment={name: text for name, text in environment.items() if text},
    )


def _bank(study: Planned) -> str:
    """What the models of banks took, whose seconds are in no RTE; empty without any."""
    told = []
    for kind, what in (("shadow", "trained on halves"), ("forgot_shadow", "made to forget")):
        keys = {cell.key for cell in study.cells if cell.kind == kind}
        done = [study.store.read(key)["cost"]["seconds"] for key in keys if study.store.done(key)]
        if done:
            told.append(f"{len(done):,} models {what} in {sum(done):,.0f} s")
    return f"{'; '.join(told)}; these seconds are in no RTE" if told else ""


def _took_part(entries: Mapping[str, Entry]) -> list[str]:
    """What to know of rows whose originals are not those of the others."""
    ours = {label: entry.method for label, entry in entries.items() if is_ours(entry.method)}
    names = [n for n, one in ours.items() if find_method(one, allow_code=False).takes_part]
    if not names:
        return []
    return [
        f"{', '.join(names)}: takes part in training, so each row begins with an original of its own "
        "making, and is read against that; the gap is to the ordinary retrained model, and holds what "
        "that making costs besides; seconds are of the deletion alone"
    ]


def _methods(entries: Mapping[str, Entry]) -> PlainTable:
    """What each method of a study forgets, proves and reads. Code of others is not imported for it."""
    rows = []
    for label, entry in entries.items():
        if not is_ours(entry.method):
            rows.append((label, "not known here", "", ""))
            continue
        for row, made in variants(label, entry, allow_code=False).items():
            method = make_method(made["method"], made["settings"], allow_code=False)
            reads = ", ".join(method.reads.names())
            rows.append((row, method.scope, method.proves(), reads))
    return PlainTable(
        "Requests that each method is made for, what it proves, and what it reads",
        ("method", "scope", "guarantee", "reads"),
        rows,
    )


def _looks(study: Planned, claims: Sequence[Found], seeds: int) -> PlainTable | None:
    """When it is looked at, and by which boundary; None for a study of so many seeds and no more."""
    asked = study.study.until_decided
    if asked is None or not claims:
        return None
    share = simulated_findings(asked.plan, len(claims))
    title = (
        f"Looks: {100 * asked.plan.alpha:g} % of error are spent over them. {SIMULATED:,} simulated "
        f"studies of this size in which nothing differs (normal, one seed from the next): "
        f"{100 * share:.2f} % find a difference in any claim at any look"
    )
    return PlainTable(title, LOOK_HEADERS, look_rows(asked.plan, claims, seeds))


def _unfinished(study: Planned) -> list[str]:
    """What of a study is missing, in a sentence; nothing for a finished one."""
    counts = study.counts()
    missing = [
        f"{number} {name}"
        for name, number in (
            ("failed", counts.failed),
            ("blocked by these", counts.blocked),
            ("not made yet", counts.waiting + counts.running),
        )
        if number
    ]
    if not missing:
        return []
    return [f"{counts.done} of {counts.total} cells are done; {', '.join(missing)}"]


def _without_controls(study: Planned) -> list[str]:
    """What cannot be told because rows and scores were left out, or were not there yet."""
    asked = study.study
    if asked.controls:
        return []
    told = (
        "made without controls: whether a row that does next to nothing would be as near as the "
        "methods is not known"
    )
    whole = any(scenario_of(text).whole_classes(text) for text in asked.scenarios)
    if whole and not {"relearn_time", "linear_probe"} <= set(asked.further):
        told += (
            "; and without relearn_time and linear_probe, forgetting a class and silencing it in the "
            "last layer look alike"
        )
    return [told]


def _classes_unasked(shown: Sequence[Mapping[str, Any]]) -> list[str]:
    """Requests that turned out to be of whole classes, and did not say so."""
    names: dict[str, None] = {}
    for one in shown:
        scenario = str(one["scenario"])
        if one["forgotten_classes"] and not scenario_of(scenario).whole_classes(scenario):
            names[scenario] = None
    if not names:
        return []
    return [
        f"{', '.join(names)}: whole classes are forgotten, and the study could not know; head_zeroed, "
        "relearn_time and linear_probe are not there, so a method that silences these classes in the "
        "last layer looks as good; ask for them as class:NAME"
    ]


def _masked(study: Planned) -> list[str]:
    """What the rows of sparse models hold beside forgetting."""
    saw: dict[str, None] = {}
    rewound: dict[str, None] = {}
    for row in study.rows:
        if row.method == "retrain" and study.store.done(row.cell) and study.store.done(row.base):
            original = study.store.read(row.base)
            density = row.setting[SETTING.index("density")]
            if original.get("saw_data"):
                saw[density] = None
            if original["log"].get("first_epoch"):
                rewound[density] = None
    found = []
    if saw:
        found.append(
            f"{', '.join(saw)}: the mask was found with the forget set in sight, and retrain keeps that "
            "mask, so the reference inherits that much of what is to be forgotten"
        )
    if rewound:
        found.append(
            f"{', '.join(rewound)}: the original went on from weights of an early epoch, and retrain "
            "begins with fresh ones under the same mask, which fit it less well: part of each gap, "
            "above all of RA and TA, is that difference"
        )
    return found


class _Pictures:
    """Forget samples of a study's data as pictures, each made once."""

    def __init__(self, study: Planned) -> None:
        self.study = study
        self._data: dict[str, Data | None] = {}
        self._made: dict[tuple[str, str], str | None] = {}

    def added(self, spec: str, gallery: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The gallery with an image for each sample, or None."""
        if spec not in self._data:
            self._data[spec] = self._found(spec)
        data = self._data[spec]
        return [{**one, "image": data and self._picture(spec, data, one["id"])} for one in gallery]

    def _found(self, spec: str) -> Data | None:
        """The data, if they are at hand and still what the study ran on."""
        ran_on = [
            cell.config["fingerprint"]
            for cell in self.study.cells
            if cell.config.get("data") == spec
        ]
        try:
            facts = self.study.bench.facts(spec)
        except UserError:  # a report can be made where the data are not
            return None
        same = any(all(map(same_digest, facts.fingerprints, prints)) for prints in ran_on)
        return self.study.bench.data(spec) if same else None

    def _picture(self, spec: str, data: Data, name: str) -> str | None:
        if (spec, name) not in self._made:
            row = data.train.position.get(name)
            self._made[spec, name] = None if row is None else thumbnail(data.train, row)
        return self._made[spec, name]
