"""Numbers as the demonstration prints them."""

import math

NOT_CONSTRAINED = "not constrained by this many events"


def rounded(value: float, error: float) -> str:
    """A value with as many decimals as two digits of its error have."""
    if not (math.isfinite(error) and error > 0):
        return f"{value:.5g}"
    digits = 1 - math.floor(math.log10(error))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def significant(value: float, digits: int = 4) -> str:
    """A value that has no error, to so many significant digits."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def fitted_line(p: dict) -> str:
    """One fitted parameter of `summary.summarize`, as the terminal shows it."""
    fitted, error = (rounded(p[name], p["statistical"]) for name in ("fitted", "statistical"))
    true, start = (significant(p[name]) for name in ("true", "start"))
    line = f"{p['label']:<22} {fitted:>8} ± {error} {p['unit']} "
    line += f"(true {true}, start {start}, pull {p['pull']:+.1f})"
    if not p["constrained"]:
        return f"{line} {NOT_CONSTRAINED}"
    return line if p["recovered"] else f"{line} OUTSIDE its tolerance"
