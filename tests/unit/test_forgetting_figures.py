from __future__ import annotations

import base64
import io
import itertools
import re
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from expunge.errors import ConfigError
from expunge.report.forgetting import (
    class_accuracy_figure,
    forgetting_figures,
    noise_figure,
    weight_distance_figure,
)
from expunge.report.places import FIGURES, check_folder

NASTY = "a -- class & <b> of $x$"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that would be saved, once; to save none is quicker."""
    figures: list[Figure] = []

    def keep(self: Figure, *args, **kwargs) -> None:
        if self not in figures:
            figures.append(self)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every saved figure, once for each of its files."""
    figures: list[Figure] = []
    save = Figure.savefig

    def spy(self: Figure, *args, **kwargs) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    return figures


def panels(figure: Figure) -> list[Axes]:
    return [axes for part in figure.subfigs for axes in part.axes]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.subfigs[-1].legends for text in box.get_texts()]


def rows(axes: Axes) -> list[str]:
    """The rows' names from top to bottom."""
    low, high = axes.get_ylim()
    assert low > high  # the first stands on top
    return [text.get_text().strip() for text in axes.get_yticklabels()]


def series(axes: Axes, name: str) -> dict[str, float]:
    """Row name -> value drawn in it."""
    at = {round(y, 6): row for y, row in zip(axes.get_yticks(), rows(axes), strict=True)}
    (line,) = [line for line in axes.get_lines() if line.get_label() == name]
    places = [at[round(float(y), 6)] for y in line.get_ydata()]
    return dict(zip(places, map(float, line.get_xdata()), strict=True))


def accuracies(**columns) -> pd.DataFrame:
    frame = {
        "class": ["airplane", "cat", "dog", "truck"],
        "forgotten": [False, True, False, True],
        "before": [90.0, 80.0, 70.0, 95.0],
        "after": [88.0, 0.0, 70.0, 12.0],
        "retrained": [91.0, 0.0, 71.0, 3.0],
    }
    return pd.DataFrame({**frame, **columns})


def distances(n: int = 4, **columns) -> pd.DataFrame:
    frame = {
        "layer": [f"layer{i}.weight" for i in range(n)],
        "from_original": np.linspace(0.1, 0.2, n),
        "from_retrained": np.linspace(0.5, 0.3, n),
    }
    return pd.DataFrame({**frame, **columns})


def many(n: int, forgotten: int = 2) -> pd.DataFrame:
    """Class i changes by i / 4 points; the first ones are forgotten."""
    change = np.arange(n) / 4
    return pd.DataFrame(
        {
            "class": [f"c{i}" for i in range(n)],
            "forgotten": np.arange(n) < forgotten,
            "before": 50.0,
            "after": 50.0 - change * (-1) ** np.arange(n),
        }
    )


def test_forgotten_classes_stand_on_top_and_are_named_so(tmp_path: Path, drawn) -> None:
    class_accuracy_figure(accuracies(), tmp_path / "a")
    (axes,) = panels(drawn[0])
    assert rows(axes) == ["forgotten", "cat", "truck", "not forgotten", "airplane", "dog"]
    weights = [text.get_fontweight() for text in axes.get_yticklabels()]
    assert [w == "bold" for w in weights] == [True, False, False, True, False, False]
    (band,) = axes.patches
    at = dict(zip(rows(axes), axes.get_yticks(), strict=True))
    low, high = sorted((band.get_y(), band.get_y() + band.get_height()))
    assert [row for row in at if low < at[row] < high] == ["forgotten", "cat", "truck"]


def test_accuracies_are_drawn_where_they_belong(tmp_path: Path, drawn) -> None:
    class_accuracy_figure(accuracies(), tmp_path / "a")
    (axes,) = panels(drawn[0])
    assert axes.get_xlim() == (0, 100)
    assert axes.get_xscale() == "linear"
    frame = accuracies().set_index("class")
    for name in ("before", "after", "retrained"):
        assert series(axes, name) == frame[name].to_dict()
    assert legend(drawn[0]) == ["before", "after", "retrained"]
    looks = {line.get_label(): line for line in axes.get_lines()}
    assert to_rgba(looks["before"].get_markerfacecolor()) == to_rgba("white")
    assert looks["after"].get_markerfacecolor() == looks["after"].get_color()
    assert looks["before"].get_markersize() > looks["after"].get_markersize()  # a ring remains
    assert looks["retrained"].get_marker() == "|"
    (joined,) = axes.collections
    ends = [sorted(segment[:, 0]) for segment in joined.get_segments()]
    assert ends == [[0, 80], [12, 95], [88, 90], [70, 70]]


