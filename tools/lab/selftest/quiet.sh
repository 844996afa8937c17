# SPDX-License-Identifier: GPL-2.0
# For selftest/run: a test that says nothing.
