"""Each figure says what it shows: a title, axis labels, and the numbers it was given."""

import pytest
from IPython.core.formatters import DisplayFormatter

from fintune_kit import plots

LOG = [{"step": step, "loss": 4.0 / step if step != 3 else None, "learning_rate": 1e-3 / step} for step in range(1, 31)]
RECORD = {
    "task": "sentiment",
    "n": 40,
    "majority": 0.4,
    "base": {"accuracy": 0.3, "interval": (0.2, 0.4)},
    "adapter": {"accuracy": 0.8, "interval": (0.7, 0.9)},
}

FIGURES = {
    "lengths": lambda: plots.plot_lengths([10, 20, 300, 4000], max_length=2048),
    "funnel": lambda: plots.plot_funnel(100, {"empty": 3, "exact_duplicate": 7}),
    "mix": lambda: plots.plot_mix({"qa": 50, "topic": 10}, {"qa": 20, "topic": 10}),
    "labels": lambda: plots.plot_labels({"sentiment": {"neutral": 5, "positive": 3}}),
    "fill": lambda: plots.plot_pack_fill([0.99, 1.0, 0.5], plain=1000, written=600),
    "loss": lambda: plots.plot_loss(LOG),
    "confusion": lambda: plots.plot_confusion([[3, 1, 0], [0, 4, 2]], labels=["yes", "no"]),
    "before_after": lambda: plots.plot_before_after([RECORD]),
    "spending": lambda: plots.plot_spending(
        {"Health": {"2024-01": 9, "2024-02": -3}, "": {"2024-01": 2}}, currency="EUR"
    ),
    "calibration": lambda: plots.plot_calibration([0.2, 0.9, 0.95], [False, True, True]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_a_title_and_named_axes_and_is_saved_whole(name, tmp_path):
    figure = FIGURES[name]()
    titles = [axes.get_title() for axes in figure.axes] + [figure.get_suptitle()]
    assert any(titles)
    named = [axes for axes in figure.axes if axes.get_xlabel() or axes.get_ylabel()]
    assert named
    path = plots.save_figure(figure, tmp_path, name)
    assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", FIGURES)
def test_a_notebook_shows_the_picture_and_not_its_name(name):
    shown, _ = DisplayFormatter().format(FIGURES[name]())
    assert shown["image/png"][:4] == b"\x89PNG"


def test_a_long_label_is_named_on_several_lines_where_its_bar_is_wide_enough():
    (axes,) = plots.plot_labels({"topic": {"company | product news": 21, "stock movement": 4, "macro": 75}}).axes
    assert [text.get_text() for text in axes.texts] == ["company |\nproduct news\n21 %", "macro\n75 %"]


def test_the_funnel_ends_with_what_is_left():
    (axes,) = plots.plot_funnel(100, {"empty": 3, "exact_duplicate": 7}).axes
    assert [text.get_text() for text in axes.texts] == ["100", "97  (-3)", "90  (-7)"]


def test_each_month_stacks_its_categories_and_money_back_hangs_below() -> None:
    spending = {"Health": {"2024-02": 5, "2024-01": 9}, "Travel": {"2024-01": 4, "2024-02": -3}, "": {"2024-01": 2}}
    figure = plots.plot_spending(spending, currency="EUR", max_categories=1)
    bars = {
        bar.get_label(): [(patch.get_y(), patch.get_height()) for patch in bar] for bar in figure.axes[0].containers
    }
    assert bars == {
        "Health": [(0, 9), (0, 5)],
        "all others": [(9, 4), (0, -3)],
        "(left open)": [(13, 2), (5, 0)],
    }
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2024-01", "2024-02"]


def test_sharing_is_said_in_percent():
    figure = plots.plot_pack_fill([1.0], plain=1000, written=600)
    assert "40 % fewer" in figure.axes[1].get_title()


def test_a_running_mean_is_the_mean_of_what_has_run():
    assert plots._running_mean([1.0, 3.0, 5.0], window=2).tolist() == [1.0, 2.0, 4.0]
