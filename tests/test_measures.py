from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from ddslib import measures

A = np.array([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
Y = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]])
SILENT = np.zeros_like(A)


def test_precision_of_source_attribution_by_hand():
    assert measures.precision_of_source_attribution(A, Y) == float(Fraction(2 + 1 + 3, 8))
    assert measures.precision_of_source_attribution(7 * A, Y) == pytest.approx(6 / 8)
    assert measures.precision_of_source_attribution(torch.tensor(A), torch.tensor(Y)) == 6 / 8
    assert measures.precision_of_source_attribution(Y.astype(float), Y) == 1


def test_frame_mean_leaves_out_frames_without_activity():
    assert measures.frame_precision_of_source_attribution(A, Y) == pytest.approx((3 / 4 + 3 / 4) / 2)


def test_all_activity_on_one_right_note_has_full_precision_but_is_no_transcription():
    single = SILENT.copy()
    single[0, 0] = 1
    assert measures.precision_of_source_attribution(single, Y) == 1
    assert measures.average_precision(single, Y) < 0.7


def test_sparsity_by_hand():
    assert measures.sparsity(A, 0.0) == pytest.approx(4 / 9)
    assert measures.sparsity(A, 1.0) == pytest.approx(7 / 9)
    assert measures.sparsity(A, 3.0) == 1


def test_relative_error_by_hand():
    X = np.array([[3.0, 4.0]])
    assert measures.relative_error(X, X) == 0
    assert measures.relative_error(X, np.array([[3.0, 1.0]])) == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match=r"shape \(1, 1\), expected \(1, 2\)"):
        measures.relative_error(X, np.ones((1, 1)))
    with pytest.raises(ValueError, match="zero everywhere"):
        measures.relative_error(0 * X, X)


def test_average_precision_by_hand():
    # Ranked: 3 (right), 2 (right), then a tie of three ones, one of them right, then the rest with two right.
    expected = Fraction(2, 5) + Fraction(1, 5) * Fraction(3, 5) + Fraction(2, 5) * Fraction(5, 9)
    assert measures.average_precision(A, Y) == pytest.approx(float(expected))


def test_average_precision_per_frame_does_not_depend_on_loudness():
    Y = np.array([[1, 1], [0, 0]])
    quiet_frame = np.array([[10.0, 0.1], [5.0, 0.05]])
    assert measures.average_precision(quiet_frame, Y) < 1
    assert measures.average_precision(quiet_frame, Y, per_frame=True) == 1


def test_detection_by_hand():
    precision, recall, f = measures.precision_recall_f(A, Y, threshold=1.0)
    assert (precision, recall) == (pytest.approx(3 / 5), pytest.approx(3 / 5))
    assert f == pytest.approx(3 / 5)
    assert measures.precision_recall_f(A, Y, threshold=9.0) == (0, 0, 0)


def test_the_best_threshold_is_the_best_of_all():
    draws = np.random.default_rng(0)
    Y = draws.random((12, 40)) < 0.2
    A = draws.random((12, 40)) + 0.4 * Y
    best = measures.precision_recall_f(A, Y, measures.best_threshold(A, Y)).f_measure
    assert best == pytest.approx(max(measures.precision_recall_f(A, Y, value).f_measure for value in A.ravel()))
    both_good = measures.best_threshold(np.array([[0.9, 0.8, 0.7, 0.6]]), np.array([[1, 0, 0, 1]]))
    assert both_good == 0.6  # finds more notes than 0.9, of which both have the F-measure 2 / 3


@pytest.mark.parametrize(
    "measure", [measures.precision_of_source_attribution, measures.frame_precision_of_source_attribution]
)
def test_a_share_of_nothing_is_undefined(measure):
    with pytest.raises(ValueError, match="undefined"):
        measure(SILENT, Y)


@pytest.mark.parametrize(
    "measure",
    [measures.average_precision, measures.best_threshold, lambda A, Y: measures.precision_recall_f(A, Y, 1.0)],
)
def test_without_a_sounding_note_recall_is_undefined(measure):
    with pytest.raises(ValueError, match="Y is zero everywhere"):
        measure(A, 0 * Y)


@pytest.mark.parametrize(
    ("activations", "roll", "message"),
    [
        (-A, Y, "negative or not finite"),
        (A * np.nan, Y, "negative or not finite"),
        (A, Y[:2], r"shape \(2, 3\), expected that of A, \(3, 3\)"),
        (A, 2 * Y, "binary"),
        (np.ones(3), Y, r"shape \(3,\), expected \(sources, frames\)"),
        (np.ones((3, 0)), Y, "not empty"),
    ],
)
def test_bad_input_is_an_error_not_a_number(activations, roll, message):
    with pytest.raises(ValueError, match=message):
        measures.precision_of_source_attribution(activations, roll)


