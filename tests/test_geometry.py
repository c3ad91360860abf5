from __future__ import annotations

import pytest

from ctxe_lib.geometry import Geometry


def test_the_papers_sizes():
    g = Geometry()
    assert (g.length, g.bins, g.frames) == (5120, 257, 40)
    assert (g.context_frames, g.gap_frames, g.stripped_frames) == (16, 11, 13)
    assert (g.before_frames, g.touched_frames, g.after_frames) == (slice(2, 18), slice(15, 26), slice(23, 39))
    assert g.scored_frames == slice(18, 23)
    assert g.gap_seconds == 0.064 and g.seconds == 0.32


@pytest.mark.parametrize(
    ("gap", "scored"),
    [(768, slice(18, 21)), (512, slice(18, 19)), (384, slice(17, 19)), (128, slice(16, 18)), (256, slice(17, 18))],
)
def test_scored_frames_of_other_gaps(gap, scored):
    g = Geometry(gap=gap)
    assert g.scored_frames == scored
    middle = (2 * g.context + g.gap) / (2 * g.hop)
    assert (scored.start + scored.stop - 1) / 2 == middle


@pytest.mark.parametrize(
    "sizes",
    [{}, {"gap": 768}, {"gap": 128}, {"context": 4096}, {"window": 256, "hop": 64}, {"window": 1024, "hop": 128}],
)
def test_touched_frames_are_those_that_overlap_the_gap(sizes):
    g = Geometry(**sizes)
    half = g.window // 2
    overlapping = [n for n in range(g.frames) if n * g.hop + half > g.context and n * g.hop - half < g.context + g.gap]
    assert overlapping == list(range(g.touched_frames.start, g.touched_frames.stop))
    assert g.gap_frames == len(overlapping)
    assert g.stripped_frames + g.before_frames.start == g.touched_frames.start
    assert g.frames - g.touched_frames.stop - (g.frames - g.after_frames.stop) == g.stripped_frames


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ({"window": 500}, "window=500"),
        ({"window": 384}, "window=384"),
        ({"gap": 1000}, "gap=1000"),
        ({"context": 2000}, "context=2000"),
        ({"context": 256}, "context=256"),
        ({"hop": 0}, "hop=0"),
        ({"gap": 1024.5}, "gap=1024.5"),
        ({"sample_rate": -1}, "sample_rate=-1"),
        ({"gap": True}, "gap=True"),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes, word):
    with pytest.raises(ValueError, match=word):
        Geometry(**sizes)
