"""Digits: patches against loops, splits without overlap, a clear word where scikit-learn is missing."""

import pytest
import torch

from clearhead.core.errors import ConfigError
from clearhead.data.synthetic import Digits
from clearhead.data.synthetic.digits import patches

datasets = pytest.importorskip("sklearn.datasets")


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_patches_go_row_by_row(side):
    images = torch.arange(3 * 64).view(3, 8, 8)
    cut = patches(images, side)
    place = 0
    for top in range(0, 8, side):
        for left in range(0, 8, side):
            expected = [images[1, top + y, left + x].item() for y in range(side) for x in range(side)]
            assert cut[1, place].tolist() == expected
            place += 1
    assert cut.shape == (3, place, side * side)


def test_every_picture_is_in_one_split_with_its_label():
    bundled = datasets.load_digits()
    labels = {image.tobytes(): int(label) for image, label in zip(bundled.images / 16, bundled.target, strict=True)}
    train, test = (Digits(split=split, patch=8).all() for split in ("train", "test"))
    assert (len(train), len(test)) == (1_437, 360)
    seen = torch.cat((train.tokens, test.tokens)).double().view(-1, 8, 8).numpy()
    for image, label in zip(seen, torch.cat((train.labels, test.labels)).tolist(), strict=True):
        assert labels[image.tobytes()] == label
    assert {image.tobytes() for image in seen} == labels.keys()


def test_pictures_that_are_not_cut_are_what_the_embedding_reads():
    whole, cut = Digits(patch=None).all(), Digits(patch=2).all()
    assert whole.tokens.shape == (1_437, 1, 8, 8)
    assert torch.equal(patches(whole.tokens[:, 0], 2), cut.tokens)


def test_both_splits_have_all_digits_about_equally():
    for split, count in (("train", 1_437), ("test", 360)):
        shares = Digits(split=split).labels.bincount() / count
        torch.testing.assert_close(shares, torch.full((10,), 0.1), rtol=0, atol=0.03)


def test_fewer_pictures_are_the_beginning_of_more():
    few, many = Digits(pictures=50), Digits(pictures=200)
    assert torch.equal(few.tokens, many.tokens[:50])
    drawn = few.draw(3_000, torch.Generator().manual_seed(1)).tokens
    assert len(torch.unique(drawn, dim=0)) == 50
    with pytest.raises(ConfigError, match="pictures"):
        Digits(split="test", pictures=361)
