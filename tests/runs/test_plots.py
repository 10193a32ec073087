"""Plots are drawn from plain data: what they show, and that it can be told apart."""

import re

import pytest

from medsql.runs.plots import (
    LINES,
    MOST_LINES,
    Curve,
    Estimate,
    Point,
    as_png,
    as_svg,
    configurations,
    dot_rows,
    inline_svg,
    loss_curves,
    published_losses,
    score_curves,
    trade_off,
)

LOSS = [Curve(name, [10, 20, 30], [3.0, 2.0, last]) for name, last in (("a", 1.0), ("b", 0.99))]
SCORE = Estimate(0.5, 0.4, 0.65)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_line_differs_from_every_other_in_colour_marker_and_style():
    assert len(LINES) >= MOST_LINES
    for parts in zip(*LINES, strict=True):
        assert len(set(map(str, parts))) == len(LINES)


def test_losses_are_drawn_at_their_steps_and_named_where_they_end():
    figure = loss_curves(LOSS, LOSS)
    _, validation = figure.axes
    assert [list(line.get_xdata()) for line in validation.lines] == [[10, 20, 30]] * 2
    assert [line.get_ydata()[-1] for line in validation.lines] == [1.0, 0.99]
    assert texts(validation) == ["a", "b"]
    assert "nats" in figure.axes[0].get_ylabel() and validation.get_xlabel() == "optimisation steps"


def test_names_of_curves_that_end_close_together_do_not_overlap():
    figure = loss_curves(LOSS, LOSS)
    as_png(figure)
    one, other = (text.get_window_extent() for text in figure.axes[1].texts)
    assert not one.overlaps(other)


def test_many_curves_are_named_above_the_plot():
    figure = loss_curves(LOSS * 3, LOSS * 3)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"] * 3
    assert texts(figure.axes[1]) == []


def test_scores_are_in_percent_of_all():
    curves = [Curve("a", [1, 2], [0.25, 0.5])]
    for axes in score_curves({"exact match": curves, "token F1": curves}).axes:
        assert axes.get_ylim() == (0, 100)
        assert list(axes.lines[0].get_ydata()) == [25, 50]


def test_every_score_stands_in_its_row_with_its_interval():
    figure = dot_rows(["x", "y"], {"one": [SCORE, None], "two": [SCORE, Estimate(1, 1, 1)]}, "score, %")
    (axes,) = figure.axes
    assert axes.get_xlim() == (0, 100)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    assert texts(axes).count("50.0 (40.0–65.0)") == 2 and "100.0 (100.0–100.0)" in texts(axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    ends = [bar.get_segments()[0][:, 0].tolist() for bar in axes.collections]
    assert ends[0] == pytest.approx([40, 65])


def test_configurations_have_a_panel_for_each_score():
    figure = configurations(
        ["r=8", "r=16"], {"exact match": [SCORE, SCORE], "F1": [SCORE, None], "v": [None] * 2}
    )
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == ["exact match", "F1", "v"]
    assert [len(texts(axes)) for axes in shown] == [2, 1, 0]


def test_a_trade_off_shares_scores_and_markers_across_its_costs():
    points = [Point("small", 1e5, SCORE), Point("large", 1e6, SCORE)]
    figure = trade_off({"weights": points, "minutes": points[::-1]}, "exact match", logarithmic=["weights"])
    weights, minutes = figure.axes
    assert (weights.get_xscale(), minutes.get_xscale()) == ("log", "linear")
    markers = [{c.get_label(): c.lines[0].get_marker() for c in axes.containers} for axes in figure.axes]
    assert markers[0] == markers[1] and len(set(markers[0].values())) == 2


def test_the_published_table_is_drawn_whole_beside_ones_own():
    (axes,) = published_losses(LOSS).axes
    assert len(axes.lines) == 4
    training, validation = axes.lines[:2]
    assert (training.get_xdata()[0], training.get_ydata()[0]) == (200, 1.718)
    assert (validation.get_xdata()[-1], validation.get_ydata()[-1]) == (3200, 0.871)
    assert len(validation.get_xdata()) == 16


def test_the_same_plot_is_the_same_file_and_a_name_is_no_formula():
    name = r"$\alpha$ & <b>"
    first, second = (as_svg(dot_rows(["x"], {name: [SCORE]}, "%")) for _ in range(2))
    assert first == second
    (axes,) = dot_rows([name], {"a": [SCORE]}, "%").axes
    assert not axes.get_yticklabels()[0].get_parse_math()


def test_plots_on_one_page_share_no_ids():
    svg = as_svg(dot_rows(["x"], {"a": [SCORE]}, "%"))
    one, other = (inline_svg(svg, name, "what is seen") for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', element)) for element in (one, other)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', one)) and one.startswith("<svg")
    used = {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', one)}
    assert used <= ids[0]
    assert 'aria-label="what is seen"' in one
