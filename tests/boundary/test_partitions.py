"""Partitions: Voronoi against a scan of lines, edges against linear programmes, weights against what they must be."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from tightrope import line_scan, margins, partitions


def draw(n, dim, seed=0, classes=3):
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(n, dim, generator=g, dtype=torch.float64)
    return points, torch.arange(n) % classes


# --- Voronoi ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_voronoi_classifier_answers_with_the_nearest_point(dtype):
    points, labels = draw(40, 3)
    v = partitions.voronoi(points.to(dtype), labels)
    x = 2 * draw(200, 3, seed=1)[0].to(dtype)
    far = (x[:, None] - v.points).norm(dim=2)
    assert torch.equal(v.nearest(x), far.argmin(1))
    assert torch.equal(v(x).argmax(1), labels[far.argmin(1)])
    expected = torch.stack([-(far[:, labels == c].amin(1) ** 2) / 2 for c in range(3)], 1)
    torch.testing.assert_close(v(x), expected)


def test_two_points_are_half_their_distance_from_the_boundary():
    points = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]], dtype=torch.float64)
    v = partitions.voronoi(points, torch.tensor([0, 1]))
    x = torch.tensor([[0.3, 1, 0], [1.8, 0, -2]], dtype=torch.float64)
    torch.testing.assert_close(margins.deepfool(v, x).norm[:, 0], (x[:, 0] - 1).abs(), rtol=1e-6, atol=1e-9)


def share_a_ball(points, one, other):
    """Is there a centre as far from both as from no other point less? A linear programme for the most room."""
    p, q = points[one], points[other]
    rest = np.delete(points, [one, other], axis=0)
    room = lambda r: np.append(2 * (r - p), 1.0)  # 2⟨r − p, c⟩ + room ≤ ‖r‖² − ‖p‖²
    even = np.append(2 * (q - p), 0.0)
    found = linprog(
        np.append(np.zeros(len(p)), -1.0),
        A_ub=np.array([room(r) for r in rest]),
        b_ub=[r @ r - p @ p for r in rest],
        A_eq=even[None],
        b_eq=[q @ q - p @ p],
        bounds=[(None, None)] * len(p) + [(None, 1.0)],
    )
    return found.status == 0 and -found.fun > 1e-9


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("sets", [1, pytest.param(100, marks=pytest.mark.long)])
def test_edges_are_the_pairs_that_share_an_empty_ball(sets, dim):
    pairs = torch.combinations(torch.arange(14))
    for seed in range(sets):
        points, _ = draw(14, dim, seed)
        shared = torch.tensor([share_a_ball(points.numpy(), *pair) for pair in pairs.tolist()])
        assert torch.equal(partitions.edges(points), pairs[shared])


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_a_segment_crosses_the_faces_that_a_scan_finds(dim):
    points, labels = draw(25, dim, dim)
    v = partitions.voronoi(points, labels)
    pairs = torch.combinations(torch.arange(25))
    p = partitions.passages(v, pairs)
    start, u = points[pairs[:, 0]], points[pairs[:, 1]] - points[pairs[:, 0]]
    scan = line_scan.changes(v, start, u, reach=(0.0, 1.0), step=1e-3)
    # A scan may miss two changes within a step.
    apart = torch.diff(torch.where(p.mask, p.t, 2 + torch.arange(p.t.shape[1])), dim=1)
    seen = apart.amin(1) > 2e-3 if apart.shape[1] else torch.ones(len(pairs), dtype=torch.bool)
    assert seen.float().mean() > 0.9
    assert torch.equal(p.mask[seen].sum(1), scan.mask[seen].sum(1))
    for row in seen.nonzero()[:, 0].tolist():
        torch.testing.assert_close(p.t[row][p.mask[row]], scan.t[row][scan.mask[row]], rtol=0, atol=1e-8)
        assert torch.equal(labels[p.face[row, :, 0]][p.mask[row]], scan.before[row][scan.mask[row]])
        assert torch.equal(labels[p.face[row, :, 1]][p.mask[row]], scan.after[row][scan.mask[row]])


@pytest.mark.parametrize("dim", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("sets", [2, pytest.param(100, marks=pytest.mark.long)])
def test_a_crossing_is_as_far_from_its_faces_two_points_and_from_no_other_less(sets, dim):
    """Over all pairs, Delaunay's neighbours among them, of that many random sets."""
    for seed in range(sets):
        points, labels = draw(40, dim, seed + 7)
        all_crossings(points, labels, torch.combinations(torch.arange(40)))


