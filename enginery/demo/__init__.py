"""The demo's inputs: a deterministic detection data set and the training that made the demo's
weights.
"""
