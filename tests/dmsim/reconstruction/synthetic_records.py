"""Records made by hand: photoelectrons at known places, without the simulator."""

import jax.numpy as jnp
import numpy as np

from dmsim.reconstruction.acceptance import pulse_integral
from dmsim.records import RawRecords

SAMPLES, DT, BASELINE, NOISE = 110, 10, 16_000, 2.5
PULSE = 20


def records_of(detector, photons, *, n_events=1, seed=1, noise=NOISE, first_event=0, keep=None, threshold=15):
    """Zero-suppressed records of photons given as rows (event, channel, time_ns, charge_pe)."""
    random = np.random.default_rng(seed)
    electronics = detector.electronics
    before, after = electronics.zle_samples_before, electronics.zle_samples_after
    edges = np.arange(PULSE + 1) * DT
    adc_per_pe = np.broadcast_to(np.asarray(electronics.adc_per_pe), detector.light.sensors.n_sensors)
    rows = []
    photons = sorted(photons, key=lambda p: (p[0], p[1], p[2]))
    i = 0
    while i < len(photons):
        event, channel = photons[i][:2]
        j = i
        while (
            j + 1 < len(photons)
            and photons[j + 1][:2] == (event, channel)
            and photons[j + 1][2] // DT - photons[j][2] // DT <= before + PULSE + after
        ):
            j += 1
        start = int(photons[i][2] // DT) - before
        end = int(photons[j][2] // DT) + PULSE + after
        wave = np.zeros(end - start)
        for _, _, time, charge in photons[i : j + 1]:
            sample = int(time // DT)
            share = np.diff(
                pulse_integral(
                    edges - (time - sample * DT),
                    float(electronics.pulse_rise_ns),
                    float(electronics.pulse_decay_ns),
                )
            )
            wave[sample - start : sample - start + PULSE] += charge * float(adc_per_pe[channel]) * share
        adc = np.clip(np.round(BASELINE + noise * random.normal(size=len(wave)) - wave), 0, 2**14 - 1)
        if BASELINE - adc.min() >= threshold:
            for k in range(-(-len(adc) // SAMPLES)):
                part = adc[k * SAMPLES : (k + 1) * SAMPLES]
                rows.append((event, channel, start + k * SAMPLES, len(part), len(adc), k, part))
        i = j + 1
    data = np.zeros((len(rows), SAMPLES), np.float32)
    for i, row in enumerate(rows):
        data[i, : row[3]] = row[6]
    columns = [np.array([row[k] for row in rows], np.int32) for k in range(6)]
    if keep is not None:
        columns, data = [c[keep(*columns)] for c in columns], data[keep(*columns)]
    names = ("event", "channel", "start_sample", "length", "pulse_length", "record_i")
    return RawRecords(
        **dict(zip(names, columns, strict=True)),
        data=data,
        valid=np.ones(len(data), bool),
        n_overflow=np.zeros((), np.int32),
        first_event=np.asarray(first_event),
        event_time_ns=None,
        n_events=n_events,
        sample_ns=DT,
        baseline_adc=BASELINE,
    )


def s1(random, event, time_ns, n_photons, n_sensors=494, top=0.2, n_top=253):
    """Photons of one PE, exponential with 20 ns, a share of them on top."""
    on_top = random.uniform(size=n_photons) < top
    channel = np.where(
        on_top, random.integers(0, n_top, n_photons), random.integers(n_top, n_sensors, n_photons)
    )
    time = time_ns + random.exponential(20.0, n_photons)
    return list(zip([event] * n_photons, channel.tolist(), time.tolist(), [1.0] * n_photons, strict=True))


def s2(random, detector, event, time_ns, n_photons, x_mm=0.0, y_mm=0.0, sigma_ns=2000.0):
    """Photons of one PE, normal in time, with the S2 pattern of the detector."""
    place = jnp.asarray(x_mm, jnp.float32), jnp.asarray(y_mm, jnp.float32)
    share = np.asarray(detector.light.s2_pattern(detector.geometry, *place), np.float64)
    channel = random.choice(len(share), n_photons, p=share / share.sum())
    time = time_ns + sigma_ns * random.normal(size=n_photons)
    return list(zip([event] * n_photons, channel.tolist(), time.tolist(), [1.0] * n_photons, strict=True))
