"""The inner loop of a simulation: copula coordinates in, the book's value bar by bar and its deepest fall out.

Compiled by numba at its first call (about two seconds). Single precision: the sampling error is 1,000 times larger.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Singles = NDArray[np.float32]


@njit(fastmath=True, nogil=True)
def _unit(
    sign: np.float32,
    normal: Singles,
    scale: Singles,
    h: Singles,
    price: Singles,
    value: Singles,
    table: Any,
    law: Any,
    room: Any,
) -> None:  # pragma: no cover - compiled
    """One bar of one unit on all paths. In three passes, so that all but the look-up runs on vector registers."""
    cell, rest, x = room
    levels, steps = table
    weight, omega, alpha, beta = law
    unity, two, half = np.float32(1), np.float32(2), np.float32((levels.size - 1) / 2)
    for j in range(h.size):
        t = sign * normal[j] * scale[j]
        place = (t / (two + abs(t)) + unity) * half
        k = np.int32(place)
        cell[j] = k
        rest[j] = place - np.float32(k)
    for j in range(h.size):
        c = np.uint32(cell[j])
        x[j] = levels[c] + rest[j] * steps[c]
    for j in range(h.size):
        shock, variance = x[j], h[j]
        moved = price[j] * (unity + max(np.sqrt(variance) * shock, -unity))  # nothing loses more than all of it
        price[j] = moved
        h[j] = omega + variance * (beta + alpha * shock * shock)
        value[j] += weight * moved


@njit(fastmath=True, nogil=True)
def walk(
    normals: Singles, scales: Singles, h: Singles, price: Singles, equity: Singles, tables: Any, law: Any
) -> None:  # pragma: no cover - compiled
    """Move all paths on by some bars.

    Parameters
    ----------
    normals : ndarray of shape (N, bars x drawn)
        Correlated, those of a bar side by side.
    scales : ndarray of shape (bars, drawn)
        sqrt(dof / chi2) of the bar; ones for a Gaussian copula. With twice as many paths as are drawn the second half
        are the mirror images of the first.
    h, price : ndarray of shape (N, paths)
        Conditional variance and price over today's; both move on.
    equity : ndarray of shape (bars, paths)
        The value of the book after each bar; must hold its cash.
    tables : (levels, steps), each of shape (N, cells + 1)
    law : (weights, omega, alpha, beta), each of shape (N,)
    """
    bars, drawn = scales.shape
    signs = (np.float32(1), np.float32(-1))
    levels, steps = tables
    weights, omega, alpha, beta = law
    room = (np.empty(drawn, np.int32), np.empty(drawn, np.float32), np.empty(drawn, np.float32))
    for d in range(bars):
        for i in range(h.shape[0]):
            row = (levels[i], steps[i])
            own = (weights[i], omega[i], alpha[i], beta[i])
            normal = normals[i, d * drawn : (d + 1) * drawn]
            for side in range(h.shape[1] // drawn):
                part = slice(side * drawn, (side + 1) * drawn)
                _unit(signs[side], normal, scales[d], h[i, part], price[i, part], equity[d, part], row, own, room)


@njit(nogil=True)
def look_up(coordinates: Singles, levels: Singles, steps: Singles) -> Singles:  # pragma: no cover - compiled
    """The table's value at each of the coordinates, shape (n,)."""
    values = np.empty_like(coordinates)
    unity, two, half = np.float32(1), np.float32(2), np.float32((levels.size - 1) / 2)
    for j in range(coordinates.size):
        t = coordinates[j]
        place = (t / (two + abs(t)) + unity) * half
        k = np.uint32(np.int32(place))
        values[j] = levels[k] + (place - np.float32(k)) * steps[k]
    return values
