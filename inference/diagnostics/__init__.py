"""Whether a posterior can be trusted: from arrays and callables alone, whoever made it.

Each module holds one question: its statistic on arrays, with the rate at which it refuses a posterior that is
right, and a `Check` that says so in words. `report.calibrate` asks all of them.
"""
