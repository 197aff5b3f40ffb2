"""Calibration: which range of each activation the INT8 levels should cover, from real images, on
any machine.
"""
