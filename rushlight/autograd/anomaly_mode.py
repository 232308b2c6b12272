"""``torch.autograd.anomaly_mode``: looking for what makes a backward fail, by its older place."""
from .anomaly import detect_anomaly, set_detect_anomaly

__all__ = ["detect_anomaly", "set_detect_anomaly"]
