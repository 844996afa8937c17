# SPDX-License-Identifier: GPL-2.0
# A front end that misbehaves in every way we know; the back end refuses, stops, leaks nothing.
# timeout: 420
. /payload/tests/hostile_front.inc
