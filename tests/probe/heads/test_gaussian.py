"""The space of the heads: how much each part of the features weighs in a distance."""

from __future__ import annotations

import numpy as np

from miniclip.probe.heads.gaussian import Space, gaussian, squared_distances, weighted_kernels


def test_later_parts_weigh_half_as_much_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    sizes, scales = (40, 7, 90), (1.0, 300.0, 0.01)
    features = np.hstack(
        [
            scale * rng.standard_normal((200, size))
            for size, scale in zip(sizes, scales, strict=True)
        ]
    ).astype(np.float32)

    placed = Space.of(features, sizes).place(features)

    parts = np.split(placed, np.cumsum(sizes)[:-1], axis=1)
    weights = [squared_distances(part, part).mean() / 2 for part in parts]
    np.testing.assert_allclose(weights, [1, 0.5, 0.5], rtol=1e-3)
    np.testing.assert_allclose(placed.mean(axis=0), 0, atol=1e-5)


def test_features_without_parts_are_one_part() -> None:
    features = np.random.default_rng(1).random((50, 9), dtype=np.float32)

    one, other = Space.of(features), Space.of(features, (9,))

    np.testing.assert_array_equal(one.scale, other.scale)
    assert len(np.unique(one.scale)) == 1


def test_a_part_that_never_moves_does_no_harm() -> None:
    features = np.hstack([np.random.default_rng(2).random((20, 3)), np.full((20, 2), 7.0)])

    placed = Space.of(features.astype(np.float32), (3, 2)).place(features.astype(np.float32))

    assert np.isfinite(placed).all()
    np.testing.assert_allclose(placed[:, 3:], 0, atol=1e-5)


def test_kernels_in_blocks_equal_the_formula() -> None:
    rng = np.random.default_rng(3)
    rows, support = (rng.standard_normal((n, 5)).astype(np.float32) for n in (30, 8))
    weights = rng.standard_normal((8, 3))

    naive = [[np.exp(-0.3 * np.sum((row - other) ** 2)) for other in support] for row in rows]

    np.testing.assert_allclose(gaussian(rows, support, 0.3), naive, atol=1e-5)
    np.testing.assert_allclose(
        weighted_kernels(rows, support, weights, 0.3), np.array(naive) @ weights, atol=1e-4
    )
