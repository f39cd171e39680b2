"""Fit of the place of each peak's light on the host: one peak after the other, so that none sees another."""

import math

import numpy as np

from dmsim.reconstruction.host.jit import njit

_CONVERGED = 1e-6  # squared length of a step in standard deviations: 0.001 of one
_BRIGHT = 0.1  # of the brightest sensor's area: those that choose where a fit starts
_STIFFER, _LOOSER = 8.0, 0.25  # change of the damping after a step that failed, and that did not


@njit(cache=True, nogil=True)
def _spline(t, weights, slopes):
    """Weights of the four cubic B-splines at t in [0, 1] between the inner two, and their slopes."""
    u = 1 - t
    weights[0] = u * u * u / 6
    weights[1] = (3 * t * t * t - 6 * t * t + 4) / 6
    weights[2] = (3 * u * u * u - 6 * u * u + 4) / 6
    weights[3] = t * t * t / 6
    slopes[0] = -u * u / 2
    slopes[1] = (3 * t * t - 4 * t) / 2
    slopes[2] = (4 * u - 3 * u * u) / 2
    slopes[3] = t * t / 2


@njit(cache=True, nogil=True)
def _read(splines, low, step, x, y, sensors, n, out):
    """Log share and its slopes along x and y of n sensors, at a place. `out` is [3, sensor]."""
    nodes = splines.shape[0]
    px, py = (x - low) / step, (y - low) / step
    i = min(max(int(math.floor(px)), 1), nodes - 3)
    j = min(max(int(math.floor(py)), 1), nodes - 3)
    wx, sx, wy, sy = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    _spline(px - i, wx, sx)
    _spline(py - j, wy, sy)
    for s in range(n):
        out[0, s] = 0.0
        out[1, s] = 0.0
        out[2, s] = 0.0
    everyone = n == splines.shape[2]  # in order then: read without looking up, which is faster
    for b in range(4):
        for a in range(4):
            value, along_x, along_y = wy[b] * wx[a], wy[b] * sx[a] / step, sy[b] * wx[a] / step
            row = splines[j - 1 + b, i - 1 + a]
            if everyone:
                for s in range(n):
                    out[0, s] += value * row[s]
                    out[1, s] += along_x * row[s]
                    out[2, s] += along_y * row[s]
            else:
                for s in range(n):
                    here = row[sensors[s]]
                    out[0, s] += value * here
                    out[1, s] += along_x * here
                    out[2, s] += along_y * here


@njit(cache=True, nogil=True)
def _photons(area, mu, weight, most, step_pe):
    """Log of sum_k mu^k f_k(A) / k!, and the mean number of photons that it implies."""
    place = area / step_pe
    row = min(int(place), weight.shape[0] - 2)
    share = place - row
    total, counted = 0.0, 0.0
    for k in range(most[row + 1], 0, -1):
        w = (1 - share) * weight[row, k] + share * weight[row + 1, k]
        total = total * mu + w
        counted = counted * mu + k * w
    total = max(total * mu, 1e-300)
    return math.log(total), counted * mu / total


@njit(cache=True, nogil=True)
def _likelihood(area, expected, pattern, n, charge_pe, excess, weight, most, step_pe, table_pe, out):
    """Log likelihood of the lit sensors; slope and information about it into `out` (5 numbers).

    Sensors without light add -expected less what the others hold of it, which is constant or small: only
    that of the crowded ones depends on the place.
    """
    value = 0.0
    for i in range(5):
        out[i] = 0.0
    for s in range(n):
        mu = expected * math.exp(pattern[0, s])
        if area[s] < table_pe:
            one, photons = _photons(area[s], mu, weight, most, step_pe)
            value += one
            slope = photons
        else:
            photons = area[s] / charge_pe / excess
            held = (1 - 1 / excess) * mu
            value += photons * (math.log(expected) + pattern[0, s]) + held
            slope = photons + held
        out[0] += slope * pattern[1, s]
        out[1] += slope * pattern[2, s]
        out[2] += photons * pattern[1, s] * pattern[1, s]
        out[3] += photons * pattern[1, s] * pattern[2, s]
        out[4] += photons * pattern[2, s] * pattern[2, s]
    # the shares' mean slope over all light is zero: what the lit ones have too much of it is no information
    return value


@njit(cache=True, nogil=True)
def _move(state, x, y, radius, damping):
    """Step of damped scoring, along the wall if the likelihood pulls outwards there; its squared length."""
    gx, gy, a, b, c = state[0], state[1], state[2], state[3], state[4]
    r = math.sqrt(x * x + y * y)
    if r >= radius * (1 - 1e-9) and gx * x + gy * y > 0:
        tx, ty = -y / r, x / r
        along = max(tx * tx * a + 2 * tx * ty * b + ty * ty * c, 1e-30) * (1 + damping)
        length = (tx * gx + ty * gy) / along
        return length * tx, length * ty, length * length * along
    floor = 1e-9 * (a + c) + 1e-30
    a, c = a * (1 + damping) + floor, c * (1 + damping) + floor
    determinant = max(a * c - b * b, 1e-60)
    dx, dy = (c * gx - b * gy) / determinant, (a * gy - b * gx) / determinant
    return dx, dy, dx * gx + dy * gy


@njit(cache=True, nogil=True)
def _start(area, sensors, n, start_log_share):
    """Number of the starting place where the bright sensors' light is most likely."""
    brightest, n_bright = 0.0, 0
    for s in range(n):
        brightest = max(brightest, area[s])
    bright, share = np.empty(n, np.int64), np.empty(n, np.float32)
    for s in range(n):
        if area[s] >= _BRIGHT * brightest:
            bright[n_bright], share[n_bright] = sensors[s], area[s] / brightest
            n_bright += 1
    best, chosen = -np.inf, 0
    for place in range(start_log_share.shape[0]):
        row = start_log_share[place]
        value = 0.0
        for s in range(n_bright):
            value += share[s] * row[bright[s]]
        if value > best:
            best, chosen = value, place
    return chosen