def test_what_is_not_known_is_left_out_or_said(tmp_path: Path, drawn) -> None:
    nan = float("nan")
    unknown = accuracies(retrained=nan, before=[nan, 80, 70, 95], after=[nan, 0, nan, 12])
    class_accuracy_figure(unknown, tmp_path / "a")
    class_accuracy_figure(accuracies().drop(columns="retrained"), tmp_path / "b")
    assert legend(drawn[0]) == legend(drawn[1]) == ["before", "after"]
    (axes,) = panels(drawn[0])
    (word,) = axes.texts
    assert word.get_text() == "no value"
    at = dict(zip(rows(axes), axes.get_yticks(), strict=True))
    assert word.get_position()[1] == pytest.approx(at["airplane"])
    assert "no value" not in texts(drawn[1])


@pytest.mark.parametrize(
    ("forgotten", "expected"),
    [(False, ["airplane", "cat"]), (True, ["forgotten", "airplane", "cat"])],
)
def test_headings_only_where_there_is_something_below(
    tmp_path: Path, drawn, forgotten: bool, expected: list[str]
) -> None:
    class_accuracy_figure(accuracies(forgotten=forgotten)[:2], tmp_path / "a")
    (axes,) = panels(drawn[0])
    assert rows(axes) == expected
    assert len(axes.patches) == forgotten


def test_of_many_classes_the_forgotten_and_the_most_changed_are_drawn(
    tmp_path: Path, drawn
) -> None:
    class_accuracy_figure(many(100), tmp_path / "a")
    (axes,) = panels(drawn[0])
    others = [f"c{i}" for i in range(72, 100)]  # in the frame's order
    assert rows(axes) == ["forgotten", "c0", "c1", "not forgotten", *others]
    # the largest change of those left out is class 71's
    assert "70 of 100 classes left out: none changed by more than 17.8 points." in texts(drawn[0])
    class_accuracy_figure(many(30), tmp_path / "b")
    assert not any("left out" in text for text in texts(drawn[1]))
    assert len(rows(panels(drawn[1])[0])) == 32


def test_more_forgotten_classes_than_rows_is_said(tmp_path: Path, drawn) -> None:
    class_accuracy_figure(many(40, forgotten=33), tmp_path / "a")
    (axes,) = panels(drawn[0])
    assert rows(axes) == ["forgotten", *(f"c{i}" for i in range(3, 33))]
    (note,) = [text for text in texts(drawn[0]) if "left out" in text]
    assert note.startswith("10 of 40 classes left out")
    assert note.endswith("3 are forgotten ones.")


def test_distances_are_drawn_in_the_models_order(tmp_path: Path, drawn) -> None:
    weight_distance_figure(distances(), tmp_path / "w", paired="batches")
    (axes,) = panels(drawn[0])
    frame = distances().set_index("layer")
    assert rows(axes) == list(frame.index)
    assert series(axes, "from the original") == frame["from_original"].to_dict()
    assert series(axes, "from the retrained (paired)") == frame["from_retrained"].to_dict()
    assert len({line.get_marker() for line in axes.get_lines()}) == 2  # told apart without colour
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > 0.5
    assert axes.get_xscale() == "linear"


def test_the_floor_of_the_distance_is_drawn_where_there_is_one(tmp_path: Path, drawn) -> None:
    frame = distances()
    frame["floor"] = frame["from_retrained"] / 2
    weight_distance_figure(frame, tmp_path / "w", paired="batches")
    (axes,) = panels(drawn[0])
    label = legend(drawn[0])[-1].replace("\n", " ")
    assert label == "with nothing forgotten: the original, trained again in other batches"
    assert series(axes, label) == frame.set_index("layer")["floor"].to_dict()
    assert len({line.get_marker() for line in axes.get_lines()}) == 3


