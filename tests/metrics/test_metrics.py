"""Metrics against scikit-learn on random inputs; streaming against whole; errors that name the culprit."""

import doctest
import importlib
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rushlight import metrics as m

sk = pytest.importorskip("sklearn.metrics")

MODULES = ["", ".classification", ".ranking", ".report", ".streaming"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module("rushlight.metrics" + name)
    result = doctest.testmod(module, extraglobs=vars(m))
    assert result.attempted and not result.failed


@st.composite
def labelled(draw, classes=None):
    """(predicted, true, number of classes), with classes that may be absent."""
    classes = classes or draw(st.integers(2, 6))
    n = draw(st.integers(1, 40))
    numbers = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n).map(np.array)
    return draw(numbers), draw(numbers), classes


@st.composite
def scored(draw, classes=None):
    """(probabilities (n, C) with ties, true class numbers, C), every class present."""
    classes = classes or draw(st.integers(3, 5))
    n = draw(st.integers(classes, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = rng.integers(1, 5, (n, classes)).astype(np.float64)
    true = rng.permutation(np.r_[np.arange(classes), rng.integers(0, classes, n - classes)])
    return scores / scores.sum(axis=1, keepdims=True), true, classes


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


@settings(max_examples=80, deadline=None)
@given(data=labelled(), zero=st.sampled_from([0.0, 1.0]), beta=st.sampled_from([0.5, 1.0, 2.0]), fixed=st.booleans())
def test_precision_recall_f(data, zero, beta, fixed):
    predicted, true, classes = data
    ours_options = {"zero_division": zero, "num_classes": classes if fixed else None}
    theirs_options = {"zero_division": zero, "labels": range(classes) if fixed else None}
    for average in ("micro", "macro", "weighted", None):
        theirs = quiet(
            sk.precision_recall_fscore_support, true, predicted, beta=beta, average=average, **theirs_options
        )
        ours = m.precision_recall_fscore_support(predicted, true, beta=beta, average=average, **ours_options)
        for a, b in zip(ours, theirs):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-12)
        assert np.array_equal(m.precision(predicted, true, average=average, **ours_options), ours[0])
        assert np.array_equal(m.recall(predicted, true, average=average, **ours_options), ours[1])
        assert np.array_equal(m.fbeta_score(predicted, true, beta=beta, average=average, **ours_options), ours[2])


@settings(max_examples=40, deadline=None)
@given(data=labelled(classes=2), pos_label=st.sampled_from([0, 1]))
def test_binary_average(data, pos_label):
    predicted, true, _ = data
    if pos_label not in np.r_[predicted, true]:
        return  # scikit-learn refuses a positive class that it never saw
    options = {"pos_label": pos_label, "zero_division": 0.0}
    assert m.f1_score(predicted, true, **options) == pytest.approx(sk.f1_score(true, predicted, **options))
    assert m.precision(predicted, true, **options) == pytest.approx(sk.precision_score(true, predicted, **options))


@settings(max_examples=60, deadline=None)
@given(data=labelled(), normalize=st.sampled_from([None, "true", "pred", "all"]))
def test_confusion_matrix_and_accuracy(data, normalize):
    predicted, true, classes = data
    theirs = sk.confusion_matrix(true, predicted, labels=range(classes), normalize=normalize)
    ours = m.confusion_matrix(predicted, true, num_classes=classes, normalize=normalize)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert (ours.dtype == np.int64) == (normalize is None)
    assert m.accuracy(predicted, true) == sk.accuracy_score(true, predicted)


@settings(max_examples=40, deadline=None)
@given(data=labelled(), digits=st.integers(1, 5), fixed=st.booleans())
@example(data=(np.array([0]), np.array([1]), 2), digits=2, fixed=False)  # nothing right: counts are printed as 0.0 and 1.0
def test_classification_report(data, digits, fixed):
    predicted, true, classes = data
    shown = range(classes) if fixed else np.unique(np.r_[predicted, true])
    names = [f"class number {c}" for c in shown]
    theirs_options = {"labels": range(classes)} if fixed else {}
    for target_names in (None, names):
        options = {"target_names": target_names, "digits": digits, "zero_division": 0.0}
        fixed_options = {"num_classes": classes} if fixed else {}
        theirs = quiet(sk.classification_report, true, predicted, **options, **theirs_options)
        assert m.classification_report(predicted, true, **options, **fixed_options) == theirs
        theirs = quiet(sk.classification_report, true, predicted, output_dict=True, **options, **theirs_options)
        ours = m.classification_report(predicted, true, output_dict=True, **options, **fixed_options)
        assert list(ours) == list(theirs)
        for name, row in theirs.items():
            assert ours[name] == pytest.approx(row)


@settings(max_examples=60, deadline=None)
@given(data=scored(classes=2), drop=st.booleans(), pos_label=st.sampled_from([0, 1]))
def test_roc_of_two_classes(data, drop, pos_label):
    scores, true, _ = data
    theirs = sk.roc_curve(true, scores[:, 1], pos_label=pos_label, drop_intermediate=drop)
    ours = m.roc_curve(scores[:, 1], true, pos_label=pos_label, drop_intermediate=drop)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    expected = sk.roc_auc_score(true, scores[:, 1])
    assert m.roc_auc_score(scores[:, 1], true) == pytest.approx(expected, rel=1e-12)
    assert m.roc_auc_score(scores, true) == pytest.approx(expected, rel=1e-12)
    assert m.auc(ours[0], ours[1]) == pytest.approx(sk.auc(theirs[0], theirs[1]), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(data=scored())
def test_roc_auc_of_several_classes(data):
    scores, true, _ = data
    cases = [("ovr", "macro"), ("ovr", "weighted"), ("ovr", None), ("ovo", "macro"), ("ovo", "weighted")]
    for multi_class, average in cases:
        options = {"multi_class": multi_class, "average": average}
        theirs = sk.roc_auc_score(true, scores, **options)
        np.testing.assert_allclose(m.roc_auc_score(scores, true, **options), theirs, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=scored(), k=st.integers(1, 3))
def test_top_k(data, k):
    scores, true, classes = data
    distinct = scores + np.linspace(0, 1e-6, scores.size).reshape(scores.shape)
    ours = m.accuracy(distinct, true, top_k=k)
    assert ours == pytest.approx(quiet(sk.top_k_accuracy_score, true, distinct, k=k, labels=range(classes)))


def test_ties_rank_the_lower_class_first_as_argmax_does():
    scores = np.array([[1.0, 1.0, 0.0]] * 2)
    assert m.accuracy(scores, [0, 1]) == 0.5
    assert m.accuracy(scores, [0, 1], top_k=2) == 1.0
    assert m.accuracy([[np.nan, 1.0, 2.0]], [0], top_k=2) == 0.0


def test_images_of_scores_count_every_pixel():
    rng = np.random.default_rng(0)
    scores, true = rng.random((2, 4, 3, 5)), rng.integers(0, 4, (2, 3, 5))
    assert m.accuracy(scores, true) == (scores.argmax(1) == true).mean()
    assert m.accuracy(scores, true, top_k=4) == 1.0
    assert m.confusion_matrix(scores, true).sum() == 30


def test_ignored_targets_do_not_count():
    predicted, true = np.array([0, 1, 1, 2]), np.array([0, 1, -100, 0])
    keep = true != -100
    for function in (m.accuracy, m.confusion_matrix):
        assert np.array_equal(function(predicted, true, ignore_index=-100), function(predicted[keep], true[keep]))
    assert m.accuracy(np.eye(3)[predicted], true, ignore_index=-100, top_k=2) == 1.0 * 2 / 3 + 1 / 3


def test_probabilities_are_cut_at_the_threshold():
    assert m.accuracy([0.2, 0.6, 0.4], [0, 1, 1]) == pytest.approx(2 / 3)
    assert m.accuracy([0.2, 0.6, 0.4], [0, 1, 1], threshold=0.3) == 1.0


STREAMED = {
    "accuracy": (lambda: m.Accuracy(), lambda p, t: m.accuracy(p, t)),
    "top 2": (lambda: m.Accuracy(top_k=2), lambda p, t: m.accuracy(p, t, top_k=2)),
    "precision": (lambda: m.Precision(average="macro"), lambda p, t: m.precision(p, t, average="macro")),
    "recall": (lambda: m.Recall(average=None), lambda p, t: m.recall(p, t, average=None)),
    "f1": (lambda: m.F1Score(average="weighted", num_classes=5), lambda p, t: m.f1_score(p, t, average="weighted")),
    "f2": (lambda: m.FBetaScore(beta=2, average="micro"), lambda p, t: m.fbeta_score(p, t, beta=2, average="micro")),
    "confusion": (lambda: m.ConfusionMatrix(5), lambda p, t: m.confusion_matrix(p, t, num_classes=5)),
    "shares": (lambda: m.ConfusionMatrix(normalize="true"), lambda p, t: m.confusion_matrix(p, t, normalize="true")),
    "roc": (lambda: m.ROCAUC(multi_class="ovo"), lambda p, t: m.roc_auc_score(p, t, multi_class="ovo")),
}


def arrays(kind):
    if kind == "numpy":
        return np.asarray
    if kind == "list":
        return lambda values: np.asarray(values).tolist()
    if kind == "rushlight":
        rushlight = pytest.importorskip("rushlight")
        if not callable(getattr(rushlight, "tensor", None)):  # a package of that name is there before the function
            pytest.skip("the tensor room is not there")
        return rushlight.tensor
    return pytest.importorskip("torch").tensor


@pytest.mark.parametrize("kind", ["numpy", "list", "torch", "rushlight"])
@pytest.mark.parametrize("name", STREAMED)
def test_batches_give_what_the_whole_gives(name, kind):
    make, whole = STREAMED[name]
    convert = arrays(kind)
    rng = np.random.default_rng(1)
    scores = rng.random((120, 5)).astype(np.float32)
    true = rng.integers(0, 5, 120)
    metric = make()
    for _ in range(2):  # again after a reset
        for start in range(0, 120, 3):  # more batches than are kept unread
            metric.update(convert(scores[start : start + 3]), convert(true[start : start + 3]))
        np.testing.assert_allclose(metric.compute(), whole(scores, true), rtol=1e-6)
        np.testing.assert_allclose(metric.compute(), whole(scores, true), rtol=1e-6)
        metric.reset()
        with pytest.raises(ValueError, match="needs at least one target"):
            metric.compute()


@pytest.mark.parametrize("kind", ["numpy", "torch", "rushlight"])
@pytest.mark.parametrize("name", STREAMED)
def test_a_reused_batch_buffer_changes_nothing(name, kind):
    make, whole = STREAMED[name]
    convert = arrays(kind)
    rng = np.random.default_rng(1)
    scores, true = rng.random((10, 5)).astype(np.float32), np.arange(10) % 5
    metric, preds, target = make(), convert(scores.copy()), convert(true.copy())
    metric.update(preds, target)
    preds[:] = 0
    target[:] = 0
    np.testing.assert_allclose(metric.compute(), whole(scores, true), rtol=1e-6)


def test_updates_with_tensors_read_values_rarely(monkeypatch):
    torch = pytest.importorskip("torch")
    from rushlight.metrics import streaming

    reads = []
    to_numpy = streaming.to_numpy
    monkeypatch.setattr(streaming, "to_numpy", lambda values: reads.append(1) or to_numpy(values))
    metric, mean = m.Accuracy(), m.Mean()
    for _ in range(20):
        metric.update(torch.rand(4, 3), torch.zeros(4, dtype=torch.int64))
        mean.update(torch.rand(()))
    assert not reads
    metric.compute()
    mean.compute()
    assert len(reads) == 60


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 9)), min_size=1, max_size=200))
def test_mean(pairs):
    values, weights = zip(*pairs)
    mean = m.Mean()
    for value, weight in pairs:
        mean.update(value, weight)
    assert mean.compute() == pytest.approx(np.average(values, weights=weights), abs=1e-9)
    mean.reset()
    mean.update(np.array([[1.0, 2.0], [3.0, 6.0]]))
    assert mean.compute() == 3.0


