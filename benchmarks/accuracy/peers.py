"""What people do without a network: the first cepstral coefficients, their changes and their moments, and a support vector machine."""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from models.audio import fit_clip, from_pcm16
from models.config import FeatureConfig
from models.dataset import PackedDataset
from models.features import clip_samples, log_mel

_COEFFICIENTS = 20
_STRETCHES = 4  # of the clip: where in it something sounds matters, a mean over all of it would forget that
_FEATURES = FeatureConfig(clip_seconds=1.0, hop_ms=10.0)


def mfcc_svm(dataset: PackedDataset, train: NDArray[np.int64], measured: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return predicted label numbers for `measured`, by an RBF machine whose C and gamma come from cross-validation on `train`."""
    labels = np.asarray(dataset.item_labels)
    vectors = np.stack([_vector(dataset, int(index)) for index in np.concatenate([train, measured])])
    machine = make_pipeline(StandardScaler(), SVC(cache_size=500))
    folds = min(3, int(np.bincount(labels[train]).min()))
    if folds > 1:
        grid = {"svc__C": [1, 10, 100], "svc__gamma": ["scale", 1e-3, 3e-3]}
        machine = GridSearchCV(machine, grid, cv=folds)
    machine.fit(vectors[: len(train)], labels[train])
    predicted: NDArray[np.int64] = machine.predict(vectors[len(train) :])
    return predicted


def _vector(dataset: PackedDataset, index: int) -> NDArray[np.float64]:
    clip = fit_clip(from_pcm16(dataset.item(index)), clip_samples(_FEATURES))
    cepstra = dct(log_mel(clip[None], _FEATURES)[0], axis=0, norm="ortho")[:_COEFFICIENTS]
    parts = np.array_split(np.concatenate([cepstra, np.gradient(cepstra, axis=1)]), _STRETCHES, axis=1)
    return np.concatenate([moment for part in parts for moment in (part.mean(axis=1), part.std(axis=1))])