@pytest.mark.parametrize(
    ("paired", "words"),
    [
        (None, "from the retrained"),
        ("batches", "from the retrained (paired)"),
        ("order", "from the retrained (paired, but in other batches)"),
        ("none", "from the retrained (other initial weights: mostly measures those)"),
    ],
)
def test_the_legend_says_what_the_retrained_model_began_from(
    tmp_path: Path, drawn, paired: str | None, words: str
) -> None:
    weight_distance_figure(distances(), tmp_path / "w", paired=paired)
    weight_distance_figure(distances(from_retrained=np.nan), tmp_path / "w", paired=paired)
    assert legend(drawn[0]) == ["from the original", words]
    assert legend(drawn[1]) == ["from the original"]


@pytest.mark.parametrize(("largest", "scale"), [(0.1, "linear"), (0.11, "symlog")])
def test_the_axis_is_logarithmic_only_for_much_different_distances(
    tmp_path: Path, drawn, largest: float, scale: str
) -> None:
    frame = distances(from_original=[0.0, 0.001, np.nan, largest], from_retrained=np.nan)
    weight_distance_figure(frame, tmp_path / "w")
    (axes,) = panels(drawn[0])
    assert axes.get_xscale() == scale
    assert axes.get_xlim()[0] == 0
    assert axes.get_xlim()[1] > largest
    if scale == "symlog":
        shown = [text.get_text() for text in axes.get_xticklabels()]
        assert shown[:4] == ["0", "0.001", "0.01", "0.1"]
    dots = series(axes, "from the original")
    assert dots["layer0.weight"] == 0
    assert np.isnan(dots["layer2.weight"])
    assert [text.get_text() for text in axes.texts] == ["no value"]


def test_of_many_layers_the_furthest_are_drawn_in_order(tmp_path: Path, drawn) -> None:
    far = np.full(62, 0.5)
    far[[3, 7]] = [0.2, 0.1]
    frame = distances(62, from_original=far).drop(columns="from_retrained")
    weight_distance_figure(frame, tmp_path / "w")
    (axes,) = panels(drawn[0])
    assert rows(axes) == [f"layer{i}.weight" for i in range(62) if i not in (3, 7)]
    assert "2 of 62 layers left out: none has a distance above 0.2." in texts(drawn[0])


def test_long_names_of_layers_are_broken_after_a_dot(tmp_path: Path, drawn) -> None:
    layer = [
        "transformer.encoder.layers.11.self_attn.out_proj.weight",
        "layer4.0.downsample.0.bias",
    ]
    weight_distance_figure(distances(2, layer=layer), tmp_path / "w")
    (axes,) = panels(drawn[0])
    assert rows(axes) == ["transformer.encoder.layers.11.\nself_attn.out_proj.weight", layer[1]]


def test_all_layers_unmoved_or_without_a_value(tmp_path: Path, drawn) -> None:
    frame = distances(from_original=[0.0, 0.0, np.nan, np.inf], from_retrained=np.nan)
    weight_distance_figure(frame, tmp_path / "w")
    (axes,) = panels(drawn[0])
    assert axes.get_xlim()[0] == 0
    assert [text.get_text() for text in axes.texts] == ["no value"] * 2
    weight_distance_figure(frame[2:], tmp_path / "w")
    assert panels(drawn[1])[0].get_lines() == [] == legend(drawn[1])


def test_an_image_is_scaled_from_its_1st_to_its_99th_percentile(tmp_path: Path, drawn) -> None:
    noise = np.random.default_rng(0).normal(3, 7, (2, 4, 3, 8, 6)).astype(np.float32)
    noise[1, 2] = 0.1  # constant
    noise_figure(noise, ["cat", NASTY], tmp_path / "n")
    axes = panels(drawn[0])
    assert len(axes) == 8
    for panel, image in zip(axes, noise.reshape(8, 3, 8, 6), strict=True):
        shown = np.asarray(panel.images[0].get_array())
        if np.ptp(image) == 0:
            assert (shown == 0.5).all()
            continue
        low, high = np.percentile(image.astype(np.float64), [1, 99])
        expected = np.clip((np.moveaxis(image, 0, -1) - low) / (high - low), 0, 1)
        np.testing.assert_allclose(shown, expected, atol=1e-6)
    labels = [panel.get_ylabel().replace("\n", " ") for panel in axes]
    assert labels == ["cat", "", "", "", NASTY, "", "", ""]
    words = "Each image is scaled by itself: 1st..99th percentile to 0..1."
    assert texts(drawn[0])[-1] == words  # and nothing about channels or what is left out


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_other_numbers_of_channels_are_grey(tmp_path: Path, drawn, channels: int) -> None:
    noise = np.random.default_rng(1).uniform(size=(1, 2, channels, 5, 5))
    noise_figure(noise, ["x"], tmp_path / "n")
    for panel, image in zip(panels(drawn[0]), noise[0].mean(axis=1), strict=True):
        (shown,) = panel.images
        low, high = np.percentile(image, [1, 99])
        np.testing.assert_allclose(shown.get_array(), ((image - low) / (high - low)).clip(0, 1))
        assert shown.get_cmap().name == "gray"
        assert shown.get_clim() == (0, 1)
    said = f"Grey is the mean over {channels} channels." in texts(drawn[0])[-1]
    assert said == (channels != 1)


