"""Write what docs/ says of the code, from the code: `python docs/build.py`; `--check` only compares.

methods.md is made whole. Of cli.md and scores.md the part below the line MADE is; what stands above it
is written by hand and stays.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from expunge.audits import AUDITS, Audit
from expunge.audits.retrain_band import LEAST_MODELS
from expunge.audits.strength import SAYS, STRENGTHS
from expunge.cli.listing import FORGETS, REQUESTS, range_of
from expunge.cli.tree import every_command
from expunge.methods import CONTROLS, METHODS, Method
from expunge.methods.card import method_card
from expunge.pruning import PRUNERS, Pruner
from expunge.scores.finding import ALPHA
from expunge.scores.table import SCORES
from expunge.testing.red_team import OF_THE_METHOD
from expunge.training.recipe import Settings

HERE = Path(__file__).parent
RED_TEAM = HERE.parent / "benchmarks/results/red-team.json"
MADE = "<!-- From here on written from the code by `python docs/build.py`. -->"
WIDTH = 96
WHOLE = "thorough"
"""The strength that has all audits."""
SHOWN = 5
"""Audits that a cell names."""
TYPES = {
    **{str: "text", int: "whole number", float: "number", Path: "path"},
    **{list[str]: "text", list[Path]: "path"},
}
NEEDS = {
    "outputs": "the model's outputs",
    "model": "the model",
    "original": "the original",
    "retrained": "a retrained model",
    "shadows": "shadow models",
    "method": "shadow models made to forget",
    "siblings": "models of the method from other seeds",
    "swapped": "two models that forgot different samples",
}
TARGETS = {"retrained": "retrain's value", "low": "low", "high": "high"}
OTHERWISE = {
    "transfer": "a study with `transfer:`",
    "mask": "a study with `criteria: true`",
}


def methods_page() -> str:
    """docs/methods.md."""
    head = (
        "# Methods\n\nWritten from the code by `python docs/build.py`. A method's fields are its "
        "parameters, with\nthe defaults of its paper; `expunge list methods NAME` shows the same.\n"
    )
    middle = (
        "# Pruners\n\n`expunge prune` makes a sparse original with one of these; whatever is then done "
        "to it keeps\nits mask. Cut are convolution weights, or linear weights where there are no "
        "convolutions.\n"
    )
    apart = (
        "# Controls\n\nNo methods, but what a method must beat: they do next to nothing, and some "
        "scores take\nthat for forgetting. `--method` and studies take them as they take methods.\n"
    )
    head += "\n" + "\n".join(overview())
    methods = [method_section(method) for method in METHODS.values()]
    controls = [method_section(method) for method in CONTROLS.values()]
    pruners = [method_section(pruner) for pruner in PRUNERS.values()]
    return "\n".join([head, *methods, apart, *controls, middle, *pruners])


def overview() -> Iterator[str]:
    """A table of all methods to choose from, and an empty line."""
    yield from ("| method | forgets | proof | reads | cost |", "|---|---|---|---|---|")
    for name, method in METHODS.items():
        reads, cost = ", ".join(method.reads.names()), method_card(method).short_cost
        yield (
            f"| [`{name}`](#{name}) | {REQUESTS[method.scope]} | {method.guarantee} | {reads} | {cost} |"
        )
    yield ""


def method_section(method: type[Method | Pruner]) -> str:
    """One method or pruner: what it does, what it reads, its parameters, its paper."""
    lines = [f"## `{method.name}`", "", *paragraphs(method)]
    if issubclass(method, Method):
        reads = f"Reads: {', '.join(method.reads.names())}. Forgets: {FORGETS[method.scope]}."
        reads += f" Guarantee: {method.guarantee}."
        for preset, values in method.presets.items():
            shown = ", ".join(f"`{name}={value}`" for name, value in values.items())
            reads += f"\n\nPreset `{method.name}:{preset}`: {shown}."
    else:
        reads = (
            "Cuts trained weights." if method.trained else "Cuts untrained weights, without data."
        )
    return "\n".join([*lines, reads, "", f"Source: {method.paper}.", "", *parameters(method)])


def paragraphs(thing: type) -> Iterator[str]:
    """A docstring's paragraphs, a line each, with empty lines between."""
    for part in (thing.__doc__ or "").split("\n\n"):
        yield " ".join(part.split())
        yield ""


