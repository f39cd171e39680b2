"""Loops over records and hits on the CPU, compiled by numba and kept on disk.

Integers only, but where a comment says why not. One loop a kernel, in the order of the rows: what comes out
does not depend on how the work was cut.
"""