BAD = {
    "shapes": (lambda: m.accuracy([1, 2, 3], [1, 2]), r"\(3,\) do not fit target of shape \(2,\)"),
    "ragged": (lambda: m.accuracy([[1], [1, 2]], [1, 2]), "inhomogeneous|ragged"),
    "negative": (lambda: m.accuracy([0, 1], [0, -1]), "target must hold class numbers from 0 on, got -1"),
    "fraction": (lambda: m.accuracy([0, 1], [0.5, 1.0]), "target must hold class numbers, got 0.5"),
    "too high": (lambda: m.accuracy([0, 1], [0, 7], num_classes=3), "target holds class 7, but there are 3"),
    "beyond the scores": (lambda: m.accuracy(np.zeros((2, 3)), [0, 3]), "target holds class 3"),
    "logits": (lambda: m.accuracy([-2.5, 0.5], [0, 1]), "probabilities, in .* -2.5"),
    "nothing": (lambda: m.accuracy([], []), "no targets"),
    "top_k of labels": (lambda: m.accuracy([0, 1], [0, 1], top_k=2), "needs scores"),
    "top_k": (lambda: m.accuracy(np.zeros((2, 3)), [0, 1], top_k=4), "top_k=4 is not between 1 and the 3"),
    "complex": (lambda: m.accuracy([1j], [1]), "real numbers"),
    "average": (lambda: m.precision([0, 1], [0, 1], average="mean"), "average='mean' is none of"),
    "binary": (lambda: m.f1_score([0, 2], [0, 1]), "there is class 2; choose 'micro'"),
    "pos_label": (lambda: m.f1_score([0, 1], [0, 1], pos_label=3), "pos_label=3"),
    "beta": (lambda: m.fbeta_score([0, 1], [0, 1], beta=-1), "beta must be"),
    "normalize": (lambda: m.confusion_matrix([0, 1], [0, 1], normalize="rows"), "normalize='rows'"),
    "names": (lambda: m.classification_report([0, 1], [0, 1], target_names=["a"]), "1 target_names for 2 classes"),
    "one class": (lambda: m.roc_auc_score([0.1, 0.2], [1, 1]), "no negative targets among 2"),
    "no positives": (lambda: m.roc_curve([0.1, 0.2], [0, 0]), "no positive targets"),
    "nan": (lambda: m.roc_auc_score([0.1, np.nan], [0, 1]), "NaN"),
    "absent class": (lambda: m.roc_auc_score(np.ones((3, 4)), [0, 1, 2]), "class 3 is not defined"),
    "three classes": (lambda: m.roc_auc_score([0.1, 0.2, 0.3], [0, 1, 2]), "expected two classes in target, got 3"),
    "multi_class": (lambda: m.roc_auc_score(np.ones((3, 3)), [0, 1, 2], multi_class="all"), "multi_class='all'"),
    "ovo none": (
        lambda: m.roc_auc_score(np.ones((3, 3)), [0, 1, 2], multi_class="ovo", average=None), "average=None is not",
    ),
    "auc order": (lambda: m.auc([0, 1, 0.5], [0, 1, 1]), "neither rises nor falls"),
    "auc shape": (lambda: m.auc([0], [0]), "two or more points"),
    "streaming shapes": (lambda: m.Accuracy().update([1, 2, 3], [1, 2]), "do not fit"),
    "streaming top_k": (lambda: m.Accuracy(top_k=0), "top_k must be"),
    "streaming average": (lambda: m.Precision(average="mean"), "average='mean'"),
    "streaming normalize": (lambda: m.ConfusionMatrix(normalize="rows"), "normalize='rows'"),
    "mean of nothing": (lambda: m.Mean().compute(), "at least one value"),
    "mean weight": (lambda: m.Mean().update(1.0, -1), "weight must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_failed_update_leaves_the_stream_usable():
    metric = m.Accuracy(num_classes=2)
    metric.update([0, 1], [0, 1])
    with pytest.raises(ValueError, match="class 5"):
        metric.update([0, 1], [0, 5])
    assert metric.compute() == 1.0