def parameters(settings: type[Settings]) -> Iterator[str]:
    """The table of fields and an empty line; nothing for a class without fields."""
    if not settings.model_fields:
        return
    yield from ("| parameter | default | range | meaning |", "|---|---|---|---|")
    properties = settings.model_json_schema()["properties"]
    for name, field in settings.model_fields.items():
        bounds = range_of(properties[name]).replace("|", "\\|")
        yield f"| `{name}` | {json.dumps(field.default)} | {bounds} | {field.description} |"
    yield ""


def scores_part() -> str:
    """The generated part of docs/scores.md: every score, how it reads, and the audits that give it."""
    given = {info.name: audit for audit in AUDITS.values() for info in audit.info}
    lines = ["## Every score", "", "| score | what it measures | unit | target | given by |"]
    lines.append("|---|---|---|---|---|")
    for name, info in SCORES.items():
        by = f"audit `{given[name].name}`" if name in given else OTHERWISE[info.given_by]
        lines.append(
            f"| `{name}` | {info.measures} | {info.unit} | {TARGETS[info.target]} | {by} |"
        )
    lines += ["", "## How to read each", ""]
    lines += [
        f"- **`{name}`**: {info.reads} (Source: {info.paper}.)" for name, info in SCORES.items()
    ]
    lines += ["", "## Audits", "", "| audit | scores | needs | made |", "|---|---|---|---|"]
    lines += [audit_line(audit) for audit in AUDITS.values()]
    lines += ["", *strengths(), "", "Settings of those that have some:", ""]
    for audit in AUDITS.values():
        if audit.model_fields:
            lines += [f"### `{audit.name}`", "", *parameters(audit)]
    return "\n".join([*lines, *red_team()])


def red_team() -> Iterator[str]:
    """What each audit catches, as `benchmarks/red_team.py` measured it; nothing before it did."""
    if not RED_TEAM.exists():
        return
    found = json.loads(RED_TEAM.read_text(encoding="utf-8"))
    yield from ("## What each audit catches", "")
    yield (
        "Cheats are models that look as if they had forgotten and have not "
        "([`expunge.testing.cheats`](../src/expunge/testing/cheats.py) says how each is made). Numbers "
        "are those that an audit found outside what retraining does, of so many that were made. Each "
        f"was held against {found['references']} retrained models, beside a bank of {found['bank']}. "
        "`0 of 3`: it found none outside, and one or more within. `?`: it could tell of none, neither "
        "one nor the other. The strengths' columns are what their audits find together, corrected for "
        "their number; `called forgot` are cheats that passed for models that forgot. "
        f"{absent()} "
        "The last line has models that really were retrained, judged as all others"
        f"{drawn_anew(found)}: what is found there is a false alarm, with the 95 % interval of its rate "
        "given this bank, original and request, as if the models were independent; `–` where the audit "
        "could tell of none of the models above."
    )
    for kind, title in (("class", "A whole class"), ("random", "Samples at random")):
        yield from ("", f"### {title} ({', '.join(found[kind]['cases'])})", "")
        yield from red_team_table(found[kind])
    yield from methods_judged(found)
    command, machine, date = found["command"], found["machine"]["cpu"], found["machine"]["date"]
    took = f"{found['seconds']:,} s in all judged models, beside other work"
    yield from ("", f"Measured by `{command}`: {took} ({machine}, {date}).", "")


def absent() -> str:
    """Why there is no column of the strength that has all audits."""
    more = [name for name in STRENGTHS[WHOLE] if name not in STRENGTHS["standard"]]
    method = [name for name in more if AUDITS[name].needs & OF_THE_METHOD]
    return (
        f"There is no column `{WHOLE}`: of what it has besides, {listed(method)} judge the method that "
        "made a model and never look at the model, so they can find no cheat, and `retrain_band` "
        f"tells nothing before there are {LEAST_MODELS} retrained models."
    )


