"""Measures of classifiers: functions over whole arrays, and streaming classes that take batch after batch.

Everything takes Tensors, NumPy arrays or lists, predictions first: `accuracy(preds, target)`. Numbers come back as
Python floats, tables as NumPy arrays, and agree with scikit-learn's.

    >>> accuracy([0, 2, 1, 1], [0, 1, 1, 1])
    0.75
    >>> confusion_matrix([0, 2, 1, 1], [0, 1, 1, 1]).tolist()
    [[1, 0, 0], [0, 2, 1], [0, 0, 0]]
"""

from .classification import (
    accuracy,
    confusion_matrix,
    f1_score,
    fbeta_score,
    precision,
    precision_recall_fscore_support,
    recall,
)
from .ranking import auc, roc_auc_score, roc_curve
from .report import classification_report
from .streaming import ROCAUC, Accuracy, ConfusionMatrix, F1Score, FBetaScore, Mean, Metric, Precision, Recall

__all__ = [
    "ROCAUC",
    "Accuracy",
    "ConfusionMatrix",
    "F1Score",
    "FBetaScore",
    "Mean",
    "Metric",
    "Precision",
    "Recall",
    "accuracy",
    "auc",
    "classification_report",
    "confusion_matrix",
    "f1_score",
    "fbeta_score",
    "precision",
    "precision_recall_fscore_support",
    "recall",
    "roc_auc_score",
    "roc_curve",
]