def test_a_speck_on_a_flat_ground_is_seen(tmp_path: Path, drawn) -> None:
    noise = np.zeros((1, 1, 1, 30, 30))
    noise[0, 0, 0, 4, 5], noise[0, 0, 0, 9, 9] = 3, -3  # beyond both percentiles, which are equal
    noise_figure(noise, ["x"], tmp_path / "n")
    shown = np.asarray(panels(drawn[0])[0].images[0].get_array())
    assert (shown[4, 5], shown[9, 9], shown[0, 0]) == (1, 0, 0.5)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1,)])
def test_vectors_are_lines_even_when_they_would_make_a_square(
    tmp_path: Path, drawn, shape: tuple[int, ...]
) -> None:
    noise = np.random.default_rng(2).normal(size=(2, 5, *shape))
    noise_figure(noise, ["3", "eight"], tmp_path / "n")
    axes = panels(drawn[0])
    assert len(axes) == 6
    for panel, values in zip(axes, noise[:, :3].reshape(6, -1), strict=True):
        assert not panel.images
        (line,) = panel.get_lines()
        np.testing.assert_array_equal(line.get_ydata(), values)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(values.size))
        assert panel.get_ylim() == axes[0].get_ylim()
    assert "feature number" in texts(drawn[0])
    note = "Values over the feature's number, all on the same axes."
    note += "\nOf the 5 of each class, the first 3."
    assert note in texts(drawn[0])


def test_no_more_than_20_classes_of_noise_are_drawn(tmp_path: Path, drawn) -> None:
    noise = np.random.default_rng(3).normal(size=(23, 9, 1, 3, 3))
    noise_figure(noise, [f"c{i}" for i in range(23)], tmp_path / "n")
    labels = [panel.get_ylabel() for panel in panels(drawn[0])]
    assert len(labels) == 20 * 8
    assert [name for name in labels if name] == [f"c{i}" for i in range(20)]
    note = texts(drawn[0])[-1].split("\n")
    assert note[1:] == ["Of the 9 of each class, the first 8.", "3 of 23 classes left out."]


def test_a_strip_one_pixel_high_can_be_seen(tmp_path: Path, drawn) -> None:
    noise_figure(np.random.default_rng(4).normal(size=(1, 1, 1, 1, 400)), ["x"], tmp_path / "n")
    drawn[0].draw_without_rendering()
    (panel,) = panels(drawn[0])
    assert panel.get_window_extent().height > 40


@pytest.mark.parametrize(
    ("draw", "file"),
    [
        (lambda stem: class_accuracy_figure(accuracies(**{"class": [NASTY] * 4}), stem), "a.v1"),
        (lambda stem: weight_distance_figure(distances(layer=[NASTY] * 4), stem), "w.v1"),
        (lambda stem: noise_figure(np.arange(60.0).reshape(1, 1, 3, 5, 4), [NASTY], stem), "n.v1"),
    ],
)
def test_files_are_written_without_date_and_say_names_as_they_are(
    tmp_path: Path, saved, draw, file: str
) -> None:
    settings = dict(mpl.rcParams)
    png, svg = draw(tmp_path / "new" / file)
    assert (png.name, svg.name) == (f"{file}.png", f"{file}.svg")
    with Image.open(png) as image:
        assert image.width == 1240
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    content = svg.read_text(encoding="utf-8")
    ElementTree.fromstring(content)  # well-formed, whatever a class is called
    assert "dc:date" not in content
    again = draw(tmp_path / "again")[1].read_text(encoding="utf-8")
    said = re.findall("<!-- (.*?) -->", content, re.DOTALL)
    assert said == re.findall("<!-- (.*?) -->", again, re.DOTALL) != []
    assert NASTY in [text.replace("\n", " ") for text in texts(saved[0])]
    assert not any(
        text.get_parse_math() for text in saved[0].findobj(Text) if "$" in text.get_text()
    )
    assert dict(mpl.rcParams) == settings