def methods_judged(found: Mapping[str, Any]) -> Iterator[str]:
    """What `standard` said of every method, where that was measured."""
    kinds = {kind: found[kind].get("methods") for kind in ("class", "random")}
    if not all(kinds.values()):
        return
    of = max(sum(one["said"].values()) for name, one in kinds["class"].items() if name != "retrain")
    yield from ("", "### What `standard` says of every method", "")
    yield (
        "Each with its own defaults, on `mlp`, held against the same retrained models; "
        f"of {of} seeds. In brackets: the audits that found so many of them outside, each audit by "
        "itself, before correction for their number. Defaults are for "
        "the data of a method's paper, and what is not forgotten here may be so with other settings. "
        f"{listed(list(CONTROLS))} are controls: what is no better than they are is not praised. The "
        f"line of `retrain` has the models that really were retrained{drawn_anew(found)}, and says how "
        "often `forgot` is found at all."
    )
    yield from ("", "| method | a whole class | samples at random |", "|---|---|---|")
    for name in dict.fromkeys((*kinds["class"], *kinds["random"])):
        cells = (method_cell(kinds[kind].get(name)) for kind in ("class", "random"))
        yield f"| `{name}` | {' | '.join(cells)} |"


def method_cell(found: Mapping[str, Mapping[str, int]] | None) -> str:
    """`not forgotten 3 (rmia 3, lira 2)`; a dash for a method that such a request does not fit."""
    if not found or not found["said"]:
        return "–"
    said = ", ".join(f"{word} {count}" for word, count in found["said"].items())
    by = [f"`{audit}` {count}" for audit, count in found["outside"].items()]
    more = f", and {len(by) - SHOWN} more" if len(by) > SHOWN else ""
    outside = ", ".join(by[:SHOWN]) + more
    return f"{said} ({outside})" if outside else said


def drawn_anew(found: Mapping[str, Any]) -> str:
    """Of how many others each retrained model got those that it was read against."""
    if "drawn_of" not in found:
        return ", all against the same models"
    return f", each against {found['references']} drawn anew of {found['drawn_of']} others"


def red_team_table(found: Mapping[str, Any]) -> Iterator[str]:
    """One kind of request: models as lines, audits as columns; and what nothing catches."""
    audits = [audit for audit in found["alarms"] if audit != WHOLE]
    yield f"| | {' | '.join(f'`{audit}`' for audit in audits)} |"
    yield "|---" * (len(audits) + 1) + "|"
    for name, said in found["models"].items():
        yield f"| {name} | {' | '.join(red_team_cell(said, audit) for audit in audits)} |"
    alarms = []
    for audit in audits:
        one = found["alarms"][audit]
        share = f"({100 * one['low']:.1f} to {100 * one['high']:.1f} %)"
        tells = any(red_team_cell(said, audit) != "?" for said in found["models"].values())
        alarms.append(f"{one['alarms']} of {one['of']} {share}" if tells or one["alarms"] else "–")
    yield f"| retrained: false alarms | {' | '.join(alarms)} |"
    loud = [audit for audit in audits if found["alarms"][audit]["low"] > ALPHA]
    yield from ("", passed(found["models"], [audit for audit in audits if audit not in loud]))
    if loud:
        yield (
            f"What {listed(loud)} alone found does not count there: at true retrains it sounds more "
            f"often than in {100 * ALPHA:g} %."
        )


def passed(models: Mapping[str, Any], audits: Sequence[str]) -> str:
    """What `standard` does not always catch, what none of these audits does, and what passes."""
    seen = {
        name: (said["standard"].get("caught", 0), sum(said["standard"].values()))
        for name, said in models.items()
    }
    some = [f"`{name}` ({count} of {of})" for name, (count, of) in seen.items() if 0 < count < of]
    never = [name for name, (count, _) in seen.items() if not count]
    none = [
        name
        for name in never
        if not any(models[name].get(audit, {}).get("caught") for audit in audits)
    ]
    called = []
    for word in (audit for audit in audits if audit in STRENGTHS):
        missed = {name: said[word].get("missed", 0) for name, said in models.items()}
        those = [f"`{name}` ({n} of {seen[name][1]})" for name, n in missed.items() if n]
        called.append(f"by `{word}`: {', '.join(those) or 'none'}")
    return (
        f"Not always caught by `standard`: {', '.join(some) or 'none'}; never: {listed(never)}; by no "
        f"audit at all in any seed: {listed(none)}. Called forgotten {'; '.join(called)}."
    )


def listed(names: Sequence[str]) -> str:
    """Names for a sentence."""
    return ", ".join(f"`{name}`" for name in names) or "none"