@njit(cache=True, nogil=True)
def _quality(areas, expected, x, y, light, everyone, pattern, charge, tables, out):
    """Covariance and misfit at a place, from all live sensors, into out[2:6]."""
    splines, low, step = light
    charge_pe, excess, step_pe, table_pe, least_pe = charge
    weight, most, saturated, log_mu, information, deviance, variance = tables
    n = len(everyone)
    _read(splines, low, step, x, y, everyone, n, pattern)
    per_mu = 1 / (log_mu[1] - log_mu[0])
    top = len(log_mu) - 2
    a, b, c, excess_deviance, spread = 0.0, 0.0, 0.0, 0.0, 0.0
    for s in range(n):
        log_m = math.log(expected) + pattern[0, s]
        mu = math.exp(log_m)
        place = min(max((log_m - log_mu[0]) * per_mu, 0.0), top + 1.0)
        row = min(int(place), top)
        share = place - row
        factor = mu * ((1 - share) * information[row] + share * information[row + 1])
        a += factor * pattern[1, s] * pattern[1, s]
        b += factor * pattern[1, s] * pattern[2, s]
        c += factor * pattern[2, s] * pattern[2, s]
        few = min(1.0, mu / math.exp(log_mu[0]))  # below the table both go as mu
        spread += few * ((1 - share) * variance[row] + share * variance[row + 1])
        excess_deviance -= few * ((1 - share) * deviance[row] + share * deviance[row + 1])
        area = areas[s]
        if area < least_pe:
            excess_deviance += 2 * mu
        elif area < table_pe:
            at = area / step_pe
            k = min(int(at), len(saturated) - 2)
            best = (1 - (at - k)) * saturated[k] + (at - k) * saturated[k + 1]
            excess_deviance += 2 * (best - _photons(area, mu, weight, most, step_pe)[0] + mu)
        else:
            seen = area / charge_pe
            excess_deviance += 2 / excess * (seen * (math.log(seen) - log_m) - (seen - mu))
    determinant = a * c - b * b
    if determinant > 0:
        out[2], out[3] = math.sqrt(c / determinant), math.sqrt(a / determinant)
        out[4] = -b / math.sqrt(a * c)
    # two of the sensors' deviances went into the fit
    out[5] = (excess_deviance + 2) / math.sqrt(max(spread, 1e-30))


@njit(cache=True, nogil=True)
def _fit(areas, light, starts, start_log_share, radius, charge, tables, max_steps, everyone, room, out):
    splines, low, step = light
    charge_pe, excess, step_pe, table_pe, least_pe = charge
    sensors, lit, pattern, trial = room
    n, total = 0, 0.0
    for s in range(len(areas)):
        if areas[s] >= least_pe:  # NaN is not
            sensors[n], lit[n] = s, areas[s]
            total += areas[s]
            n += 1
    if n == 0:
        return
    expected = total / charge_pe
    begin = _start(lit, sensors, n, start_log_share)
    x, y = starts[begin, 0], starts[begin, 1]
    state, other = np.empty(5), np.empty(5)
    _read(splines, low, step, x, y, sensors, n, pattern)
    value = _likelihood(
        lit, expected, pattern, n, charge_pe, excess, tables[0], tables[1], step_pe, table_pe, state
    )
    damping = 0.0
    for _ in range(max_steps):
        dx, dy, squared = _move(state, x, y, radius, damping)
        if squared < _CONVERGED:
            break
        tx, ty = x + dx, y + dy
        r = math.sqrt(tx * tx + ty * ty)
        if r > radius:
            tx, ty = tx * radius / r, ty * radius / r
        _read(splines, low, step, tx, ty, sensors, n, trial)
        reached = _likelihood(
            lit, expected, trial, n, charge_pe, excess, tables[0], tables[1], step_pe, table_pe, other
        )
        if reached > value:
            x, y, value = tx, ty, reached
            for i in range(5):
                state[i] = other[i]
            damping *= _LOOSER
        else:
            damping = max(damping, 0.25) * _STIFFER
    out[0], out[1] = x, y
    _quality(areas, expected, x, y, light, everyone, pattern, charge, tables, out)


@njit(cache=True, nogil=True)
def fit(area_pe, live, light, starts, start_log_share, radius, charge, tables, max_steps, least_pe):
    """x, y, their errors, correlation and misfit of each peak; NaN where no light is left on top.

    Args:
        area_pe: [peak, sensor] of all sensors.
        live: channels of the table's sensors.
        light: splines of the log shares [y, x, live] (float32), first node and step [mm].
        starts: [start, 2] mm.
        start_log_share: [start, live], float32.
        radius: mm.
        charge: PE a photon, excess noise factor, step and end of its table, least area of a lit sensor.
        tables: weight, most, saturated, log_mu, information, deviance and its variance of the charge model.
        max_steps: of damped scoring.
        least_pe: on the live top sensors, below which no place is given.
    """
    n = len(live)
    everyone = np.arange(n)
    room = (np.empty(n, np.int64), np.empty(n), np.empty((3, n)), np.empty((3, n)))
    out = np.full((len(area_pe), 6), np.nan)
    areas = np.empty(n)
    for peak in range(len(area_pe)):
        total = 0.0
        for s in range(n):
            areas[s] = area_pe[peak, live[s]]
            total += areas[s]
        if total >= least_pe:
            _fit(
                areas,
                light,
                starts,
                start_log_share,
                radius,
                charge,
                tables,
                max_steps,
                everyone,
                room,
                out[peak],
            )
    return out
