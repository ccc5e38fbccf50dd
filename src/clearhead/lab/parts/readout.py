"""What can be read from vectors: a small classifier, trained on all of them at once."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def readout(vectors: Tensor, labels: Tensor, seed: int, *, inner: int = 0, updates: int = 300) -> float:
    """Accuracy on the second half of a classifier that is trained on the first.

    Args:
        vectors: (examples, features), float32.
        labels: (examples,) int64.
        seed: of the initial weights.
        inner: width of a hidden layer with ReLU; 0 = a linear classifier.
        updates: of Adam, on all examples.
    """
    torch.manual_seed(seed)
    half, classes = len(vectors) // 2, int(labels.max()) + 1
    wide = inner or vectors.shape[1]
    below = nn.Sequential(nn.Linear(vectors.shape[1], inner), nn.ReLU()) if inner else nn.Identity()
    classifier = nn.Sequential(below, nn.Linear(wide, classes))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.03)
    for _ in range(updates):
        optimizer.zero_grad()
        F.cross_entropy(classifier(vectors[:half]), labels[:half]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        said = classifier(vectors[half:]).argmax(dim=-1)
    return float((said == labels[half:]).float().mean())