def red_team_cell(said: Mapping[str, Mapping[str, int]], audit: str) -> str:
    """How many were caught, and how many a strength called forgotten; ? where nothing could be told."""
    counts = said.get(audit, {})
    caught, missed = counts.get("caught", 0), counts.get("missed", 0)
    if not caught and not missed:
        return "?"
    called = f", {missed} called forgot" if missed and audit in STRENGTHS else ""
    return f"{caught} of {sum(counts.values())}{called}"


def strengths() -> Iterator[str]:
    """A table of the words that `--strength` takes, each with what the last one has not."""
    yield from ("| strength | says | audits |", "|---|---|---|")
    before: set[str] = set()
    for word, names in STRENGTHS.items():
        more = ", ".join(f"`{name}`" for name in names if name not in before)
        yield f"| `{word}` | {SAYS[word]} | {'those, and ' if before else ''}{more or 'no more'} |"
        before |= set(names)


def audit_line(audit: type[Audit]) -> str:
    """One line of the table of audits."""
    scores = ", ".join(f"`{info.name}`" for info in audit.info)
    needs = ", ".join(words for need, words in NEEDS.items() if need in audit.needs)
    asked = f"with `--also {audit.name}`"
    return f"| `{audit.name}` | {scores} | {needs} | {'always' if audit.usual else asked} |"


def cli_part() -> str:
    """The generated part of docs/cli.md: every command with its options, defaults and example."""
    return "\n".join(["## Every command", "", *(command_section(*one) for one in every_command())])


def command_section(name: str, command: Any) -> str:
    """What one command does, its usage, its options and its example."""
    lines = [f"### `expunge {name}`", ""]
    for part in (command.help or "").split("\n\n"):
        lines += [" ".join(part.split()), ""]
    shown = [one for one in command.params if one.name != "help"]
    if shown:
        lines += ["| | takes | default | meaning |", "|---|---|---|---|"]
        lines += [option_line(one) for one in shown]
        lines.append("")
    example = (command.epilog or "").removeprefix("Example: ")
    return "\n".join([*lines, "```sh", in_lines(example), "```", ""])


def option_line(option: Any) -> str:
    """An argument or an option: what it takes, what it is without it, and what it says."""
    argument = not option.opts[0].startswith("-")
    name = option.metavar or option.name.upper() if argument else ", ".join(option.opts)
    flag = getattr(option, "is_flag", False)
    annotation = option.type_descriptor.annotation
    choices = " \\| ".join(map(str, get_args(annotation)))  # of a Literal; of list[...] it is known
    takes = "" if flag else TYPES.get(annotation) or choices
    if option.required:
        default = "required"
    elif isinstance(option.show_default, str):
        default = option.show_default
    else:
        default = "" if flag or option.default is None else f"`{option.default}`"
    meaning = (option.help or "").replace("|", "\\|")
    return f"| `{name}` | {takes} | {default} | {meaning} |"


def in_lines(command: str) -> str:
    """A command, broken where it is long so that it can be pasted."""
    pieces: list[str] = []
    for word in shlex.split(command):
        follows = pieces and pieces[-1].startswith("--") and " " not in pieces[-1]
        if follows and not word.startswith("--"):  # an option stays beside its value
            pieces[-1] += f" {shlex.quote(word)}"
        else:
            pieces.append(shlex.quote(word))
    lines = [pieces[0]]
    for piece in pieces[1:]:
        if len(lines[-1]) + len(piece) < WIDTH:
            lines[-1] += f" {piece}"
        else:
            lines.append(f"    {piece}")
    return " \\\n".join(lines)


def below(page: str, part: str) -> str:
    """A page whose beginning is kept, with its generated part made anew."""
    kept = (HERE / page).read_text(encoding="utf-8").partition(MADE)[0]
    return f"{kept}{MADE}\n\n{part}"


PAGES: Mapping[str, Callable[[], str]] = {
    "methods.md": methods_page,
    "cli.md": lambda: below("cli.md", cli_part()),
    "scores.md": lambda: below("scores.md", scores_part()),
}


def stale() -> list[str]:
    """Pages that are not what the code says."""
    return [
        name for name, make in PAGES.items() if (HERE / name).read_text(encoding="utf-8") != make()
    ]


if __name__ == "__main__":
    if "--check" in sys.argv:
        old = stale()
        sys.exit(f"stale: {', '.join(old)}; run python docs/build.py" if old else 0)
    for _name, _make in PAGES.items():
        (HERE / _name).write_text(_make(), encoding="utf-8")
