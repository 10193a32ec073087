"""Plots are drawn from plain data: what they show, and that it can be told apart."""

import pytest

from medsql.metrics.estimate import Estimate
from medsql.runs.plots import (
    LINES,
    MOST_LINES,
    TALLEST,
    Curve,
    Point,
    as_png,
    as_svg,
    dots,
    loss_curves,
    most_panels,
    published_losses,
    running_mean,
    score_curves,
    trade_off,
)
from medsql.runs.sweep_plots import Axis, Standing, effects, front, history, parallel_coordinates

LOSS = [
    Curve(name, style, [10, 20, 30], [3.0, 2.0, last])
    for style, name, last in ((0, "a", 1.0), (1, "b", 0.99))
]
SCORE = Estimate(0.5, 0.4, 0.65, 20)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def named(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def colors(axes):
    """Of each named line or marker, by its name."""
    handles, labels = axes.get_legend_handles_labels()
    lines = [handle.lines[0] if hasattr(handle, "lines") else handle for handle in handles]
    return {label: line.get_color() for label, line in zip(labels, lines)}


def test_a_line_differs_from_every_other_in_colour_marker_and_style():
    assert len(LINES) >= MOST_LINES
    for parts in zip(*LINES, strict=True):
        assert len(set(map(str, parts))) == len(LINES)


def test_losses_are_drawn_at_their_steps_and_named_above():
    figure = loss_curves(LOSS, LOSS)
    training, validation = figure.axes
    assert [list(line.get_xdata()) for line in validation.lines] == [[10, 20, 30]] * 2
    assert [line.get_ydata()[-1] for line in validation.lines] == [1.0, 0.99]
    assert named(figure) == ["a", "b"]
    assert "nats" in training.get_ylabel() and validation.get_xlabel() == "optimisation steps"


def test_the_first_steps_do_not_press_later_losses_together():
    steps = list(range(1, 101))
    training = [Curve("a", 0, steps, [100.0] * 9 + [2.0] * 91)]
    validation = [Curve("a", 0, [50, 100], [1.1, 1.0])]
    left, right = loss_curves(training, validation).axes
    assert left.get_ylim()[1] < 20
    assert right.get_ylim() == pytest.approx((1.0 / 1.05, 1.1 * 1.05))


def test_a_running_mean_is_over_a_twentieth_of_the_values_around_each():
    values = [float(i % 2) for i in range(80)]
    assert running_mean(values)[40] == pytest.approx(0.4)
    assert running_mean([3.0] * 80) == pytest.approx([3.0] * 80)
    jump = running_mean([0.0] * 40 + [1.0] * 40)
    assert (
        jump[37] == 0 and jump[38] == pytest.approx(0.2) and jump[41] == pytest.approx(0.8) and jump[42] == 1
    )
    assert running_mean([1.0, 2.0]) == [1.0, 2.0]


def test_scores_are_in_percent_of_all_and_every_panel_has_its_steps():
    curves = [Curve("a", 0, [1, 2], [0.25, 0.5])]
    figure = score_curves(dict.fromkeys(("exact match", "valid", "execution", "token F1"), curves))
    as_png(figure)
    for axes in figure.axes:
        assert axes.get_ylim() == (0, 100)
        assert list(axes.lines[0].get_ydata()) == [25, 50]
        assert any(label.get_text() for label in axes.get_xticklabels() if label.get_visible())
    assert len(figure.axes) == 4 and named(figure) == ["a"]


def test_a_run_looks_the_same_in_every_panel_and_every_run_is_in_the_legend():
    one, other = Curve("one", 3, [1, 2], [0.1, 0.2]), Curve("other", 5, [1, 2], [0.1, 0.2])
    figure = score_curves({"exact match": [other], "valid": [one, other]})
    for axes in figure.axes:
        assert colors(axes)["other"] == LINES[5][0]
    assert sorted(named(figure)) == ["one", "other"]


def test_every_score_stands_in_its_row_with_its_interval():
    figure = dots(["r=8", "r=16"], {"exact match": [SCORE, Estimate(1, 1, 1, 9)], "F1": [SCORE, None]})
    one, other = figure.axes
    assert one.get_title(loc="left") == "exact match, %" and one.get_xlim() == (0, 100)
    assert [label.get_text() for label in one.get_yticklabels()] == ["r=8", "r=16"]
    assert texts(one) == ["50.0 (40.0–65.0)", "100.0 (100.0–100.0)"] and texts(other) == ["50.0 (40.0–65.0)"]
    assert one.collections[0].get_segments()[0][:, 0].tolist() == pytest.approx([40, 65])


@pytest.mark.parametrize("rows", [1, 4, 9])
def test_a_dot_plot_of_most_panels_is_not_too_tall(rows):
    panels = {str(place): [SCORE] * rows for place in range(most_panels(rows))}
    assert dots(["row"] * rows, panels).get_size_inches()[1] <= TALLEST


def test_a_trade_off_shares_scores_and_markers_across_its_costs():
    points = [Point("small", 1, 1e5, SCORE), Point("large", 4, 1e6, SCORE)]
    figure = trade_off({"weights": points, "minutes": points[1:]}, "exact match", logarithmic=["weights"])
    weights, minutes = figure.axes
    assert (weights.get_xscale(), minutes.get_xscale()) == ("log", "linear")
    assert colors(weights) == {"small": LINES[1][0], "large": LINES[4][0]}
    assert colors(minutes) == {"large": LINES[4][0]} and named(figure) == ["small", "large"]


def test_the_published_table_is_drawn_whole_beside_ones_own():
    (axes,) = published_losses(LOSS).axes
    assert len(axes.lines) == 4
    training, validation = axes.lines[:2]
    assert (training.get_xdata()[0], training.get_ydata()[0]) == (200, 1.718)
    assert (validation.get_xdata()[-1], validation.get_ydata()[-1]) == (3200, 0.871)
    assert len(validation.get_xdata()) == 16


def test_the_same_plot_is_the_same_file_and_a_name_is_no_formula():
    name = r"$\alpha$ & <b>"
    first, second = (as_svg(dots([name], {name: [SCORE]})) for _ in range(2))
    assert first == second
    (axes,) = dots([name], {"a": [SCORE]}).axes
    assert not axes.get_yticklabels()[0].get_parse_math()


def test_runs_without_a_style_are_grey_and_have_one_name_together():
    others = [Curve(name, None, [1, 2], [0.1, 0.2]) for name in "xy"]
    figure = score_curves({"exact match": [*others, Curve("best", 0, [1, 2], [0.1, 0.9])]})
    assert named(figure) == ["other runs", "best"]
    assert colors(figure.axes[0])["best"] == LINES[0][0]


def test_a_pruned_run_ends_with_a_cross_at_its_last_value():
    figure = score_curves({"exact match": [Curve("a", 0, [1, 2], [0.1, 0.2], pruned=True)]})
    _, cross = figure.axes[0].lines
    assert (cross.get_marker(), list(cross.get_xdata()), list(cross.get_ydata())) == ("x", [2], [20])
    assert named(figure) == ["a", "pruned"]


def test_a_score_of_nothing_is_a_whole_marker_and_a_loss_above_its_scale_is_cut():
    curves = [Curve("a", 0, [1, 2], [0.0, 0.0])]
    assert not score_curves({"exact match": curves}).axes[0].lines[0].get_clip_on()
    assert all(line.get_clip_on() for axes in loss_curves(LOSS, LOSS).axes for line in axes.lines)


def test_a_long_legend_takes_no_height_from_the_plot():
    curves = [Curve(f"a run of a long name {i}", i, [1, 2], [0.1, 0.2]) for i in range(8)]
    few, many = score_curves({"F1": curves[:1]}), score_curves({"F1": curves})
    for figure in (few, many):
        figure.draw_without_rendering()
    heights = [figure.axes[0].get_window_extent().height for figure in (few, many)]
    assert heights[1] > 0.9 * heights[0]


def test_a_single_validation_is_a_marker_where_a_line_would_be_invisible():
    one, other = Curve("one", 0, [400], [0.5]), Curve("other", None, [400], [0.4])
    for figure in (loss_curves([one, other], [one, other]), score_curves({"exact match": [one, other]})):
        assert [line.get_marker() for line in figure.axes[-1].lines] == [LINES[0][1], "."]
    assert LINES[0][1] in [line.get_marker() for line in loss_curves([one], [one]).axes[0].lines]
    lines = loss_curves(LOSS, LOSS).axes[0].lines
    assert {line.get_marker() for line in lines} == {"None"}, "many values make a line"


def test_scores_that_are_all_zero_have_no_scale_below_zero():
    zero = Standing("val/exact_match", [0.0, 0.0, 0.0], [True, True, False])
    rate = Axis("optim.lr", [1, 2, 3], {1: "1", 3: "3"})
    figures = effects([rate], zero), history([0, 1, 2], zero, []), front([1, 2, 4], zero, ["a", "", ""], "w")
    assert [figure.axes[0].get_ylim()[0] for figure in figures] == [0, 0, 0]
    whole = Standing("val/exact_match", [1.0, 1.0], [True, True])
    assert history([0, 1], whole, []).axes[0].get_ylim()[1] == 1
    loss = Standing("val/loss", [3.0, 4.0], [True, True], falling=True)
    assert history([0, 1], loss, []).axes[0].get_ylim()[1] > 4


def test_names_between_parallel_axes_take_no_more_room_than_there_is():
    targets = Axis("lora.targets", [0, 1], {0: "q, v", 1: "q, k, v, o, wi_0, wi_1, wo"}, categories=True)
    smoothing = Axis("optim.label_smoothing", [0, 0.1], {0: "0", 0.1: "0.1"})
    axes = parallel_coordinates([targets, *[smoothing] * 6], smoothing, [True, True]).axes[0]
    names = [*texts(axes), *(label.get_text() for label in axes.get_xticklabels())]
    assert "q, v" in names and "optim.\nlabel_\nsmoothing" in names
    assert max(len(line) for name in names for line in name.splitlines()) <= 11
    assert max(len(text.splitlines()) for text in texts(axes)) == 2
    roomy = parallel_coordinates([targets], smoothing, [True, True]).axes[0]
    assert targets.ticks[1] in texts(roomy)
