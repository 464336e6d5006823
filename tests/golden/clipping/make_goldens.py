"""Writes goldens.safetensors: which clipping a numpy program of its own finds for small weights.

usage: make_goldens.py OUT

Of each case: <case>.weight f32 [rows, cols], <case>.inputs f32 [tokens, cols], <case>.steps u8 [rows, tiles of a row], <case>.errors f64 [2], the sums
over the tiles of their errors without and with it, and <case>.clipped f32, the weight that fold leaves. Ranges, scales and codes are computed in f32 as
docs/rounding.md says, errors in f64 as Golden Stick and llm-awq define them:

    step(row, tile) = first argmin over i < 10 of mean over tokens of (sum over the tile of x q(clamp(w, +- (1 - i / 20) absmax)) - sum of x w)^2

A case is refused if two candidates of a tile are within 1e-4 of each other and not equal: products in f32 may order those either way.
"""
import sys

import numpy as np
from safetensors.numpy import save_file

f32 = np.float32


def quantized(w, bits, symmetric, ascend):
    """w: one tile, f32."""
    low, high = min(w.min(), f32(0)), max(w.max(), f32(0))
    qmin, qmax = f32(-(2 ** (bits - 1))), f32(2 ** (bits - 1) - 1)
    steps = qmax - qmin

    def positive(s):
        if ascend:
            return max(s, f32(2.0**-23))
        return s if s > 0 else np.finfo(f32).eps

    if symmetric:
        s, z = positive(max(-low, high) / (qmax if ascend else steps / f32(2))), f32(0)
    elif ascend:
        s = positive(high / steps - low / steps)
        z = np.clip(np.rint(-low / s) + qmin, qmin, qmax)
    else:
        s = positive((high - low) / steps)
        z = np.rint(np.clip(qmin - low / s, qmin, qmax))
    q = np.rint(np.clip(w / s + z, qmin, qmax))
    out = (q - z) * s
    assert out.dtype == f32
    return out


def clamped(w, i):
    limit = f32(1 - i / 20) * np.abs(w).max()
    return np.clip(w, -limit, limit)


def solve(w, x, group, bits, symmetric, ascend):
    tiles = -(-w.shape[1] // group)
    steps, after, total = np.zeros((w.shape[0], tiles), np.uint8), w.copy(), np.zeros(2)
    for r in range(w.shape[0]):
        for t in range(tiles):
            at = slice(t * group, min(w.shape[1], (t + 1) * group))
            tile, xs = w[r, at], x[:, at].astype(np.float64)
            exact = xs @ tile.astype(np.float64)
            errors = np.array([np.mean((xs @ quantized(clamped(tile, i), bits, symmetric, ascend).astype(np.float64) - exact) ** 2) for i in range(10)])
            best = int(np.argmin(errors))
            others = np.delete(errors, best)
            assert np.all((others == errors[best]) | (others > errors[best] * (1 + 1e-4))), "a near tie: change the seed"
            steps[r, t] = best
            after[r, at] = clamped(tile, best)
            total += errors[0], errors[best]
    return steps, after, total


out = {}
cases = [  # name, rows, cols, tokens, group, bits, symmetric, ascend
    ("int4_g16_symmetric", 12, 64, 40, 16, 4, True, False),
    ("int4_g16_asymmetric", 12, 64, 40, 16, 4, False, False),
    ("int4_g24_last_tile_smaller", 10, 64, 40, 24, 4, True, True),
    ("int4_channel_asymmetric_ascend", 10, 48, 20, 48, 4, False, True),
    ("int3_channel_few_tokens", 8, 72, 16, 72, 3, True, True),
    ("int4_one_token", 6, 32, 1, 8, 4, True, False),
]
for n, (name, rows, cols, tokens, group, *spec) in enumerate(cases):
    for attempt in range(100):
        rng = np.random.default_rng(1000 * n + attempt)
        w = (rng.standard_normal((rows, cols)) * 0.02).astype(f32)
        x = rng.standard_normal((tokens, cols)).astype(f32)
        w[1, :: max(1, group // 2)] *= 6  # outliers
        x[:, 3] *= 8
        w[2] = 0
        w[3] = f32(0.25)
        w[4] = np.abs(w[4])
        x[:, -1] = 0
        try:
            steps, after, total = solve(w, x, group, *spec)
            break
        except AssertionError as near:
            assert "near tie" in str(near)
    else:
        raise SystemExit(name + ": only near ties")
    print(name, "attempt", attempt, "steps", np.bincount(steps.ravel(), minlength=10), "error", total[1] / total[0])
    out |= {name + ".weight": w, name + ".inputs": x, name + ".steps": steps, name + ".errors": total, name + ".clipped": after}
save_file(out, sys.argv[1])