def test_the_svg_holds_the_noise(tmp_path: Path) -> None:
    svg = noise_figure(np.arange(24.0).reshape(1, 2, 3, 2, 2), ["x"], tmp_path / "n")[1]
    pictures = re.findall(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", svg.read_text("utf-8"))
    assert len(pictures) == 2
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as image:
        assert len(image.convert("RGB").getcolors()) == 4


def test_nothing_is_cut_off(tmp_path: Path, drawn) -> None:
    long = accuracies(
        **{"class": ["n02098105_soft-coated_wheaten_terrier", NASTY * 3, "x", "A" * 90]}
    )
    class_accuracy_figure(long, tmp_path / "a")
    class_accuracy_figure(many(100), tmp_path / "a")
    layers = [f"transformer.encoder.layers.{i}.self_attn.out_proj.weight" for i in range(70)]
    far = np.geomspace(1e-9, 1, 70)
    weight_distance_figure(
        distances(70, layer=layers, from_original=far), tmp_path / "w", paired="none"
    )
    noise_figure(
        np.random.default_rng(5).normal(size=(3, 9, 4, 8, 8)),
        ["soft-coated wheaten terrier"] * 3,
        tmp_path / "n",
    )
    noise_figure(
        np.random.default_rng(5).normal(size=(3, 4, 9)) * 1e6, ["A" * 50] * 3, tmp_path / "n"
    )
    assert len(drawn) == 5
    for figure in drawn:
        figure.draw_without_rendering()  # lays it out
        body, foot = figure.subfigs
        artists = [body._suptitle, *foot.legends, *(t for t in foot.texts if t.get_text())]
        boxes = [artist.get_window_extent() for artist in artists]
        boxes += [axes.get_tightbbox() for axes in panels(figure)]
        for i, one in enumerate(boxes):
            assert figure.bbox.x0 <= one.x0 <= one.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= one.y0 <= one.y1 <= figure.bbox.y1
            assert not any(one.overlaps(other) for other in boxes[:i])
        for axes in panels(figure)[:1]:
            for ticks in (axes.get_yticklabels(), axes.get_xticklabels()):
                spots = [text.get_window_extent() for text in ticks if text.get_text()]
                for one, other in itertools.pairwise(spots):
                    assert not one.overlaps(other)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: class_accuracy_figure(accuracies()[:0], s), "lacks rows"),
        (lambda s: class_accuracy_figure(accuracies().drop(columns="after"), s), "columns after"),
        (lambda s: class_accuracy_figure(accuracies(after=101.0), s), "after leaves 0 to 100"),
        (lambda s: class_accuracy_figure(accuracies(before=-1.0), s), "before leaves 0 to 100"),
        (lambda s: class_accuracy_figure(accuracies(forgotten="False"), s), "column forgotten"),
        (
            lambda s: weight_distance_figure(distances(from_original=-1.0), s),
            "from_original leaves",
        ),
        (lambda s: weight_distance_figure(distances()[["from_original"]], s), "columns layer"),
        (lambda s: noise_figure(np.ones((2, 1, 3)), ["x"], s), "1 names"),
        (lambda s: noise_figure(np.ones((1, 3)), ["x"], s), r"\(1, 3\)"),
        (lambda s: noise_figure(np.ones((0, 1, 3)), [], s), r"\(0, 1, 3\)"),
        (lambda s: noise_figure(np.full((1, 1, 3), np.nan), ["x"], s), "nan or infinite"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(tmp_path: Path, call, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        call(tmp_path / "new" / "x")
    assert "\n" not in str(error.value)
    assert ";" in str(error.value)  # what and why; the remedy
    assert not (tmp_path / "new").exists()


def test_a_percent_that_rounding_lifted_over_100_is_accepted(tmp_path: Path, drawn) -> None:
    class_accuracy_figure(accuracies(after=100.00000000000001), tmp_path / "a")
    assert len(drawn) == 1


def test_the_callers_data_are_left_alone(tmp_path: Path, drawn) -> None:
    accuracy, distance, noise = many(40), distances(70), np.ones((1, 1, 3, 4, 4))
    before = accuracy.copy(), distance.copy()
    forgetting_figures(
        tmp_path / "out", accuracy=accuracy, distance=distance, noise=noise, noise_names=["x"]
    )
    assert len(drawn) == 3
    pd.testing.assert_frame_equal(accuracy, before[0])
    pd.testing.assert_frame_equal(distance, before[1])
    assert (noise == 1).all()


def test_the_folder_holds_figures_and_numbers(tmp_path: Path, saved) -> None:
    out = tmp_path / "new" / "out"
    noise = np.random.default_rng(6).normal(size=(1, 2, 3, 4, 4))
    paths = forgetting_figures(
        out,
        accuracy=many(40),
        distance=distances(70),
        noise=noise,
        noise_names=["x"],
        paired="batches",
    )
    stems = ("accuracy_by_class", "weight_distance", "noise")
    files = {f"{stem}.{end}" for stem in stems for end in ("png", "svg")}
    files |= {"accuracy_by_class.csv", "weight_distance.csv"}
    assert paths == sorted(out.iterdir())
    assert {path.name for path in paths} == files
    assert list((tmp_path / "new").iterdir()) == [out]
    pd.testing.assert_frame_equal(pd.read_csv(out / "accuracy_by_class.csv"), many(40))
    pd.testing.assert_frame_equal(pd.read_csv(out / "weight_distance.csv"), distances(70))
    assert any("from the retrained (paired)" in texts(figure) for figure in saved)


def test_a_folder_in_the_way_is_only_replaced_on_request(tmp_path: Path) -> None:
    out = tmp_path / "out"
    forgetting_figures(
        out,
        accuracy=accuracies(),
        distance=distances(),
        noise=np.ones((1, 1, 3)),
        noise_names=["x"],
    )
    with pytest.raises(ConfigError, match="--overwrite"):
        check_folder(out, overwrite=False, mark=FIGURES)
    with pytest.raises(ConfigError, match="--overwrite"):
        forgetting_figures(out, accuracy=accuracies(), distance=distances())
    assert (out / "noise.png").exists()
    check_folder(out, overwrite=True, mark=FIGURES)
    forgetting_figures(out, accuracy=accuracies()[:1], distance=distances(), overwrite=True)
    assert not (out / "noise.png").exists()
    assert len(pd.read_csv(out / "accuracy_by_class.csv")) == 1


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    check_folder(out, overwrite=True, mark=FIGURES)  # empty: nothing to lose
    (out / "table.json").write_text("{}")
    with pytest.raises(ConfigError, match="is no folder of figures"):
        forgetting_figures(out, accuracy=accuracies(), distance=distances(), overwrite=True)
    check_folder(out, overwrite=True)  # a table's folder, and these figures' is none
    (out / "table.json").rename(out / "accuracy_by_class.csv")
    check_folder(out, overwrite=True, mark=FIGURES)
    with pytest.raises(ConfigError, match="is no folder of tables"):
        check_folder(out, overwrite=True)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    forgetting_figures(out, accuracy=accuracies(), distance=distances())
    old = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ConfigError, match="lacks rows"):
        forgetting_figures(out, accuracy=many(3), distance=distances()[:0], overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == old
    assert list(tmp_path.iterdir()) == [out]


def test_drawing_needs_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys; import expunge.report.forgetting; "
        "sys.exit(str([n for n in ('torch', 'matplotlib.pyplot') if n in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_one_of_everything_draws_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_accuracy_figure(accuracies(before=np.nan, after=np.nan)[:1], tmp_path / "a")
        weight_distance_figure(distances(from_retrained=np.nan)[:1], tmp_path / "w")
        noise_figure(np.zeros((1, 1, 3, 1, 1), dtype=np.float16), ["x"], tmp_path / "n")
        noise_figure(np.zeros((1, 1, 1)), ["x"], tmp_path / "n")
