"""What is measured, and how: each module is a command, `make bench` runs them all.

Figures are ratios within one run where that is possible. None of them is a test: a slow machine is
no fault. What was measured is in docs/performance.md.
"""