def all_crossings(points, labels, pairs):
    p = partitions.passages(partitions.voronoi(points, labels), pairs)
    row, column = p.mask.nonzero().T
    u = points[pairs[:, 1]] - points[pairs[:, 0]]
    at = points[pairs[row, 0]] + p.t[row, column, None] * u[row]
    far = torch.cdist(at, points, compute_mode="donot_use_mm_for_euclid_dist")
    both = far.gather(1, p.face[row, column])
    torch.testing.assert_close(both[:, 0], both[:, 1], rtol=1e-10, atol=1e-10)
    assert (both[:, 0] <= far.amin(1) + 1e-10).all()
    normal = points[p.face[row, column, 1]] - points[p.face[row, column, 0]]
    cosine = torch.cosine_similarity(normal, u[row], dim=1)
    torch.testing.assert_close(p.angle[row, column].cos(), cosine, rtol=1e-9, atol=1e-9)
    own = p.own.nonzero()[:, 0]
    assert len(own) > 10
    torch.testing.assert_close(p.t[own, 0], torch.full((len(own),), 0.5, dtype=torch.float64))
    assert p.angle[own, 0].max() < 1e-7
    middle = (points[pairs[own, 0]] + points[pairs[own, 1]]) / 2
    near = torch.cdist(middle, points).topk(2, largest=False).indices.sort(1).values
    assert torch.equal(near, pairs[own])


def test_a_segment_within_a_class_may_cross_nothing():
    points = torch.tensor([[0.0, 0], [1, 0], [2, 0], [0, 5]], dtype=torch.float64)
    v = partitions.voronoi(points, torch.tensor([0, 0, 0, 1]))
    p = partitions.passages(v, torch.tensor([[0, 2], [0, 3]]))
    assert p.mask.sum(1).tolist() == [0, 1]
    assert p.own.tolist() == [False, True]
    assert p.t[1, 0].item() == 0.5
    assert p.t[0, 0].item() == math.inf


# --- Delaunay -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_weights_hold_the_point_or_the_hulls_nearest_one(dim):
    points, _ = draw(30, dim, dim)
    d = partitions.delaunay(points, torch.arange(30))  # a class a point: the weights are the coordinates
    x = torch.cat([0.4 * draw(60, dim, 1)[0], 4 * draw(60, dim, 2)[0]])
    weights = d(x)
    torch.testing.assert_close(weights.sum(1), torch.ones(120, dtype=torch.float64))
    assert weights.min() >= -1e-9
    assert ((weights > 1e-9).sum(1) <= dim + 1).all()
    rest = x - weights @ points
    inside = rest.norm(dim=1) < 1e-8
    assert 10 < inside.sum() < 110
    # Nearest: no point of the set lies further in the direction of what is left.
    ahead = ((points[None] - (weights @ points)[:, None]) * rest[:, None]).sum(2)
    assert ahead.max() < 1e-7 * rest.norm(dim=1).max()
    torch.testing.assert_close(d(points), torch.eye(30, dtype=torch.float64), rtol=0, atol=1e-9)
    pairs = partitions.edges(points)
    longest = (points[pairs[:, 0]] - points[pairs[:, 1]]).norm(dim=1).max().item()
    assert d.longest == pytest.approx(longest, rel=1e-12)


def test_weights_are_added_up_over_a_class_and_keep_their_precision():
    points, labels = draw(50, 2)
    every = partitions.delaunay(points, torch.arange(50))
    d = partitions.delaunay(points.float(), labels)
    x = 0.5 * draw(80, 2, 3)[0]
    one_hot = torch.nn.functional.one_hot(labels, 3).double()
    assert d(x.float()).dtype == torch.float32
    torch.testing.assert_close(d(x.float()).double(), every(x) @ one_hot, rtol=0, atol=1e-4)


# --- what is refused ----------------------------------------------------------------------------------------

SQUARE = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: partitions.voronoi(SQUARE, LABELS[:2]), "labels must be an int64 tensor"),
        (
            lambda: partitions.voronoi(SQUARE, torch.zeros(4, dtype=torch.int64)),
            "labels must be of two classes",
        ),
        (lambda: partitions.voronoi(SQUARE, LABELS * 2), "labels must be of two classes"),
        (lambda: partitions.voronoi(SQUARE, LABELS - 1), "labels must be of two classes"),
        (lambda: partitions.voronoi(SQUARE[[0, 1, 2, 0]], LABELS), "points must differ: 1 of them"),
        (lambda: partitions.voronoi(SQUARE * math.nan, LABELS), "points must be a finite real tensor"),
        (lambda: partitions.voronoi(SQUARE, LABELS)(SQUARE.float()), "x must be a real tensor"),
        (lambda: partitions.edges(SQUARE[[0, 1, 2, 0]]), "points must differ: 1 of them"),
        (
            lambda: partitions.edges(SQUARE[:2]),
            "points must be 3 at least to be triangulated in 2 dimensions, not 2",
        ),
        (
            lambda: partitions.edges(torch.eye(9, dtype=torch.float64)),
            "points must have 2 to 8 dimensions",
        ),
        (lambda: partitions.edges(torch.arange(10.0).reshape(5, 2)), "points must span their 2 dimensions"),
        (
            lambda: partitions.delaunay(torch.arange(8.0).reshape(4, 2), LABELS),
            "points must span their 2 dimensions",
        ),
        (
            lambda: partitions.passages(partitions.voronoi(SQUARE, LABELS), torch.tensor([[0, 4]])),
            "pairs must hold rows of the points, from 0 to 3",
        ),
        (
            lambda: partitions.passages(partitions.voronoi(SQUARE, LABELS), torch.tensor([[1, 1]])),
            "pairs must be of two points",
        ),
    ],
)
def test_what_is_no_partition_is_refused(call, says):
    with pytest.raises(ValueError, match=rf"^{says}.*\.$"):
        call()
