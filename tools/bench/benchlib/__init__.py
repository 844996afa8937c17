# SPDX-License-Identifier: GPL-2.0
"""Benchmarks of the drivers, in the lab.

jobs      what is measured: pairs of drivers, fio's jobs
measure   a boot of the lab that measures, results out of its output
report    the table on the terminal, JSON
svg       bar charts
profile   where the instructions of a request go
symbols   addresses to names
taps      what taps cost
net       the network drivers
pauses    how long a guest had to wait
cli       the command line
"""

import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
BENCH = os.path.dirname(HERE)
TOP = os.path.dirname(os.path.dirname(BENCH))
sys.path.insert(0, os.path.join(TOP, "tools", "lab"))