MEASURES = {
    "PSA": measures.precision_of_source_attribution,
    "sparsity": lambda A, Y, weights=None: measures.sparsity(A, 0.1, weights),
    "relative error": lambda A, Y, weights=None: measures.relative_error(A, A * Y, weights),
    "average precision": measures.average_precision,
    "F": lambda A, Y, weights=None: measures.precision_recall_f(A, Y, 0.2, weights).f_measure,
}


def _activities(frames):
    """Activities with ties and zeros, and a piano roll that they have something to do with."""
    draws = np.random.default_rng(0)
    Y = draws.random((7, frames)) < 0.3
    return np.floor(10 * np.maximum(draws.normal(size=Y.shape) + Y, 0)) / 10, Y


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_frame_of_weight_k_counts_as_k_frames(measure):
    A, Y = _activities(40)
    weights = np.random.default_rng(1).integers(4, size=(5, 40))
    repeated = [measure(np.repeat(A, times, axis=1), np.repeat(Y, times, axis=1)) for times in weights]
    assert measure(A, Y, weights=weights) == pytest.approx(repeated)
    assert measure(A, Y, weights=weights[0]) == pytest.approx(repeated[0])
    assert measure(A, Y, weights=np.ones(40)) == measure(A, Y)
    assert type(measure(A, Y)) is float
    with pytest.raises(ValueError, match=r"weights have shape \(39,\), expected one for each of 40 frames"):
        measure(A, Y, weights=np.ones(39))


def test_average_precision_agrees_with_scikit_learn():
    A, Y = _activities(60)
    weights = np.random.default_rng(2).random(60)
    assert measures.average_precision(A, Y) == pytest.approx(average_precision_score(Y.ravel(), A.ravel()))
    expected = average_precision_score(Y.ravel(), A.ravel(), sample_weight=np.tile(weights, 7))
    assert measures.average_precision(A, Y, weights=weights) == pytest.approx(expected)


@pytest.mark.parametrize("weights", [[-1, 1], [np.nan, 1], [0, 0], [[1, 1], [0, 0]]])
def test_weights_that_make_no_sense_are_an_error(weights):
    with pytest.raises(ValueError, match="expected weights >= 0, and some above"):
        measures.sparsity(np.ones((3, 2)), 0.1, np.array(weights))


def test_frames_of_no_weight_do_not_define_a_share():
    A, Y = np.array([[0.0, 1.0]]), np.array([[0, 1]])
    for measure in (measures.precision_of_source_attribution, measures.average_precision):
        assert measure(A, Y, weights=np.array([0, 1])) == 1
        with pytest.raises(ValueError, match="undefined"):
            measure(A, Y, weights=np.array([1, 0]))


def _mean(values, weights):
    return weights @ values / weights.sum(axis=-1)


def test_an_interval_holds_the_measure_and_narrows_with_more_chords():
    generator = np.random.default_rng(0)
    widths = []
    for chords in (8, 128):
        chord = np.repeat(np.arange(chords), 5)
        values = generator.normal(size=chords)[chord]
        low, high = measures.interval(
            measures.bootstrap(_mean, [(values,)], chord, np.random.default_rng(1), draws=2000)
        )
        # The mean of independent chords deviates by their deviation over the root of their number.
        assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(chords), rel=0.15)
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_an_interval_draws_whole_chords_and_spreads_over_runs():
    chord = np.repeat([7, 3], 10)  # names of chords, in any order
    same = np.ones(20)

    def found(*runs, draws=300):
        return measures.bootstrap(_mean, runs, chord, np.random.default_rng(0), draws)

    assert measures.interval(found((same,))) == (1, 1)
    assert measures.interval(found((same,), (3 * same,))) == (1, 3)
    assert list(found((chord,))) == pytest.approx(list(found((chord,), (chord,))))  # however many runs there are
    many = found(*((number * same,) for number in range(9)), draws=4000)
    assert many.mean() == pytest.approx(4, abs=0.1)  # around the mean over runs, as near as that is known
    assert many.std() == pytest.approx(np.std(range(9)) / 3, rel=0.1)
    halves = found((np.where(chord == 7, 0.0, 1.0),))
    assert set(halves) == {0.0, 0.5, 1.0}
    assert np.mean(halves == 0.5) == pytest.approx(0.5, abs=0.1)


def test_a_verdict_is_given_where_the_interval_has_one_sign():
    draws = np.linspace(0, 1, 101)
    assert measures.verdict(draws + 0.1) == "confirmed"
    assert measures.verdict(-draws - 0.1) == "contradicted"
    assert measures.verdict(draws - 0.5) == "undecided"
    assert measures.verdict(draws - 0.01) == "confirmed"  # the outermost draws do not count


def test_relative_activity_does_not_depend_on_the_level():
    A = np.random.default_rng(0).random((4, 6))
    assert np.allclose(measures.relative(A), measures.relative(100 * A))
    assert measures.relative(A).sum() == pytest.approx(6)
    with pytest.raises(ValueError, match="A is zero everywhere"):
        measures.relative(np.zeros((2, 3)))
